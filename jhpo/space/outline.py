"""The outline of a space: what unit rows need, as arrays without names, bounds and values. Spaces can share programs.

The functions take one row ``float[d]``; vmap them for more.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jhpo.kernels import threefry
from jhpo.kernels.numerics import held
from jhpo.space.cells import Array, LogCells, log_centre, log_index

# Deviations of priors beyond this are taken for it: the density is even all the same, and float32 tells fewer and fewer
# of the probabilities between the ends of the scale apart.
_WIDEST = 100.0


class LogColumns(NamedTuple):
    """Cells of the coordinates that are logarithmic integers, by exact tables."""

    column: Array  # int32[l], these coordinates
    cells: LogCells  # l of them, stacked


class LogCurves(NamedTuple):
    """Cells of logarithmic integers by formulas, for proposing points: edges are exact up to rounding.

    Cell i of a coordinate lies between ``log(1 + i / low) / span`` and ``log(1 + (i + 1) / low) / span``.
    """

    logarithmic: Array  # bool[d]
    low: Array  # float[d], the lowest value less one half
    span: Array  # float[d], logarithm of the ratio of the outer edges


class Conditions(NamedTuple):
    """The k conditions of a space."""

    parent: Array  # int32[k], coordinate of the parent
    allowed: Array  # bool[k, c], cells of the parent under which the condition holds
    needs: Array  # bool[k, d], coordinates with this condition, descendants included


class Priors(NamedTuple):
    """Truncated normals from which random points are drawn."""

    mean: Array  # float[d]
    deviation: Array  # float[d]
    given: Array  # bool[d], whether the coordinate has a prior; uniform otherwise


class Outline(NamedTuple):
    """A space as arrays. Fields that do not apply are None; columns beyond ``count`` are padding and stay at 0.5."""

    count: Array  # int32[], coordinates of the space
    default: Array  # float[d]
    cells: Array | None  # int32[d], number of values, 0 where continuous
    categorical: Array | None  # bool[d], unordered choices; None where all is continuous
    logs: LogColumns | LogCurves | None
    conditions: Conditions | None
    priors: Priors | None

    @property
    def dim(self) -> int:
        """Number of columns, padding included."""
        return len(self.default)

    @property
    def live(self) -> Array:
        """bool[d]: the columns that belong to the space."""
        return np.arange(self.dim, dtype=np.int32) < self.count


def cell_index(outline: Outline, unit: jax.Array) -> jax.Array:
    """Cells ``int32[d]`` of a row ``float[d]``, 0 where continuous; `cells.index_of` of all coordinates."""
    if outline.cells is None:
        return jnp.zeros(unit.shape, jnp.int32)
    unit = jnp.clip(unit, 0.0, 1.0).astype(jnp.float32)
    cells = jnp.maximum(jnp.asarray(outline.cells), 1).astype(jnp.float32)
    place = unit * cells
    if isinstance(outline.logs, LogCurves):
        low, span = (jnp.asarray(x, jnp.float32) for x in outline.logs[1:])
        place = jnp.where(jnp.asarray(outline.logs.logarithmic), low * jnp.expm1(unit * span), place)
    index = jnp.minimum(jnp.floor(place), cells - np.float32(1)).astype(jnp.int32)
    if not isinstance(outline.logs, LogColumns):
        return index
    columns, logs = jnp.asarray(outline.logs.column), jax.tree.map(jnp.asarray, outline.logs.cells)
    own = jax.vmap(lambda cells, u: log_index(cells, u, jnp))(logs, unit[columns])
    return index.at[columns].set(own)


def cell_centre(outline: Outline, index: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Centres ``float[d]`` of cells ``int32[d]``, 0.5 where continuous; `cells.centre_of` of all coordinates."""
    if outline.cells is None:
        return jnp.full(index.shape, 0.5, dtype)
    cells = jnp.maximum(jnp.asarray(outline.cells), 1)
    index = jnp.clip(index, 0, cells - 1)
    centre = (index.astype(dtype) + jnp.asarray(0.5, dtype)) / cells.astype(dtype)
    if isinstance(outline.logs, LogCurves):
        low, span = (jnp.asarray(x, dtype) for x in outline.logs[1:])
        edges = jnp.log1p(index.astype(dtype) / low) + jnp.log1p((index + 1).astype(dtype) / low)
        return jnp.where(jnp.asarray(outline.logs.logarithmic), 0.5 * edges / span, centre)
    if outline.logs is None:
        return centre
    columns, logs = jnp.asarray(outline.logs.column), jax.tree.map(jnp.asarray, outline.logs.cells)
    own = jax.vmap(lambda cells, i: log_centre(cells, i, dtype, jnp))(logs, index[columns])
    return centre.at[columns].set(own)


def snap(outline: Outline, unit: jax.Array, inside: bool = False) -> jax.Array:
    """The row with discrete coordinates at cell centres and continuous ones clipped, with derivative 1, to [0, 1].

    ``inside``: they are known to lie there.
    """
    clipped = unit if inside else held(unit, 0.0, 1.0)
    if outline.cells is None:
        return clipped
    discrete = jnp.asarray(outline.cells) > 0
    return jnp.where(discrete, cell_centre(outline, cell_index(outline, unit), unit.dtype), clipped)


def active(outline: Outline, unit: jax.Array) -> jax.Array:
    """``bool[d]``: whether all conditions of the coordinate and of its parents hold."""
    if outline.conditions is None:
        return jnp.ones((outline.dim,), bool)
    parent, allowed, needs = map(jnp.asarray, outline.conditions)
    index = cell_index(outline, unit)[parent]
    holds = jnp.take_along_axis(allowed, index[:, None], axis=1)
    return ~(needs & ~holds).any(axis=0)


def canonical(outline: Outline, unit: jax.Array, inside: bool = False) -> jax.Array:
    """The snapped row with inactive coordinates at their default; ``inside``: see `snap`."""
    snapped = snap(outline, unit, inside)
    kept: jax.Array | None = (
        None if isinstance(outline.count, np.ndarray) and outline.live.all() else jnp.asarray(outline.live)
    )
    if outline.conditions is not None:
        on = active(outline, unit)
        kept = on if kept is None else kept & on
    return snapped if kept is None else jnp.where(kept, snapped, jnp.asarray(outline.default, unit.dtype))


def draw(outline: Outline, key: jax.Array, n: int, dtype: DTypeLike) -> jax.Array:
    """``float[n, d]``: independent random points, uniform or from the priors, not snapped."""
    uniform = _uniform(key, (n, outline.dim), dtype)
    if outline.priors is None:
        return uniform
    mean, deviation = (jnp.asarray(x, dtype)[None] for x in (outline.priors.mean, outline.priors.deviation))
    deviation = jnp.minimum(deviation, jnp.asarray(_WIDEST, dtype))
    cdf = lambda x: jax.scipy.stats.norm.cdf((x - mean) / deviation)  # noqa: E731
    a, b = cdf(jnp.zeros((), dtype)), cdf(jnp.ones((), dtype))
    normal = jnp.clip(mean + deviation * jax.scipy.stats.norm.ppf(a + uniform * (b - a)), 0.0, 1.0)
    return jnp.where(jnp.asarray(outline.priors.given)[None], normal, uniform)


def _uniform(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """``dtype[shape]`` in [0, 1): in float32 multiples of 2^-24, where `jax.random.uniform` has multiples of 2^-23."""
    if jnp.dtype(dtype).itemsize > 4:
        return jax.random.uniform(key, shape, dtype)
    bits = threefry.bits(key, shape) >> jnp.uint32(8)
    return bits.astype(dtype) * jnp.asarray(2.0**-24, dtype)
