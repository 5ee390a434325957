"""States of paused members in the memory of the host, where the device has no room for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.keys import is_key, key_of_data
from jhpo.training.trainable import State


class _Key(NamedTuple):
    """Random keys on the host."""

    data: np.ndarray
    like: jax.ShapeDtypeStruct  # their abstract value


def to_host(states: State) -> State:
    """A tree of arrays as NumPy arrays, random keys among them."""

    def move(x: jax.Array) -> _Key | np.ndarray:
        if is_key(x):
            return _Key(np.asarray(jax.random.key_data(x)), jax.ShapeDtypeStruct(x.shape, x.dtype))
        return np.asarray(x)

    return jax.tree.map(move, states)


def taken_on_host(pieces: Sequence[State], places: np.ndarray, replicates: int) -> State:
    """States of some members, ``int[m]`` counted through several chunks of `to_host`; ``[m * replicates, ...]``."""
    rows = (places[:, None] * replicates + np.arange(replicates)).reshape(-1)

    def take(*xs: Any) -> Any:
        if isinstance(xs[0], _Key):
            return key_of_data(take(*(x.data for x in xs)), xs[0].like)
        ends = np.cumsum([len(x) for x in xs])
        piece = np.searchsorted(ends, rows, side="right")
        out = np.empty((len(rows), *xs[0].shape[1:]), xs[0].dtype)
        for k in np.unique(piece).tolist():
            mine = piece == k
            out[mine] = xs[k][rows[mine] - (ends[k] - len(xs[k]))]
        return out

    return jax.tree.map(take, *pieces, is_leaf=lambda x: isinstance(x, _Key))
