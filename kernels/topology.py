"""Topologies: graphs over the particles of a swarm, and the best informant of each.

``merit`` is float[m], lower is better, +inf for a particle without a success. Only the first ``active`` of the m rows
take part. Ties go to the lower number, but a particle never prefers another of equal merit to itself.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jhpo.kernels import counter_random
from jhpo.kernels.loops import apart
from jhpo.kernels.rows import Window, exchanged

TOPOLOGIES = ("global", "ring", "vonneumann", "random", "informants")
_GROUP = 8  # particles whose informants are drawn together
_NUMBERS = np.array([0x1F83D9AB, 0x5BE0CD19], np.uint32)  # xor with a seed: the seed of the numbers of informants


def neighbours(topology: str, ids: jax.Array, active: jax.Array | int, informants: int, seed: jax.Array) -> jax.Array:
    """``int32[n, k]``: the informants of the particles ``ids``, without themselves.

    ring: the two neighbours (k = 2). vonneumann: four on a twisted torus with floor(sqrt(active)) columns, defined
    for every number of particles. random: ``informants`` draws from the stream ``seed``, independent for each.
    """
    active = jnp.asarray(active, jnp.int32)
    if topology == "ring":
        steps = jnp.stack([jnp.ones_like(active), active - 1])
    elif topology == "vonneumann":
        across = jnp.floor(jnp.sqrt(active.astype(jnp.float32))).astype(jnp.int32)
        steps = jnp.stack([jnp.ones_like(active), active - 1, across, active - across])
    else:
        slot = jnp.arange(informants, dtype=jnp.uint32)[None, :]
        return _drawn(ids.astype(jnp.uint32)[:, None] * np.uint32(informants) + slot, active, seed)
    return jax.lax.rem(ids[:, None] + steps[None, :], jnp.broadcast_to(active, (ids.shape[0], steps.shape[0])))


def _drawn(counter: jax.Array, active: jax.Array | int, seed: jax.Array) -> jax.Array:
    return counter_random.scale(counter_random.scramble(counter, seed), active)


@apart  # in one loop with the hashes that choose the candidates, those would be computed anew for every read
def _best(_: None, candidates: jax.Array, ids: jax.Array, merit: jax.Array) -> jax.Array:
    best, least = ids, _read(merit, ids)
    for other in candidates:  # a handful of informants
        found = _read(merit, other)
        best, least = jnp.where(found < least, other, best), jnp.minimum(found, least)
    return best


def _read(merit: jax.Array, ids: jax.Array) -> jax.Array:
    return merit.at[ids].get(mode="promise_in_bounds", wrap_negative_indices=False)


def best_of(candidates: jax.Array, ids: jax.Array, merit: jax.Array) -> jax.Array:
    """``int32[n]``: the best of each particle and its candidates ``int32[k, n]``; the first of several equals."""
    return _best(None, candidates, ids, merit)


class Informants(NamedTuple):
    """Whom n particles with consecutive numbers listen to, in groups of w particles."""

    first: jax.Array  # int32[k, n / w], the informant of each group's first particle; the next one's is the next
    number: jax.Array  # int32[n], how many informants of the k a particle has


def drawn_informants(ids: jax.Array, active: jax.Array | int, mean: int, seed: jax.Array) -> Informants:
    """Informants of each particle in Clerc's standard swarms, where every particle informs ``mean`` others at random.

    The number of a particle's informants is then nearly Poisson distributed. So it is drawn from that distribution, up
    to two standard deviations above the mean (99%), and the informants uniformly: no graph has to be built. Groups of
    consecutive particles have consecutive informants, which are drawn and read together.
    """
    return Informants(*_drawn_informants(mean, ids, jnp.asarray(active, jnp.int32), seed))


@apart  # in one loop with the reads, the hashes would be computed anew for every particle
def _drawn_informants(mean: int, ids: jax.Array, active: jax.Array, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
    slots, group = mean + math.ceil(2 * math.sqrt(mean)), ids[:: _together(ids.shape[0])]
    row = jnp.arange(slots, dtype=jnp.uint32)[:, None]
    words = counter_random.scramble(group.astype(jnp.uint32)[None, :] * np.uint32(slots) + row, seed)
    terms = np.cumsum([0.0] + [math.log(mean / k) for k in range(1, slots)]) - mean
    number = counter_random.unit(counter_random.scramble(ids.astype(jnp.uint32), seed ^ _NUMBERS))
    count = jnp.zeros(ids.shape, jnp.int32)
    for fewer in np.exp(terms).cumsum():  # probability of at most 0, 1, ... informants
        count = count + (number >= np.float32(fewer)).astype(jnp.int32)
    return counter_random.scale(words, active), count


def _together(n: int) -> int:
    """The number of particles in a group."""
    return min(n, _GROUP)


def informants_of(ids: jax.Array, active: jax.Array | int, mean: int, seed: jax.Array) -> jax.Array:
    """``int32[k, n]``: the `drawn_informants`, the particle itself where it has fewer than k."""
    drawn, n = drawn_informants(ids, active, mean, seed), ids.shape[0]
    slot = jnp.arange(drawn.first.shape[0], dtype=jnp.int32)[:, None]
    return jnp.where(slot < drawn.number[None, :], _consecutive(drawn.first, n, active), ids[None, :])


def _consecutive(first: jax.Array, n: int, active: jax.Array | int) -> jax.Array:
    """``int32[..., n]``, the informants of each particle from those of the groups."""
    each = jnp.arange(_together(n), dtype=jnp.int32).reshape(*[1] * first.ndim, -1)
    who = (first[..., None] + each).reshape(*first.shape[:-1], -1)[..., :n]
    return jnp.where(who >= active, who - active, who)


@apart
def _best_of_all(_: None, drawn: Informants, merit: jax.Array) -> jax.Array:
    n, w = merit.shape[0], _together(merit.shape[0])
    best, least = jnp.arange(n, dtype=jnp.int32), merit
    round_about = jnp.concatenate([merit, merit[: w - 1]])
    for slot, first in enumerate(drawn.first):  # a handful of informants
        read = jax.vmap(lambda start: lax.dynamic_slice_in_dim(round_about, start, w))
        found = read(first).reshape(-1)[:n]
        there = (slot < drawn.number) & (found < least)
        best, least = jnp.where(there, _consecutive(first, n, n), best), jnp.where(there, found, least)
    return best


def leaders_of_all(merit: jax.Array, mean: int, seed: jax.Array) -> jax.Array:
    """`leaders` in a graph of `drawn_informants` of n particles float[n], all of which move and take part.

    The same as for a part of them, but the merits of a group are read at once.
    """
    n = merit.shape[0]
    return _best_of_all(None, drawn_informants(jnp.arange(n, dtype=jnp.int32), n, mean, seed), merit)


def leaders(
    topology: str,
    ids: jax.Array,
    merit: jax.Array,
    active: jax.Array | int,
    informants: int,
    seed: jax.Array,
    away: Window | None = None,
) -> jax.Array:
    """``int32[n]``: the row of the best of each particle and its informants, for every topology but "global".

    Args:
      topology: the graph.
      ids: int32[n], the particles.
      merit: float[m], by rows.
      active: the particles that take part.
      informants: of a particle, in a random graph.
      seed: uint32[2], of a random graph.
      away: the particles that have changed places with the first ones; None if particles and rows are the same.

    >>> import jax.numpy as jnp
    >>> merit, ids = jnp.array([5.0, 1.0, 4.0, 3.0, 2.0]), jnp.arange(5, dtype=jnp.int32)
    >>> leaders("ring", ids, merit, 5, 2, jnp.zeros(2, jnp.uint32)).tolist()
    [1, 1, 1, 4, 4]
    """
    own = exchanged(ids, away)
    if topology == "informants":
        return best_of(exchanged(informants_of(ids, active, informants, seed), away), own, merit)
    return best_of(exchanged(neighbours(topology, ids, active, informants, seed).T, away), own, merit)
