"""Traced programs on disk, beside JAX's persistent compilation cache: a later process need not trace them again.

JAX looks for a compiled program under the lowered one. A process that finds it there has traced and lowered it first,
which takes most of the first answer of a Bayesian search. Here the lowered program (StableHLO) is found under
all that a trace depends on: the sources of jhpo, the versions, JAX's configuration in this thread, and the structure,
shapes and dtypes of the arguments. Whatever of that is not known by its content is traced as ever. A constant of a
module that a program changes while it runs is not seen.

Only after `jhpo.use_compilation_cache`, and for the CPU: that is where host-driven searches are computed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import platform
import sys
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from jhpo.kernels import internals
from jhpo.process.lifetimes import Through, Trace
from jhpo.process.switches import config
from jhpo.programs.devices import default_devices
from jhpo.values.pytrees import Structure, Tree
from jhpo.version import IMPORTED, __version__

logger = logging.getLogger("jhpo.programs.kept")
MOST_FILES = 64  # files, the last used ones; one is about 100 KB
_PLAIN = (type(None), bool, int, float, str)
_on = False


def keep_from_now_on() -> None:
    """Called by `jhpo.use_compilation_cache`."""
    global _on
    _on = True


def kept(like: Callable[..., Tree]) -> Through:
    """What the traces of a function go through, see `jhpo.process.lifetimes.Programs`.

    Args:
      like: a function of the program's arguments that returns a tree with the structure of its results. What is kept of
        a program with other results is not used.
    """

    def through(trace: Trace, name: str, treedef: Structure, leaves: list[Any]) -> tuple[list[Any], Structure]:
        path = file_of(name, treedef, leaves)
        if path is None:
            return trace(leaves)
        args, kwargs = jax.tree.unflatten(treedef, leaves)
        output: Structure = jax.tree.structure(like(*args, **kwargs))
        found = _read(path, described(output))
        if found is not None:
            return internals.call_lowered(found, leaves), output
        return _traced(trace, path, name, leaves)

    return through


def _traced(trace: Trace, path: Path, name: str, leaves: list[Any]) -> tuple[list[Any], Structure]:
    """Trace and store; this process too compiles what the next one finds, so that JAX's cache knows it."""
    outputs: list[Structure] = []

    def alone(leaves: list[Any]) -> list[Any]:
        flat, output = trace(leaves)
        outputs.append(output)
        return flat

    alone.__name__ = alone.__qualname__ = name
    try:
        program = internals.lowered(alone, leaves, "cpu")
    except ValueError as error:  # an error of the trace itself comes again
        logger.warning("%s cannot be kept: %s", name, error)
        return trace(leaves)
    if (output := described(outputs[-1])) is not None:
        results = [[list(x.shape), str(x.dtype)] for x in program.results]
        _write(path, {"output": output, "results": results}, program.module)
    return internals.call_lowered(program, leaves), outputs[-1]


def _read(path: Path, output: str | None) -> internals.Lowered | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s cannot be used: %s", path, error)
        return None
    with contextlib.suppress(OSError):  # a folder that may only be read
        os.utime(path)
    digest, content = data[:32], data[32:]
    if hashlib.sha256(content).digest() != digest:
        logger.warning("%s is damaged, and made anew", path)
        return None
    head, _, module = content.partition(b"\n")
    facts = json.loads(head)
    if facts["output"] != output:
        return None
    results = tuple(jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype)) for shape, dtype in facts["results"])
    logger.debug("%s is used instead of a trace", path)
    return internals.Lowered(zlib.decompress(module), results)


def _write(path: Path, facts: dict[str, Any], module: bytes) -> None:
    content = json.dumps(facts).encode() + b"\n" + zlib.compress(module, 1)
    draft = path.with_suffix(f".{uuid.uuid4().hex}")  # other processes may do the same
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(hashlib.sha256(content).digest() + content)
        draft.replace(path)
        files = sorted((file.stat().st_mtime, file) for file in path.parent.glob("jhpo-*"))
        for _, file in files[:-MOST_FILES]:
            file.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s cannot be kept: %s", path, error)


def file_of(name: str, treedef: Structure, leaves: list[Any]) -> Path | None:
    """The file of a program; None where it is not to be kept."""
    folder = config.jax_compilation_cache_dir
    if not _on or not folder or not config.jax_enable_compilation_cache or "://" in str(folder):
        return None
    if default_devices()[0].platform != "cpu" or not jax.sharding.get_abstract_mesh().empty:
        return None
    structure, digest, settings = described(treedef), sources(), repr(sorted(internals.settings().items()))
    extended = any(jnp.issubdtype(x.dtype, jax.dtypes.extended) for x in leaves)
    if structure is None or digest is None or extended or " at 0x" in settings:
        logger.debug("%s is traced: something in it is not known by its content", name)
        return None
    versions = (__version__, jax.__version__, jaxlib.__version__, np.__version__, *sys.version_info[:2])
    shapes = [(x.shape, str(x.dtype), internals.is_weak(x)) for x in leaves]
    known = (name, structure, shapes, digest, settings, versions, platform.machine())
    return Path(folder) / f"jhpo-{name}-{hashlib.sha256(repr(known).encode()).hexdigest()}.traced"


def described(structure: Structure) -> str | None:
    """A structure of jhpo's classes and Python's containers by its content; None if there is anything else in it.

    >>> described(jax.tree.structure((1, None)))
    "builtins.tuple None ['*', '-']"
    >>> print(described(jax.tree.structure(jax.tree_util.Partial(abs))))
    None
    """
    node = structure.node_data()
    if node is None:
        return "*"
    cls, static = node
    if cls is type(None):
        return "-"
    parts = [described(child) for child in structure.children()]
    if cls.__module__.partition(".")[0] not in ("builtins", "jhpo") or not _is_plain(static) or None in parts:
        return None
    return f"{cls.__module__}.{cls.__qualname__} {static!r} {parts}"


def _is_plain(static: object) -> bool:
    if type(static) in (tuple, list):
        return all(_is_plain(x) for x in static)  # type: ignore[attr-defined]
    return type(static) in _PLAIN


@functools.cache
def sources() -> str | None:
    """A digest of jhpo's sources; None where there are none, or where they have changed since the import."""
    folders = Path(__file__).parent, Path(internals.__file__).parent
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    if not files or max(file.stat().st_mtime for file in files) >= IMPORTED:
        return None
    whole = hashlib.sha256()
    for file in files:
        text = file.read_bytes()
        whole.update(f"{file.name} {len(text)}\n".encode())
        whole.update(text)
    return whole.hexdigest()
