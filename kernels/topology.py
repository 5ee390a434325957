"""Who informs whom in a swarm: graphs over particles, and the best informant of each.

``merit`` is float[m], lower is better, +inf for a particle that has nothing to tell. Of the m rows only the first
``active`` take part. Ties go to the lower number, but a particle never prefers another of equal merit to itself.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import counter_random

TOPOLOGIES = ("global", "ring", "vonneumann", "random", "informants")


def neighbours(topology: str, ids: jax.Array, active: jax.Array | int, informants: int, seed: jax.Array) -> jax.Array:
    """``int32[n, k]``: the informants of the particles ``ids``, themselves left out.

    ring: the two beside it (k = 2). vonneumann: four on a twisted torus with floor(sqrt(active)) columns, defined
    for every number of particles. random: ``informants`` drawn from the stream ``seed``, independent for each.
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


def best_of(candidates: jax.Array, ids: jax.Array, merit: jax.Array) -> jax.Array:
    """``int32[n]``: the best among each particle and its candidates ``int32[n, k]``."""
    best, least = ids, merit[ids]
    for slot in range(candidates.shape[1]):  # a handful of informants
        other = candidates[:, slot]
        better = merit[other] < least
        best, least = jnp.where(better, other, best), jnp.where(better, merit[other], least)
    return best


def informed_by(targets: jax.Array, merit: jax.Array) -> jax.Array:
    """``int32[m]``: the best of those that chose to inform each particle, and itself.

    ``targets`` is int32[m, k]: whom each particle informs (Clerc's standard swarms). A particle may be informed by
    none or by many, so the graph is turned round by two scatters and no m x m matrix.
    """
    m, k = targets.shape
    ids = jnp.arange(m, dtype=jnp.int32)
    to, sender, sent = targets.reshape(-1), jnp.repeat(ids, k), jnp.repeat(merit, k)
    least = merit.at[to].min(sent)
    nobody = jnp.int32(m)
    best = jnp.full((m,), nobody).at[to].min(jnp.where(sent == least[to], sender, nobody))
    return jnp.where((merit <= least) | (best == nobody), ids, best)


def leaders(
    topology: str, ids: jax.Array, merit: jax.Array, active: jax.Array | int, informants: int, seed: jax.Array
) -> jax.Array:
    """``int32[n]``: the best informant of the particles ``ids``, themselves included.

    >>> import jax.numpy as jnp
    >>> merit, ids = jnp.array([5.0, 1.0, 4.0, 3.0, 2.0]), jnp.arange(5, dtype=jnp.int32)
    >>> leaders("ring", ids, merit, 5, 2, jnp.zeros(2, jnp.uint32)).tolist()
    [1, 1, 1, 4, 4]
    """
    if topology == "global":
        return jnp.broadcast_to(jnp.argmin(merit).astype(jnp.int32), ids.shape)
    if topology == "informants":
        # the neighbours of everyone, in one long row
        targets = _drawn(jnp.arange(merit.shape[0] * informants, dtype=jnp.uint32), active, seed)
        return informed_by(targets.reshape(-1, informants), merit)[ids]
    return best_of(neighbours(topology, ids, active, informants, seed), ids, merit)
