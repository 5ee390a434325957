"""Strategy states as msgpack through `flax.serialization`: numbers and arrays only, checked against a template."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jhpo.errors import StorageError
from jhpo.keys import key_of_data


def dump_state(state: Any, units: np.ndarray) -> bytes:
    """A strategy's state, and the unit rows ``float[n, d]`` it asked for last."""
    from flax import serialization  # flax takes half a second to import: only those who store pay

    leaves = [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(state)]
    data = {"units": np.asarray(units), "leaves": {str(i): x for i, x in enumerate(leaves)}}
    return serialization.msgpack_serialize(data)


def load_state(template: Any, data: bytes) -> tuple[Any, np.ndarray]:
    """The state and the rows that `dump_state` wrote.

    Args:
        template: a state of the same structure; its shapes and dtypes must be those of the stored one.

    Raises:
        StorageError: the bytes are damaged or belong to another structure.
    """
    from flax import serialization

    try:
        restored = serialization.msgpack_restore(data)
        units, stored = np.asarray(restored["units"]), restored["leaves"]
    except Exception as error:  # the bytes may be anything, and so may be what goes wrong
        raise StorageError(f"a snapshot is unreadable ({type(error).__name__}: {error})") from error
    wanted, treedef = jax.tree.flatten(template)
    if not isinstance(stored, dict) or set(stored) != {str(i) for i in range(len(wanted))} or units.ndim != 2:
        raise StorageError("a snapshot has another structure than this strategy's state")
    return jax.tree.unflatten(treedef, [_like(leaf, stored[str(i)]) for i, leaf in enumerate(wanted)]), units


def _like(leaf: Any, stored: Any) -> Any:
    raw = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    if not isinstance(stored, np.ndarray) or stored.shape != np.shape(raw) or stored.dtype != raw.dtype:
        got = f"{getattr(stored, 'dtype', type(stored).__name__)}{getattr(stored, 'shape', '')}"
        raise StorageError(f"a snapshot holds {got} where the state has {raw.dtype}{np.shape(raw)}")
    return key_of_data(stored, leaf) if _is_key(leaf) else stored


def _is_key(leaf: Any) -> bool:
    return bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))
