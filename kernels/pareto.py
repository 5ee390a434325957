"""Non-dominated ranks and crowding distances, without comparing all pairs if there are many points.

Notation:
    n  points     m  objectives, all to be minimised     front 0: points that no other dominates; front k: points that
    none dominates after removing the fronts before

A point dominates another if it is no worse in any objective and better in one (Deb et al. 2002, "A fast and elitist
multiobjective genetic algorithm: NSGA-II"). Points with equal values do not dominate each other: they share a front.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import staircase
from jhpo.kernels.order import inverse, lexsort, precedes
from jhpo.kernels.shapes import Array, Bool, Float, Int
from jhpo.kernels.staircase import peel

# Up to this number of points all pairs are compared to find fronts.
PAIRS = 256
# Up to this number all pairs are compared instead of sorting, too: as fast, and a sort with what surrounds it takes ten
# times as long to compile.
_FEW = 64
# Number of points per block of comparisons.
_BLOCK = 128


def dominates(a: Float[Array, "p m"], b: Float[Array, "q m"]) -> Bool[Array, "p q"]:
    """``bool[p, q]``: whether each row of ``a`` dominates each row of ``b``.

    >>> dominates(jnp.array([[0.0, 1.0]]), jnp.array([[0.0, 2.0], [0.0, 1.0], [-1.0, 3.0]])).tolist()
    [[True, False, False]]
    """
    never, once = jnp.ones((a.shape[0], b.shape[0]), bool), jnp.zeros((a.shape[0], b.shape[0]), bool)
    for k in range(a.shape[1]):
        mine, other = a[:, k][:, None], b[:, k][None, :]
        never, once = never & (mine <= other), once | (mine < other)
    return never & once


def ranks(
    values: Float[Array, "n m"], violation: Float[Array, "n"] | None = None, enough: int | None = None
) -> Int[Array, "n"]:
    """``int32[n]``: the front of every point; with violations by constraint dominance (Deb et al. 2002, sec. VI).

    Two objectives take a sort and one sequential pass, O(n log n), see `staircase`. With more objectives, blocks of
    points are compared with the fronts so far.

    Args:
      values: a point with a value that is not finite has failed.
      violation: 0 for feasible points; infeasible ones rank behind all feasible ones by violation; inf for failed ones.
      enough: stop after the front with which this number of feasible points is ranked; None finds every front.

    Returns:
      0, 1, 2, ... for the fronts of feasible points, n for feasible ones of later fronts, n + 1 and more for the
      infeasible, and 2 n + 1 for the failed ones.

    >>> ranks(jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, jnp.nan]])).tolist()
    [0, 0, 1, 9]
    >>> ranks(jnp.array([[0.0], [1.0], [2.0]]), jnp.array([0.5, 0.0, 0.2])).tolist()
    [5, 0, 4]
    """
    n = values.shape[0]
    there = jnp.isfinite(values).all(axis=1)
    if violation is not None:
        there = there & jnp.isfinite(violation)
    feasible = there if violation is None else there & (violation <= 0)
    found = _fronts(values, feasible, n if enough is None else min(enough, n))
    if violation is not None:
        behind = n + 1 + _dense(jnp.where(there & ~feasible, violation, jnp.inf))
        found = jnp.where(feasible, found, behind)
    return jnp.where(there, found, 2 * n + 1).astype(jnp.int32)


def first_front(values: Float[Array, "n m"]) -> Bool[Array, "n"]:
    """``bool[n]``: the points that no other dominates; not those with a value that is not finite.

    >>> first_front(jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [-1.0, jnp.inf]])).tolist()
    [True, True, False, False]
    """
    if values.shape[0] > PAIRS:
        return ranks(values, enough=1) == 0
    there = jnp.isfinite(values).all(axis=1)
    return there & ~jnp.any(dominates(values, values) & there[:, None], axis=0)


def _fronts(values: jax.Array, alive: jax.Array, enough: int) -> jax.Array:
    """int32[n]: fronts of the points alive, n for points that are not ranked."""
    n, m = values.shape
    if m == 1:
        return jnp.where(alive, _dense(jnp.where(alive, values[:, 0], jnp.inf)), n)
    if n <= PAIRS:
        return _by_pairs(values, alive, enough)
    return staircase.ranks(values, alive, enough) if m == 2 else _by_blocks(values, alive, enough)


def _dense(value: jax.Array) -> jax.Array:
    """int32[n]: dense ranks, 0 for the lowest value, the same for equal values."""
    if value.shape[0] <= _FEW:
        new = ~jnp.any(jnp.tril(value[:, None] == value[None, :], -1), axis=1)  # the first of equal values
        return jnp.sum((value[None, :] < value[:, None]) & new[None, :], axis=1, dtype=jnp.int32)
    order = lexsort((value,))
    ordered = value[order]
    new = jnp.concatenate([jnp.zeros((1,), bool), ordered[1:] > ordered[:-1]])
    return jnp.cumsum(new, dtype=jnp.int32)[inverse(order)]


def _by_pairs(values: jax.Array, alive: jax.Array, enough: int) -> jax.Array:
    better = dominates(values, values)
    n = values.shape[0]
    return peel(values, alive, enough, n, lambda alive: alive & ~jnp.any(better & alive[:, None], axis=0))[0]


def _by_blocks(values: jax.Array, alive: jax.Array, enough: int) -> jax.Array:
    """Fronts of any number of objectives: only earlier points in lexicographic order can dominate a point."""
    n, m = values.shape
    values = jnp.where(alive[:, None], values, jnp.inf)
    order = lexsort([values[:, k] for k in range(m)][::-1])
    rows = -(-n // _BLOCK)
    pad = rows * _BLOCK - n
    points = jnp.pad(values[order], [(0, pad), (0, 0)], constant_values=jnp.inf)

    def front_of(alive: jax.Array) -> jax.Array:
        def block(
            b: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            front, members, count = carry
            mine = jax.lax.dynamic_slice_in_dim(points, b * _BLOCK, _BLOCK)
            there = jax.lax.dynamic_slice_in_dim(padded, b * _BLOCK, _BLOCK)

            def compare(j: jax.Array, beaten: jax.Array) -> jax.Array:
                others = jax.lax.dynamic_slice_in_dim(members, j * _BLOCK, _BLOCK)
                return beaten | jnp.any(dominates(others, mine), axis=0)

            trips = jnp.where(jnp.any(there), (count + _BLOCK - 1) // _BLOCK, 0)
            beaten = jnp.any(dominates(mine, mine) & there[:, None], axis=0)
            new = there & ~jax.lax.fori_loop(0, trips, compare, beaten)
            at = jnp.where(new, count + jnp.cumsum(new, dtype=jnp.int32) - 1, rows * _BLOCK)
            members = members.at[at].set(mine, mode="drop")
            front = jax.lax.dynamic_update_slice_in_dim(front, new, b * _BLOCK, 0)
            return front, members, count + jnp.sum(new, dtype=jnp.int32)

        padded = jnp.pad(alive, (0, pad))
        begin = (jnp.zeros_like(padded), jnp.full_like(points, jnp.inf), jnp.int32(0))
        return jax.lax.fori_loop(0, rows, block, begin)[0][:n]

    return peel(values, alive[order], enough, n, front_of)[0][inverse(order)]


def crowding(values: Float[Array, "n m"], rank: Int[Array, "n"]) -> Float[Array, "n"]:
    """``float[n]``: crowding distances, the distance between a point's neighbours in its front, summed over objectives.

    In units of the front's extent, infinite for the first and the last point of an objective (Deb et al. 2002, sec.
    III-B). Objectives without extent are ignored.

    Args:
      values: finite for ranked points.
      rank: from `ranks`.

    >>> crowding(jnp.array([[0.0, 1.0], [0.2, 0.5], [1.0, 0.0]]), jnp.zeros(3, jnp.int32)).tolist()
    [inf, 2.0, inf]
    """
    n, m = values.shape
    values = jnp.where(jnp.isfinite(values), values, 0.0)
    if n <= _FEW:
        return _crowding_by_pairs(values, rank)
    total = jnp.zeros((n,), values.dtype)
    row = jnp.arange(n, dtype=jnp.int32)
    for k in range(m if m != 2 else 1):
        order = lexsort((values[:, k], rank), (None, 2 * n + 2))
        group = rank[order]
        first = jnp.concatenate([jnp.ones((1,), bool), group[1:] != group[:-1]])
        last = jnp.concatenate([first[1:], jnp.ones((1,), bool)])
        low = jax.lax.cummax(jnp.where(first, row, 0))
        high = jax.lax.cummin(jnp.where(last, row, n - 1), reverse=True)
        gap = jnp.zeros((n,), values.dtype)
        # along a front of two objectives the second decreases as the first increases: one order serves both
        for column in (values[order, k], values[order, 1]) if m == 2 else (values[order, k],):
            extent = jnp.abs(column[high] - column[low])
            between = jnp.abs(jnp.roll(column, -1) - jnp.roll(column, 1))
            gap = gap + jnp.where(extent > 0, between / jnp.where(extent > 0, extent, 1.0), 0.0)
        gap = jnp.where(first | last, jnp.inf, gap)
        total = total + gap[inverse(order)]
    return total


def _crowding_by_pairs(values: jax.Array, rank: jax.Array) -> jax.Array:
    """`crowding` of a few points, whose neighbours are found by comparing all pairs."""
    n, m = values.shape
    mine, other = values.T[:, :, None], values.T[:, None, :]  # [m, n, 1], [m, 1, n]
    below = precedes(values.T)
    if m == 2:  # along a front the second value decreases as the first increases, also where points are equal
        below = jnp.stack([below[0], ~precedes(-values[:, 1])])
    group = ((rank[:, None] == rank[None, :]) & ~np.eye(n, dtype=bool))[None]
    low = jnp.max(jnp.where(group & below, other, -jnp.inf), axis=2)
    high = jnp.min(jnp.where(group & ~below, other, jnp.inf), axis=2)
    first, last = low == -jnp.inf, high == jnp.inf
    extent = jnp.max(jnp.where(group, other, mine), axis=2) - jnp.min(jnp.where(group, other, mine), axis=2)
    gap = jnp.where(extent > 0, (high - low) / jnp.where(extent > 0, extent, 1.0), 0.0)
    return jnp.sum(jnp.where(first | last, jnp.inf, gap), axis=0)


def best(
    values: Float[Array, "n m"], violation: Float[Array, "n"] | None, count: int
) -> tuple[Int[Array, "k"], Int[Array, "k"]]:
    """The ``count`` best points, ``int32[count]``, by front, then by crowding distance; and their ranks.

    >>> best(jnp.array([[2.0, 2.0], [0.0, 1.0], [0.4, 0.9], [1.0, 0.0]]), None, 3)[0].tolist()
    [1, 3, 2]
    """
    rank = ranks(values, violation, enough=count)
    chosen = lexsort((-crowding(values, rank), rank), (None, 2 * values.shape[0] + 2))[:count]
    return chosen, rank[chosen]
