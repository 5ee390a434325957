"""CLPSO's exemplars: whom a particle follows in each dimension (Liang et al. 2006)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jhpo.kernels import counter_random
from jhpo.kernels.rows import Rows, Window, exchanged, put, take
from jhpo.kernels.swarm_parts import LINKS, R2, R3, TURN, WHO, Draw, Swarm

REFRESH = 7  # CLPSO's refreshing gap: failures after which a particle chooses new exemplars


def choose_exemplars(
    swarm: Swarm, draw: Draw, ids: jax.Array, rows: Rows, active: ArrayLike, away: Window | None
) -> Swarm:
    """A particle that failed REFRESH times draws a new exemplar for every dimension."""
    n, d = ids.shape[0], swarm.position.shape[1]
    dtype = swarm.position.dtype
    size = jnp.asarray(active, jnp.int32)
    share = ids.astype(dtype) / jnp.maximum(size - 1, 1).astype(dtype)
    learn = jnp.asarray(0.05, dtype) + jnp.asarray(0.45 / np.expm1(10.0), dtype) * jnp.expm1(10 * share)
    first, second = (counter_random.integers(draw.words[s], (n, d), size) for s in (R2, R3))
    merit = swarm.merits
    better = merit[exchanged(second, away)] < merit[exchanged(first, away)]
    rival = jnp.where(better, second, first)
    own = jnp.broadcast_to(ids[:, None], (n, d))
    chosen = jnp.where(draw.uniform(TURN, (n, d), dtype) < learn[:, None], rival, own)
    # if all exemplars are the particle itself, one random dimension follows another particle
    at, other = (counter_random.integers(draw.words[s], (n,), b) for s, b in ((WHO, d), (LINKS, size - 1)))
    other = lax.rem(ids + 1 + other, jnp.broadcast_to(size, ids.shape))
    alone = (chosen == own).all(axis=1)
    chosen = jnp.where(alone[:, None] & (jnp.arange(d, dtype=jnp.int32)[None] == at[:, None]), other[:, None], chosen)
    failures = take(swarm.failures, rows)
    due = failures >= REFRESH
    return swarm._replace(
        exemplar=put(swarm.exemplar, rows, jnp.where(due[:, None], chosen, take(swarm.exemplar, rows))),
        failures=put(swarm.failures, rows, jnp.where(due, 0, failures)),
    )
