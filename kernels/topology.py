"""Topologies: graphs over the particles of a swarm, and the best informant of each.

``merit`` is float[m], lower is better, +inf for a particle without a success. Only the first ``active`` of the m rows
take part. Ties go to the lower number, but a particle never prefers another of equal merit to itself.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import counter_random
from jhpo.kernels.loops import apart
from jhpo.kernels.rows import Window, exchanged

TOPOLOGIES = ("global", "ring", "vonneumann", "random", "informants")


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


@apart
def _informants(mean: int, ids: jax.Array, active: jax.Array, seed: jax.Array, away: Window | None) -> jax.Array:
    slots = mean + math.ceil(3 * math.sqrt(mean))
    words = _words(slots + 1, ids, seed)
    terms = np.cumsum([0.0] + [math.log(mean / k) for k in range(1, slots)]) - mean
    fewer = np.exp(terms).cumsum()  # probability of at most 0, 1, ... informants
    more = counter_random.unit(words[slots])[None, :] >= jnp.asarray(fewer, jnp.float32)[:, None]
    return exchanged(jnp.where(more, counter_random.scale(words[:slots], active), ids[None, :]), away)


def informants_of(
    ids: jax.Array, active: jax.Array | int, mean: int, seed: jax.Array, away: Window | None = None
) -> jax.Array:
    """Informants of each particle in Clerc's standard swarms, where every particle informs ``mean`` others at random.

    The number of a particle's informants is then nearly Poisson distributed. So it is drawn from that distribution, up
    to three standard deviations above the mean, and the informants uniformly: no graph has to be built.

    Returns:
      ``int32[k, n]``, the rows of the informants, of the particle itself where it has fewer than k (see `leaders`).
    """
    return _informants(mean, ids, jnp.asarray(active, jnp.int32), seed, away)


@apart
def _words(count: int, ids: jax.Array, seed: jax.Array) -> jax.Array:
    """``uint32[count, n]`` of the stream; the particles are the last axis, along which a CPU vectorises."""
    row = jnp.arange(count, dtype=jnp.uint32)[:, None]
    return counter_random.scramble(ids.astype(jnp.uint32)[None, :] * np.uint32(count) + row, seed)


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
        return best_of(informants_of(ids, active, informants, seed, away), own, merit)
    return best_of(exchanged(neighbours(topology, ids, active, informants, seed).T, away), own, merit)
