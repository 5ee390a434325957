"""Members of a generation of CMA-ES over several asks: a ring buffer of asks, their ranks, their weighted sums.

Loops run only over the asks that take part; under vmap, over as many as the largest search has.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels import cma
from jhpo.kernels.cma_discrete import category_weights
from jhpo.kernels.loops import most
from jhpo.kernels.order import inverse, lexsort
from jhpo.kernels.ranks import PAIRS, ahead
from jhpo.space.space import Space


class Members(NamedTuple):
    """The ring buffer of asks, read-only; violations are None without constraints."""

    rows: jax.Array  # float[b, n, d]
    value: jax.Array  # float[b, n], +inf where failed
    violation: jax.Array | None  # float[b, n]
    rank: jax.Array  # int32[b, n], within the ask
    slot: jax.Array  # int32[], slot of the next ask


class Shares(NamedTuple):
    """Sums of positive weights."""

    mass: jax.Array  # float[], over all members: 0 if all failed
    categories: jax.Array  # float[d, k], per category


def _slot(members: Members, i: jax.Array) -> jax.Array:
    """Slot of the ask that came ``i`` before the last."""
    return (members.slot - 1 - i) % members.rank.shape[0]


def ranks_of_all(members: Members, factor: jax.Array, blocks: jax.Array) -> jax.Array:
    """int32[b, n]: ranks in the generation of the last ``factor`` <= ``blocks`` asks; of equal ones the older first."""
    if members.rank.shape[1] > PAIRS:
        return _by_sorting(members.rank, members, factor)
    return jax.lax.fori_loop(0, blocks - 1, lambda i, rank: _with_older(members, factor, blocks, i, rank), members.rank)


def _with_older(members: Members, factor: jax.Array, blocks: jax.Array, i: jax.Array, rank: jax.Array) -> jax.Array:
    """The ranks after comparing the ask ``i`` before the last with all older ones."""

    def two(j: jax.Array, rank: jax.Array) -> jax.Array:
        new, old = _slot(members, i), _slot(members, j)
        its = (None, None) if members.violation is None else (members.violation[new], members.violation[old])
        # [old, new]: whether the newer one is better; otherwise the older one comes first
        later = ahead(members.value[old], its[1], members.value[new], its[0])
        both = j < factor
        rank = rank.at[new].add(jnp.where(both, (~later).sum(axis=0, dtype=jnp.int32), 0))
        return rank.at[old].add(jnp.where(both, later.sum(axis=1, dtype=jnp.int32), 0))

    return jax.lax.fori_loop(i + 1, blocks, two, rank)


def _by_sorting(rank: jax.Array, members: Members, factor: jax.Array) -> jax.Array:
    """`ranks_of_all` by sorting, for many members."""
    b, n = rank.shape
    age = jnp.arange(b, dtype=jnp.int32)[::-1]  # the oldest first
    slots = _slot(members, age)
    there = (age < factor)[:, None]
    keys = [a for a in (members.value, members.violation) if a is not None]
    keys = [jnp.where(there, a[slots], jnp.inf).reshape(-1) for a in keys]
    return rank.at[slots].set(inverse(lexsort(keys)).reshape(b, n), unique_indices=True)


def learned(
    space: Space, g: cma.Gaussian, categories: int, factor: jax.Array, members: Members, r: cma.Rates
) -> tuple[cma.Sums, Shares]:
    """Weighted sums over the generation of the last ``factor`` asks, one ask at a time.

    ``categories`` is the width of the table of categories, 0 without any.
    """
    part = functools.partial(_learned, space, g, categories, factor, members, r)
    if members.rank.shape[0] == 1:
        return part(members.rank, None)
    blocks = most(factor)
    # one condition in place of one for each loop: an accelerator's host waits for each
    return jax.lax.cond(
        blocks > 1,
        lambda: part(ranks_of_all(members, factor, blocks), blocks),
        lambda: part(members.rank, None),
    )


def _learned(
    space: Space,
    g: cma.Gaussian,
    categories: int,
    factor: jax.Array,
    members: Members,
    r: cma.Rates,
    rank: jax.Array,
    blocks: jax.Array | None,
) -> tuple[cma.Sums, Shares]:
    """`learned` from ranks in the generation; without ``blocks`` from the last ask alone."""
    dtype = g.mean.dtype

    def weights(i: jax.Array) -> jax.Array:
        """Weights float[n] of the ask ``i`` before the last."""
        at = _slot(members, i)
        valid = jnp.isfinite(members.value[at]) & (i < factor)
        return jnp.where(valid, cma.weight(r, (rank[at] + 1).astype(dtype)), 0.0)

    def over_all(part: Callable[[jax.Array], Any]) -> Any:
        first = part(jnp.zeros((), jnp.int32))
        if blocks is None:
            return first
        return jax.lax.fori_loop(1, blocks, lambda i, sum_: jax.tree.map(jnp.add, sum_, part(i)), first)

    mass = over_all(lambda i: jnp.maximum(weights(i), 0.0).sum())

    def said(i: jax.Array) -> tuple[cma.Sums, jax.Array]:
        w, x = weights(i), members.rows[_slot(members, i)]
        w = jnp.where(w > 0, w / jnp.where(mass > 0, mass, 1.0), w)
        counts = jnp.zeros((0,), dtype)
        if categories:
            counts = category_weights(space.index(x), jnp.maximum(w, 0.0), categories)
        return cma.sums(g, x, w, ~space.categorical), counts

    sums, counts = over_all(said)
    return sums, Shares(mass, counts)
