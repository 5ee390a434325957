"""Checkpoints of states on a disk: by orbax where it is installed, otherwise in the format of `flax.serialization`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jhpo.errors import MissingExtra, StorageError, invalid
from jhpo.keys import is_key, key_of_data
from jhpo.process.switches import with_transfers
from jhpo.training.data import check_held
from jhpo.training.values import hold, is_integer, is_number, pack, release
from jhpo.values.packing import pack_arrays, unpack_arrays
from jhpo.values.pytrees import State

FORMATS = ("orbax", "msgpack")
_FILE, _FOLDER = "states.msgpack", "states"  # inside of the checkpoint's folder


@with_transfers
def save_states(path: str | os.PathLike[str], states: State, *, format: str | None = None) -> Path:
    """Write a state, or any pytree of arrays, as a checkpoint; `load_states` reads it.

    Args:
      path: a folder, which is made. One that holds a checkpoint already is refused.
      states: arrays, numbers and typed random keys; functions and strings in it are not stored.
      format: "orbax", "msgpack" (that of `flax.serialization`), or None for orbax where it is installed.

    Returns:
      The folder.

    Raises:
      InvalidArgument: an unknown format, or numbers of NumPy that JAX does not hold without jax_enable_x64.
      MissingExtra: orbax was asked for and is not installed.
      StorageError: the folder holds a checkpoint already, or cannot be written.

    >>> import tempfile, jax.numpy as jnp
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save_states(folder + "/best", {"w": jnp.arange(3.0)}, format="msgpack")
    ...     load_states(path, {"w": jnp.zeros(3)})["w"].tolist()
    [0.0, 1.0, 2.0]
    """
    if format is not None and format not in FORMATS:
        raise invalid("format", f"one of {FORMATS}, or None", format)
    installed = importlib.util.find_spec("orbax") is not None
    if format == "orbax" and not installed:
        raise MissingExtra("format='orbax' needs orbax: pip install orbax-checkpoint")
    folder = Path(path).resolve()
    if (folder / _FILE).exists() or (folder / _FOLDER).exists():
        raise StorageError(f"{folder} holds a checkpoint already: name another folder")
    for leaf in jax.tree.leaves(states):
        if isinstance(leaf, (np.ndarray, np.generic, int)):
            check_held("states", np.asarray(leaf))
    data = _as_data(states)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(x.size for x in data) and (format == "orbax" or (format is None and installed)):
            _save_by_orbax(folder / _FOLDER, data)
        else:
            write_whole(folder / _FILE, pack_arrays({str(k): np.asarray(x) for k, x in enumerate(data)}))
    except OSError as error:
        raise StorageError(f"cannot write a checkpoint in {folder}: {error.strerror or error}") from error
    return folder


@with_transfers
def load_states(path: str | os.PathLike[str], like: State) -> State:
    """The state in a checkpoint of `save_states`.

    Args:
      path: the folder.
      like: a state of the same structure, shapes and dtypes, such as ``jax.eval_shape(task.init, hp, key)``; what is
        not stored (functions, strings) is taken from it.

    Raises:
      StorageError: no checkpoint, a damaged one, or one of another structure.
    """
    folder = Path(path).resolve()
    packed = hold(like, lambda x: not (is_number(x) or is_integer(x) or isinstance(x, jax.ShapeDtypeStruct)), "like")
    wanted = jax.eval_shape(_as_data, packed)
    if (folder / _FILE).exists():
        found = _load_by_msgpack(folder / _FILE)
    elif (folder / _FOLDER).exists():
        found = _load_by_orbax(folder / _FOLDER, wanted)
    else:
        raise StorageError(f"{folder} holds no checkpoint")
    if len(found) != len(wanted):
        raise StorageError(
            f"the checkpoint in {folder} has {len(found)} arrays, and the state to be read {len(wanted)}"
        )
    for number, (array, shape) in enumerate(zip(found, wanted)):
        if array.shape != shape.shape or array.dtype != shape.dtype:
            raise StorageError(
                f"the checkpoint in {folder} is of another model: array {number} is {array.dtype}{list(array.shape)}, "
                f"expected {shape.dtype}{list(shape.shape)}"
            )
    leaves, treedef = jax.tree.flatten(packed)
    made = [
        key_of_data(array, leaf) if is_key(leaf) else jax.numpy.asarray(array) for array, leaf in zip(found, leaves)
    ]
    return release(jax.tree.unflatten(treedef, made))


def _as_data(states: State) -> list[Any]:
    """Leaves as arrays of numbers; the structure is known to who reads."""
    return [jax.random.key_data(x) if is_key(x) else jax.numpy.asarray(x) for x in jax.tree.leaves(pack(states))]


def write_whole(file: Path, data: bytes) -> None:
    """Write a file of which whoever reads never sees a half.

    Raises:
      StorageError: it cannot be written.
    """
    part = file.with_suffix(".part")
    try:
        part.write_bytes(data)
        part.replace(file)
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror or error}") from error


def _load_by_msgpack(file: Path) -> list[Any]:
    try:
        found = unpack_arrays(file.read_bytes())
        return [found[str(k)] for k in range(len(found))]
    except Exception as error:
        raise StorageError(f"the checkpoint {file} is damaged: {error}") from error


def _save_by_orbax(folder: Path, data: list[Any]) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, {str(k): x for k, x in enumerate(data) if x.size})  # it refuses empty arrays


def _load_by_orbax(folder: Path, wanted: list[Any]) -> list[Any]:
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise MissingExtra(f"the checkpoint {folder} was written by orbax: pip install orbax-checkpoint") from error
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.restore(folder, {str(k): x for k, x in enumerate(wanted) if x.size})
    except (ValueError, KeyError, OSError) as error:
        raise StorageError(f"the checkpoint {folder} is damaged, or of another model: {error}") from error
    return [found[str(k)] if x.size else np.zeros(x.shape, x.dtype) for k, x in enumerate(wanted)]
