"""Hypervolume of a set of points, and the non-dominated region as boxes; all objectives are to be minimised.

Notation:
    n  points     m  objectives     r  reference point

The hypervolume is the volume of the region between the points and the reference point (Zitzler and Thiele 1998). Points
that do not dominate the reference point, and points with a value that is not finite, add nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import threefry
from jhpo.kernels.order import precedes
from jhpo.kernels.shapes import Array, Float, Key

# Largest number of objectives for which the volume is computed exactly.
EXACT = 4
# Share of the lines below the best value of an objective.
_BELOW = 1.0 / 3.0
# Up to this number of points of two objectives all pairs are compared instead of sorting, which takes ten times as long
# to compile.
_FEW = 128


class Boxes(NamedTuple):
    """Disjoint boxes, one per row; empty ones have a side of length 0."""

    low: jax.Array  # float[b, m], -inf where a box is unbounded
    high: jax.Array  # float[b, m]


def hypervolume(points: Float[Array, "n m"], reference: Float[Array, "m"]) -> Float[Array, ""]:
    """The exact hypervolume ``float[]`` for 1 to 4 objectives: O(n log n), O(n log n), O(n^2) and O(n^3).

    In three and four dimensions the volume is cut into slabs between successive values of the last objective; the
    volume of a slab is that of the points below it in one dimension less.

    Raises:
      ValueError: more than 4 objectives; see `sampled_hypervolume`.

    >>> float(hypervolume(jnp.array([[0.0, 1.0], [1.0, 0.0], [5.0, 5.0]]), jnp.array([2.0, 2.0])))
    3.0
    """
    m = points.shape[1]
    if m > EXACT:
        raise ValueError(f"points: expected at most {EXACT} objectives, got {m}")
    return _volume(_clipped(points, reference), reference)


def _clipped(points: jax.Array, reference: jax.Array) -> jax.Array:
    """The points, with those that add nothing replaced by the reference point."""
    counts = (points < reference[None, :]).all(axis=1) & jnp.isfinite(points).all(axis=1)
    return jnp.where(counts[:, None], points, reference[None, :])


def _volume(points: jax.Array, reference: jax.Array) -> jax.Array:
    """The volume of points that are not beyond the reference point."""
    n, m = points.shape
    if m == 1:
        return reference[0] - jnp.min(points[:, 0], initial=reference[0])
    points = points[jnp.argsort(points[:, -1])]
    edge = jnp.concatenate([points[:, -1], reference[-1:]])
    thick = edge[1:] - edge[:-1]
    if m == 2:
        return jnp.sum(thick * (reference[0] - jax.lax.cummin(points[:, 0])))
    row = jnp.arange(n, dtype=jnp.int32)
    if m == 3:  # sorted once by the first objective: a slab's area needs no further sort
        order = jnp.argsort(points[:, 0])
        x, y, above = points[order, 0], points[order, 1], row[order]
        wide = jnp.concatenate([x[1:], reference[:1]]) - x

        def area(k: jax.Array) -> jax.Array:
            height = reference[1] - jax.lax.cummin(jnp.where(above <= k, y, reference[1]))
            return jnp.sum(wide * height)

        return jnp.sum(thick * jax.lax.map(area, row, batch_size=16))

    def slab(k: jax.Array) -> jax.Array:
        inside = (row <= k)[:, None]
        return _volume(jnp.where(inside, points[:, :-1], reference[None, :-1]), reference[:-1])

    return jnp.sum(thick * jax.lax.map(slab, row))


def sampled_hypervolume(
    points: Float[Array, "n m"], reference: Float[Array, "m"], key: Key[Array, ""], samples: int = 2**16
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """A Monte Carlo estimate for any number of objectives, and its standard error: ``float[]`` each.

    The box between the best value of every objective and the reference point is sampled uniformly, and the fraction
    that some point dominates is counted.

    Args:
      points: ``float[n, m]``.
      reference: ``float[m]``.
      key: ``key[]`` of the samples.
      samples: number of samples, a multiple of 1,024.

    >>> points, reference = jnp.eye(2), jnp.array([2.0, 2.0])
    >>> value, error = sampled_hypervolume(points, reference, jax.random.key(0))
    >>> bool(abs(value - 3.0) < 4 * error), bool(error < 0.01)
    (True, True)
    """
    points = _clipped(points, reference)
    low = jnp.min(points, axis=0)
    side = reference - low
    block = 1024

    def hits(number: jax.Array) -> jax.Array:
        draw = jax.random.uniform(threefry.fold_in(key, number), (block, points.shape[1]), points.dtype)
        at = low[None, :] + draw * side[None, :]
        beaten = jnp.zeros((block, points.shape[0]), bool)
        over = ~beaten
        for k in range(points.shape[1]):
            over = over & (points[:, k][None, :] <= at[:, k][:, None])
        return jnp.sum(jnp.any(over, axis=1), dtype=points.dtype)

    blocks = max(samples // block, 1)
    share = jnp.sum(jax.lax.map(hits, jnp.arange(blocks, dtype=jnp.uint32))) / (blocks * block)
    whole = jnp.prod(side)
    return whole * share, whole * jnp.sqrt(share * (1.0 - share) / (blocks * block))


def open_boxes(points: Float[Array, "n m"], reference: Float[Array, "m"]) -> Boxes:
    """The non-dominated region below the reference point as disjoint boxes, for 1 to 3 objectives.

    One objective gives one box, two give n + 1 strips, three give 2 n + 1 boxes. A new point increases the hypervolume
    by the part of the boxes that it dominates (Yang et al. 2019, "Multi-objective Bayesian global optimization using
    expected hypervolume improvement gradient").

    Raises:
      ValueError: more than 3 objectives; see `open_lines`.

    >>> boxes = open_boxes(jnp.array([[1.0, 1.0]]), jnp.array([2.0, 2.0]))
    >>> boxes.low.tolist(), boxes.high.tolist()
    ([[-inf, -inf], [1.0, -inf]], [[1.0, 2.0], [2.0, 1.0]])
    """
    m = points.shape[1]
    if m > 3:
        raise ValueError(f"points: expected at most 3 objectives, got {m}")
    points = _clipped(points, reference)
    least = jnp.full((1,), -jnp.inf, points.dtype)
    if m == 1:
        return Boxes(least[None], jnp.min(points, axis=0, keepdims=True, initial=jnp.inf))
    if m == 3:
        return _boxes_of_three(points, reference)
    left, right, top = _strips(points, reference)
    low = jnp.stack([left, jnp.full_like(left, -jnp.inf)], axis=1)
    return Boxes(low, jnp.stack([right, top], axis=1))


def _strips(points: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The open region of two objectives in strips along the second, float[n + 1] each: from, to, below what.

    One begins at -inf, the others at the points.
    """
    n = points.shape[0]
    least = jnp.full((1,), -jnp.inf, points.dtype)
    if n > _FEW:
        points = points[jnp.argsort(points[:, 0])]
        right = jnp.concatenate([points[:, 0], reference[:1]])
        top = jnp.concatenate([reference[1:], jax.lax.cummin(points[:, 1])])
        return jnp.concatenate([least, points[:, 0]]), right, top
    x, y = points[:, 0], points[:, 1]
    beyond = precedes(x).T
    right = jnp.min(jnp.where(beyond, x[None, :], reference[0]), axis=1)
    top = jnp.min(jnp.where(beyond, reference[1], y[None, :]), axis=1)
    begin = jnp.min(x, keepdims=True, initial=np.inf)
    return jnp.concatenate([least, x]), jnp.concatenate([begin, right]), jnp.concatenate([reference[1:], top])


def _boxes_of_three(points: jax.Array, reference: jax.Array) -> Boxes:
    """The boxes of points, as a sweep along their last objective meets them.

    The open part of the plane of the other two is a staircase of strips. A point ends the strips that it cuts, and
    begins at most two: what it leaves of the first of them, and one as high as the point for all others.
    """
    n = points.shape[0]
    points = points[jnp.argsort(points[:, 2])]
    low = jnp.full((2 * n + 1, 3), -jnp.inf, points.dtype)
    high = jnp.broadcast_to(reference[None, :], low.shape)
    slot = jnp.arange(2 * n + 1, dtype=jnp.int32)

    def one(
        carry: tuple[jax.Array, jax.Array, jax.Array], at: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        (low, high, growing), (point, i) = carry, at
        cut = growing & (high[:, 0] > point[0]) & (high[:, 1] > point[1])
        first = cut & (low[:, 0] < point[0])
        end = jnp.max(jnp.where(cut, high[:, 0], point[0]))
        begin = jnp.min(jnp.where(first, low[:, 0], point[0]))
        top = jnp.max(jnp.where(first, high[:, 1], point[1]))
        high = high.at[:, 2].set(jnp.where(cut, point[2], high[:, 2]))
        rest, new = 2 * i + 1, 2 * i + 2
        low = low.at[rest].set(jnp.stack([begin, low[rest, 1], point[2]]))
        low = low.at[new].set(jnp.stack([point[0], low[new, 1], point[2]]))
        high = high.at[rest].set(jnp.stack([point[0], top, high[rest, 2]]))
        high = high.at[new].set(jnp.stack([end, point[1], high[new, 2]]))
        growing = growing & ~cut | ((slot == rest) & jnp.any(first)) | ((slot == new) & jnp.any(cut))
        return (low, high, growing), None

    row = jnp.arange(n, dtype=jnp.int32)
    (low, high, _), _ = jax.lax.scan(one, (low, high, slot == 0), (points, row))
    return Boxes(low, high)


class Lines(NamedTuple):
    """Samples of the non-dominated region: lines along the last objective, open up to a point."""

    at: jax.Array  # float[s, m - 1], in the other objectives
    high: jax.Array  # float[s]
    share: jax.Array  # float[s], the volume, in the other objectives, that a line stands for


def open_lines(
    points: Float[Array, "n m"],
    reference: Float[Array, "m"],
    low: Float[Array, "m"],
    uniform: Float[Array, "s k"],
) -> Lines:
    """The non-dominated region below the reference point, sampled in all objectives but the last, for 2 or more.

    In each objective a third of the lines lies below the best value of the points, the others above.

    Args:
      points: ``float[n, m]``.
      reference: ``float[m]``.
      low: ``float[m]``, where the samples begin, below the points; what lies below is left out.
      uniform: ``float[s, m - 1]``, evenly distributed points of the unit cube.

    >>> lines = open_lines(jnp.array([[0.5, 1.0]]), jnp.full(2, 2.5), jnp.zeros(2), jnp.array([[1 / 6], [2 / 3]]))
    >>> [[round(float(x), 3) for x in part.ravel()] for part in (lines.at, lines.high, lines.share)]
    [[0.25, 1.5], [2.5, 1.0], [0.75, 1.5]]
    """
    points = _clipped(points, reference)
    best = jnp.min(points, axis=0)[None, :-1]
    below = jnp.maximum(best - low[None, :-1], 0.0)
    above = reference[None, :-1] - best
    lower = uniform < _BELOW
    at = jnp.where(lower, uniform / _BELOW * below, below + (uniform - _BELOW) / (1.0 - _BELOW) * above)
    at = best - below + at
    side = jnp.where(lower, below / _BELOW, above / (1.0 - _BELOW))
    before = (points[None, :, :-1] <= at[:, None, :]).all(axis=-1)
    high = jnp.min(jnp.where(before, points[None, :, -1], reference[-1]), axis=1)
    return Lines(at, high, jnp.prod(side, axis=1) / uniform.shape[0])
