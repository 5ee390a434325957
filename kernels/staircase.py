"""Fronts of two objectives: one pass over the points in the order of the first value.

Notation:
    x, y  the two values of a point, both to be minimised    lowest[f]  the lowest y of front f among the points so far

In the order of x, then y, only earlier points dominate a point: those whose y is not larger, unless they equal it.
Lowest values increase with the front, so a point belongs to the first front whose lowest value exceeds its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jhpo.kernels.loops import most, seldom
from jhpo.kernels.order import inverse, lexsort
from jhpo.kernels.shapes import Array, Bool, Float, Int

# Points of one step. On a CPU a step costs as much as a few dozen instructions of its kernels, and comparisons within a
# step grow with the square: 20,000 points take 1.2 ms of a processor with 4, 2.1 with 2, and 3.6 with 1, 5 and 8.
_STEP = 4
# Fronts that are found in one pass each where steps are launches; the others are found step by step.
_PEELS = 16


def ranks(values: Float[Array, "n 2"], alive: Bool[Array, "n"], enough: int) -> Int[Array, "n"]:
    """``int32[n]``: fronts 0, 1, 2, ... of the points alive, n for points that are not ranked.

    Args:
      values: finite where alive.
      alive: which points take part.
      enough: stop after the front with which this number of points is ranked.

    >>> ranks(jnp.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([True, True, True]), 3).tolist()
    [0, 0, 1]
    """
    n = values.shape[0]
    first, second = (jnp.where(alive, values[:, k], jnp.inf) for k in (0, 1))
    order = lexsort((second, first))  # those that are not alive come last
    x, y, alive = first[order], second[order], alive[order]
    again = jnp.concatenate([jnp.zeros((1,), bool), (x[1:] == x[:-1]) & (y[1:] == y[:-1])])

    def none(y: jax.Array, again: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return jnp.full((n,), n, jnp.int32), alive, jnp.int32(0)

    def some(y: jax.Array, again: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return _peeled(y, again, alive, enough)

    rank, left, peeled = jax.lax.platform_dependent(y, again, alive, cpu=none, default=some)
    for through, fronts in ((_by_steps, _width(n) - 1), (_one_by_one, 0)):
        due = jnp.any(left) & (jnp.sum(rank < n, dtype=jnp.int32) < enough)
        rank = seldom(through, due, rank, y, again, left, peeled)
        left, peeled = left & (rank == n), peeled + fronts
    return rank[inverse(order)]


def peel(
    first: jax.Array, alive: jax.Array, enough: int, most: int, front_of: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Removes fronts one by one; ``front_of(alive)`` is the next. Returns ranks, the points left, number of fronts."""

    def goes_on(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        rank, alive, k = carry
        return (k < most) & jnp.any(alive) & (jnp.sum(rank < n, dtype=jnp.int32) < enough)

    def one(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        rank, alive, k = carry
        front = front_of(alive)
        return jnp.where(front, k, rank), alive & ~front, k + 1

    n = first.shape[0]
    return jax.lax.while_loop(goes_on, one, (jnp.full((n,), n, jnp.int32), alive, jnp.int32(0)))


def _peeled(y: jax.Array, again: jax.Array, alive: jax.Array, enough: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first fronts, as `peel` returns them."""
    leader = jax.lax.cummax(jnp.where(again, 0, jnp.arange(y.shape[0], dtype=jnp.int32)))  # first of equal points

    def front_of(alive: jax.Array) -> jax.Array:
        lowest = jax.lax.cummin(jnp.where(alive, y, jnp.inf))
        before = jnp.concatenate([jnp.full((1,), jnp.inf, y.dtype), lowest[:-1]])
        return (alive & ~(before <= y))[leader]

    return peel(y, alive, enough, _PEELS, front_of)


def _width(n: int) -> int:
    """Length of `lowest` in `_by_steps`, a power of two: random points have about 2 sqrt(n) fronts."""
    return 1 << math.ceil(math.log2(1.5 * math.sqrt(n)))


def _by_steps(rank: jax.Array, y: jax.Array, again: jax.Array, alive: jax.Array, peeled: jax.Array) -> jax.Array:
    """Ranks after the next `_width` - 1 fronts of the points alive, by steps of a few points each."""
    n, fronts = y.shape[0], _width(y.shape[0])
    rows = -(-n // _STEP)
    height = jnp.pad(jnp.where(alive, y, jnp.inf), (0, rows * _STEP - n), constant_values=jnp.inf)
    height, again = height.reshape(rows, _STEP), jnp.pad(again, (0, rows * _STEP - n)).reshape(rows, _STEP)
    front = jnp.arange(fronts, dtype=jnp.int32)

    def row(array: jax.Array, i: jax.Array) -> jax.Array:
        return jax.lax.dynamic_index_in_dim(array, i, keepdims=False)

    def step(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        lowest, place = carry
        # points of the last step lower their fronts only now: otherwise XLA computes their ranks once for each front
        above, last = row(height, jnp.maximum(i - 1, 0)), row(place, i)
        for k in range(_STEP):
            lowest = jnp.where(front == last[k], above[k], lowest)
        mine = row(height, i)
        found = _among(_reach(lowest, mine), mine, row(again, i), last[_STEP - 1])
        return lowest, jax.lax.dynamic_update_index_in_dim(place, found, i + 1, 0)

    # the ends of points that are not alive are not visited; a row of `place` comes before those of the points
    there = jnp.max(jnp.where(alive, jnp.arange(1, n + 1, dtype=jnp.int32), 0))
    begin = (jnp.full((fronts,), jnp.inf, y.dtype), jnp.full((rows + 1, _STEP), fronts, jnp.int32))
    place = jax.lax.fori_loop(0, most(-(-there // _STEP)), step, begin)[1][1:].reshape(-1)[:n]
    return jnp.where(alive & (place < fronts - 1), peeled + place, rank)


def _reach(lowest: jax.Array, height: jax.Array) -> jax.Array:
    """``int32[k]``: the first front whose lowest value exceeds the height, or the last one; by a binary search."""
    place = jnp.zeros(height.shape, jnp.int32)
    half = lowest.shape[0] // 2
    while half:
        at = lowest.at[place + (half - 1)].get(mode="promise_in_bounds")
        place = place + jnp.where(at <= height, half, 0).astype(jnp.int32)
        half //= 2
    return place


def _among(place: jax.Array, height: jax.Array, again: jax.Array, last: jax.Array) -> jax.Array:
    """``int32[k]``: places, behind those of earlier points of the same step that are not higher; the same for equals.

    Args:
      last: place of the point before the first.
    """
    found: list[jax.Array] = []
    for i in range(height.shape[0]):
        mine = place[i]
        for j in range(i):
            mine = jnp.maximum(mine, jnp.where(height[j] <= height[i], found[j] + 1, 0))
        found.append(jnp.where(again[i], found[-1] if found else last, mine))
    return jnp.stack(found)


def _one_by_one(rank: jax.Array, y: jax.Array, again: jax.Array, alive: jax.Array, peeled: jax.Array) -> jax.Array:
    """Ranks with all fronts of the points alive, however many there are."""
    n = y.shape[0]
    steps = max(n, 1).bit_length()

    # arrays are read in an inner loop before they are written, otherwise XLA copies them in every iteration
    def one(i: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        lowest, place, last = carry
        height = y[i]

        def reach(j: jax.Array, k: jax.Array) -> jax.Array:
            further = k + (1 << (steps - 1 - j))
            there = (further <= n) & (lowest[jnp.minimum(further - 1, n)] <= height)
            return jnp.where(there, further, k)

        k = jax.lax.fori_loop(0, steps, reach, jnp.int32(0))
        k = jnp.where(again[i], last, k)
        at = jnp.where(alive[i], k, n)  # the last slot is unused
        return lowest.at[at].set(height), place.at[i].set(k), k

    begin = (jnp.full((n + 1,), jnp.inf, y.dtype), jnp.zeros((n,), jnp.int32), jnp.int32(0))
    place = jax.lax.fori_loop(0, n, one, begin)[1]
    return jnp.where(alive, peeled + place, rank)
