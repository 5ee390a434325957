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

from jhpo.kernels.shapes import Array, Float, Key

# Largest number of objectives for which the volume is computed exactly.
EXACT = 4


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
        draw = jax.random.uniform(jax.random.fold_in(key, number), (block, points.shape[1]), points.dtype)
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

    One objective gives one box, two give n + 1 strips, three give (n + 1)^2 boxes (strips for every slab of the last
    objective). A new point increases the hypervolume by the part of the boxes that it dominates (Yang et al. 2019,
    "Multi-objective Bayesian global optimization using expected hypervolume improvement gradient").

    Raises:
      ValueError: more than 3 objectives.

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
    points = points[jnp.argsort(points[:, 0])]
    left = jnp.concatenate([least, points[:, 0]])
    right = jnp.concatenate([points[:, 0], reference[:1]])

    def strips(height: jax.Array) -> jax.Array:
        """Upper ends of the n + 1 strips in the second objective, from the values of the points."""
        return jnp.concatenate([reference[1:2], jax.lax.cummin(jnp.minimum(height, reference[1]))])

    if m == 2:
        low = jnp.stack([left, jnp.full_like(left, -jnp.inf)], axis=1)
        return Boxes(low, jnp.stack([right, strips(points[:, 1])], axis=1))
    depth = jnp.sort(points[:, 2])
    near, far = jnp.concatenate([least, depth]), jnp.concatenate([depth, reference[2:]])
    # the points of a slab: those not beyond its near side
    inside = points[:, 2][None, :] <= near[:, None]
    top = jax.vmap(strips)(jnp.where(inside, points[:, 1][None, :], jnp.inf))  # [slabs, strips]
    shape = top.shape
    across = lambda x: jnp.broadcast_to(x[None, :], shape)  # noqa: E731
    along = lambda x: jnp.broadcast_to(x[:, None], shape)  # noqa: E731
    low = jnp.stack([across(left), jnp.full(shape, -jnp.inf, top.dtype), along(near)], axis=-1)
    high = jnp.stack([across(right), top, along(far)], axis=-1)
    return Boxes(low.reshape(-1, 3), high.reshape(-1, 3))
