"""Exchanges within and between sub-populations that exchange at different intervals (MF-PBT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.order import inverse, lexsort
from jhpo.strategies.exploring import share_of


class Exchange(NamedTuple):
    """What each of n rows goes on with."""

    parent: jax.Array  # int32[n], the row whose training it continues; -1 where there is no member
    giver: jax.Array  # int32[n], the row whose hyperparameters it takes
    explores: jax.Array  # bool[n], whether it moves them


def migration(
    key: jax.Array,
    value: jax.Array,
    violation: jax.Array,
    there: jax.Array,
    fraction: jax.Array | float,
    intervals: Sequence[int],
    number: jax.Array,
) -> Exchange:
    """An exchange in sub-populations, of which number i takes part in every ``intervals[i]``-th one.

    In a sub-population that takes part the last ``fraction`` continue a random one of the first ``fraction`` and
    explore near its hyperparameters. Those before them give way, from the best on, to the best members elsewhere that
    are better than they are. Such a migrant brings its hyperparameters from a sub-population of longer intervals; where
    it comes to one of longer intervals, it goes on with those of the best member there: what pays soon does not spread
    where later counts. Members that failed are replaced in every exchange. Row k belongs to sub-population
    ``k % len(intervals)``.

    Args:
      key: ``key[]``.
      value, violation, there: as of `truncation`.
      fraction: ``float[]``, in (0, 1/3].
      intervals: of the sub-populations, ascending.
      number: ``int32[]``, of the exchange, from 1.

    Source: Doulazmi et al., "Multiple-frequencies population-based training", 2025, section 4.

    >>> value, there = jnp.array([1.0, 5.0, 2.0, 6.0, 3.0, 7.0]), jnp.ones(6, bool)
    >>> [x.tolist() for x in migration(jax.random.key(0), value, jnp.zeros(6), there, 0.3, (1, 2), jnp.int32(2))]
    [[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 0, 1], [False, False, False, False, True, True]]
    """
    n, groups = value.shape[0], len(intervals)
    rows, each = jnp.arange(n, dtype=jnp.int32), jnp.asarray(np.asarray(intervals, np.int32))
    group = rows % groups
    alive = there & jnp.isfinite(value)
    kind = jnp.where(alive, 0, jnp.where(there, 1, 2)).astype(jnp.int32)
    order = lexsort((jnp.where(alive, value, jnp.inf), violation, kind))  # best first, absent rows last
    rank = inverse(order)
    within = lexsort((rank, group))  # one sub-population after the other, the best of each first
    start = jnp.asarray(np.cumsum([0, *np.bincount(np.arange(n) % groups, minlength=groups)])[:-1], jnp.int32)
    place = inverse(within) - start[group]
    count, living = (jnp.zeros(groups, jnp.int32).at[group].add(mask.astype(jnp.int32)) for mask in (there, alive))
    share = jnp.minimum(jnp.maximum(share_of(fraction, count), 1), count // 3)
    active = (number % each == 0)[group] & there

    best = jnp.where(living > 0, within[start], order[0])
    winners = jnp.maximum(jnp.minimum(share, living), 1)[group]
    drawn = within[start[group] + jax.random.randint(key, (n,), jnp.int32(0), winners)]
    drawn = jnp.where(living[group] > 0, drawn, order[0])
    replaced = there & (~alive | (active & (place >= (count - share)[group])))
    parent = jnp.where(replaced, drawn, rows)

    bracket = active & ~replaced & (place >= (count - 2 * share)[group])
    migrant = _migrants(rank, group, alive, bracket, groups, max(n // groups // 3, 1))
    migrant = jnp.where(migrant >= 0, order[jnp.maximum(migrant, 0)], -1)
    moves = migrant >= 0
    steadier = each[group[jnp.maximum(migrant, 0)]] > each[group]
    parent = jnp.where(moves, migrant, parent)
    giver = jnp.where(moves & ~steadier, best[group], parent)
    some = there & alive.any()
    return Exchange(jnp.where(some, parent, -1), jnp.where(some, giver, rows), some & replaced)


def _migrants(
    rank: jax.Array, group: jax.Array, alive: jax.Array, bracket: jax.Array, groups: int, most: int
) -> jax.Array:
    """For each row of the brackets the rank of the member elsewhere that replaces it, ``int32[n]``; -1 for none."""
    n = rank.shape[0]

    def of_one(number: jax.Array) -> tuple[jax.Array, jax.Array]:
        elsewhere = jnp.sort(jnp.where(alive & (group != number), rank, n))
        own = jnp.sort(jnp.where(bracket & (group == number), rank, n))[:most]

        def next_one(taken: jax.Array, mine: jax.Array) -> tuple[jax.Array, jax.Array]:
            better = elsewhere[taken] < mine
            better = better & (mine < n)
            return taken + better.astype(jnp.int32), jnp.where(better, elsewhere[taken], -1)

        return own, jax.lax.scan(next_one, jnp.int32(0), own)[1]

    own, found = jax.vmap(of_one)(jnp.arange(groups, dtype=jnp.int32))
    by_rank = jnp.full(n, -1, jnp.int32).at[own.reshape(-1)].set(found.reshape(-1), mode="drop")
    return by_rank[rank]
