"""Counting and enumerating the points of a finite space."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidSpace, invalid
from jhpo.process.switches import with_transfers
from jhpo.space.cells import centre_of
from jhpo.space.codec import constraints_of
from jhpo.space.layout import Layout

# Spaces with at most this many cells are enumerated to count their distinct points exactly.
MAX_ENUMERATED = 100_000


def cardinality(space: Layout) -> float:
    """See `Space.cardinality`."""
    if (space.cells == 0).any():
        return math.inf
    total = math.prod(int(c) for c in space.cells)
    return float(total if total > MAX_ENUMERATED else len(points(space)))


@with_transfers
def points(space: Layout) -> np.ndarray:
    """See `Space.enumerate`."""
    total = math.prod(int(c) for c in space.cells)
    if not 0 < total <= MAX_ENUMERATED:
        raise invalid("space", f"a finite space of at most {MAX_ENUMERATED} points", space, InvalidSpace)
    index = np.stack(np.unravel_index(np.arange(total), tuple(int(c) for c in space.cells)), axis=-1)
    units = np.unique(canonical_cells(space, index.astype(np.int32), np.dtype(jnp.result_type(float))), axis=0)
    if not space.constraints:
        return units
    with jax.ensure_compile_time_eval():  # this may run during tracing
        values = constraints_of(space, jnp.asarray(units))
        return units[np.asarray((values >= 0).all(axis=-1))]


def canonical_cells(space: Layout, index: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Canonical points ``dtype[n, d]`` of cells ``int32[n, d]``: centres, inactive coordinates at their default."""
    units = np.empty(index.shape, dtype)
    on: dict[int, np.ndarray] = {}
    for i in space.order:
        state = np.ones(len(index), bool)
        for parent, table in space.conditions[i]:
            state &= on[parent] & np.asarray(table)[index[:, space.slices[parent].start]]
        on[i], where = state, space.slices[i]
        centres = centre_of(space.parameters[i], index[:, where], dtype, np)
        units[:, where] = np.where(state[:, None], centres, space.default[where].astype(dtype)[None])
    return units
