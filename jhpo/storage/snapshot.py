"""Serialisation of strategy states as msgpack, in the format of flax, checked against a template when read."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.errors import StorageError
from jhpo.keys import is_key, key_of_data
from jhpo.values.packing import pack_arrays, unpack_arrays
from jhpo.values.pytrees import State


class Snapshot(NamedTuple):
    """A stored state of a strategy."""

    units: np.ndarray  # float[n, d], the rows it asked for last
    leaves: list[Any]  # leaves of the state; not trusted before `state` has checked them
    growths: int | None  # how often its buffers had grown; None in snapshots of earlier versions

    def fits(self, template: State) -> bool:
        """Whether the template has the shapes of the stored state."""
        shapes = [np.shape(_raw(leaf)) for leaf in jax.tree.leaves(template)]
        return shapes == [np.shape(leaf) for leaf in self.leaves]

    def state(self, template: State) -> State:
        """The stored state.

        Args:
            template: a state with the structure, shapes and dtypes of the stored one.

        Raises:
            StorageError: the template does not match.
        """
        wanted, treedef = jax.tree.flatten(template)
        if len(wanted) != len(self.leaves):
            raise StorageError("a snapshot has another structure than this strategy's state")
        return jax.tree.unflatten(treedef, [_like(*pair) for pair in zip(wanted, self.leaves)])


def dump_state(state: State, units: np.ndarray, growths: int) -> bytes:
    """The bytes of a snapshot.

    Args:
        state: of the strategy.
        units: ``float[n, d]``, the unit rows that it asked for last.
        growths: how often its buffers have grown.
    """
    leaves = [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(state)]
    return pack_arrays(
        {"units": np.asarray(units), "leaves": {str(i): x for i, x in enumerate(leaves)}, "growths": growths}
    )


def read_snapshot(data: bytes) -> Snapshot:
    """The snapshot from the bytes of `dump_state`.

    Raises:
        StorageError: the bytes are damaged.
    """
    try:
        restored = unpack_arrays(data)
        units, stored, growths = np.asarray(restored["units"]), restored["leaves"], restored.get("growths")
        leaves = [stored[str(i)] for i in range(len(stored))]
    except Exception as error:  # arbitrary bytes may raise anything
        raise StorageError(f"a snapshot is unreadable ({type(error).__name__}: {error})") from error
    if units.ndim != 2 or not (growths is None or type(growths) is int):
        raise StorageError("a snapshot has another structure than this strategy's state")
    return Snapshot(units, leaves, growths)


def _like(leaf: jax.Array, stored: object) -> Any:
    raw = _raw(leaf)
    if not isinstance(stored, np.ndarray) or stored.shape != np.shape(raw) or stored.dtype != raw.dtype:
        got = f"{getattr(stored, 'dtype', type(stored).__name__)}{getattr(stored, 'shape', '')}"
        raise StorageError(f"a snapshot holds {got} where the state has {raw.dtype}{np.shape(raw)}")
    return key_of_data(stored, leaf) if is_key(leaf) else stored


def _raw(leaf: jax.Array) -> jax.Array | jax.ShapeDtypeStruct:
    """A leaf, or the data of a key."""
    return jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
