"""Runs of CMA-ES: the state, convergence, and restarts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import cma, threefry
from jhpo.space.space import Space


class CMAESState(NamedTuple):
    """The search distribution, the members of the current generation, and the state of restarts."""

    space: Space  # static
    gauss: cma.Gaussian
    table: jax.Array  # float[d, k], probabilities of the categories, k = 0 without any
    asked: jax.Array  # float[n, d], points for the update: those asked for, unreflected
    rows: jax.Array  # float[b, n, d], members of the last b asks, a ring buffer
    value: jax.Array  # float[b, n], +inf where failed
    violation: jax.Array  # float[b, n], as in `feasible_value`
    rank: jax.Array  # int32[b, n], within the ask
    slot: jax.Array  # int32[], slot of the next ask; under vmap the same for all searches
    told: jax.Array  # int32[], asks of this generation that were told
    factor: jax.Array  # int32[], asks per generation of this run
    leader: jax.Array  # float[2], violation and value of the generation's best member so far
    recent: jax.Array  # float[h], best values of the last h generations of this run, a ring buffer
    first_value: jax.Array  # float[], the best value of this run's first generation, +inf before
    done: jax.Array  # bool[], this run has converged: the next ask starts another one
    first_sigma: jax.Array  # float[], initial step size of this run
    doublings: jax.Array  # int32[], of the population by the large runs
    small: jax.Array  # bool[], this is one of BIPOP's small runs
    spent: jax.Array  # int32[3], evaluations of the large runs, of the small runs, of this run
    limit: jax.Array  # int32[], largest number of evaluations of this run
    best_unit: jax.Array  # float[d]
    best_value: jax.Array  # float[], +inf before the first success
    best_violation: jax.Array  # float[]


def converged(state: CMAESState, size: jax.Array) -> jax.Array:
    """``bool[]``: whether the run cannot improve any more or has numerical problems (Hansen 2009, section 2.3)."""
    g, space, dtype = state.gauss, state.space, state.gauss.mean.dtype
    eps = float(np.finfo(dtype).eps)
    continuous = jnp.asarray(space.cells == 0)
    tiny = 1e-12 * state.first_sigma + 4.0 * eps * jnp.abs(g.mean)
    no_step = jnp.where(continuous, cma.deviations(g) < tiny, True).all() & bool((space.cells == 0).any())
    # the best values of the last 10 + 30 d / l generations differ by rounding only, or by 1e-12, in units of the values
    # with which the run began if these are smaller than 1
    held = state.recent.shape[0]
    window = (10 + jnp.ceil(30.0 * space.dim / size)).astype(jnp.int32)
    age = (g.generation - jnp.arange(held, dtype=jnp.int32)) % held
    recent = age < window
    highest = jnp.max(jnp.where(recent, state.recent, -jnp.inf))
    lowest = jnp.min(jnp.where(recent, state.recent, jnp.inf))
    level = 4.0 * eps * jnp.abs(jnp.where(jnp.isinf(lowest), 0.0, lowest))
    level = level + 1e-12 * jnp.minimum(jnp.abs(state.first_value), 1.0)
    no_gain = (g.generation >= window) & (highest - lowest <= level)
    root = g.root if g.root.ndim == 1 else jnp.diagonal(g.root)
    stretched = jnp.max(cma.variances(g)) * eps > jnp.min(root) ** 2
    too_long = g.generation.astype(dtype) > 100.0 + 50.0 * (space.dim + 3.0) ** 2 / jnp.sqrt(size)
    broken = ~(jnp.isfinite(g.sigma) & jnp.isfinite(g.mean).all() & jnp.isfinite(root).all())
    return no_step | no_gain | stretched | too_long | broken | (state.spent[2] >= state.limit)


def widened(g: cma.Gaussian, spread: jax.Array) -> cma.Gaussian:
    """The distribution, or a small round one at the same mean where its spread has vanished, if no run follows.

    On the way to zero nothing would move any more, and then all would be NaN.
    """
    eps = float(np.finfo(g.mean.dtype).eps)
    small = cma.gaussian(g.mean, jnp.asarray(eps**0.5), g.cov.ndim == 1)._replace(generation=g.generation)
    return jax.tree.map(lambda new, old: jnp.where(spread > eps**2, old, new), small, g)


def another_run(
    state: CMAESState, key: jax.Array, sigma: jax.Array, *, bipop: bool, asks: int, population: int
) -> CMAESState:
    """The state of a restart: twice the population and the initial step size, or a small run of BIPOP.

    Small runs are started as long as they have spent fewer evaluations than the large ones.

    Args:
      state: its members may be missing.
      key: of the restart.
      sigma: float[], the strategy's.
      bipop: whether there are small runs.
      asks: of the largest generation.
      population: points of an ask.
    """
    k_mean, k_size, k_sigma = threefry.split(key, 3)
    dtype = state.gauss.mean.dtype
    large = state.spent[0] + jnp.where(state.small, 0, state.spent[2])
    little = state.spent[1] + jnp.where(state.small, state.spent[2], 0)
    # the first run counts as large
    small = jnp.asarray(bipop) & (little < large) & (state.doublings > 0)
    doublings = jnp.where(small, state.doublings, jnp.minimum(state.doublings + 1, asks.bit_length() - 1))
    factor = jnp.exp2(doublings.astype(dtype))
    u = jax.random.uniform(k_size, (), dtype)
    factor = jnp.where(small, jnp.maximum(jnp.round((0.5 * factor) ** (u * u)), 1.0), factor)
    shrunk = jnp.exp(-2.0 * float(np.log(10.0)) * jax.random.uniform(k_sigma, (), dtype))
    sigma = sigma.astype(dtype) * jnp.where(small, shrunk, 1.0)
    most_evaluations = jnp.iinfo(jnp.int32).max
    return state._replace(
        gauss=cma.gaussian(state.space.sample_unit(k_mean, 1, dtype)[0], sigma, state.gauss.cov.ndim == 1),
        table=first_table(state.space, dtype),
        factor=factor.astype(jnp.int32),
        recent=jnp.full_like(state.recent, jnp.inf),
        first_value=jnp.full_like(state.first_value, jnp.inf),
        done=jnp.zeros_like(state.done),
        first_sigma=sigma,
        doublings=doublings,
        small=small,
        spent=jnp.stack([large, little, jnp.zeros_like(large)]),
        limit=jnp.where(small, jnp.maximum(large // 2, population), most_evaluations),
    )


def first_table(space: Space, dtype: jnp.dtype) -> jax.Array:
    """``float[d, k]``: uniform probabilities of categories; a single category for coordinates without any."""
    width = int(space.cells[space.categorical].max()) if space.categorical.any() else 0
    if not width:
        return jnp.zeros((space.dim, 0), dtype)
    count = np.where(space.categorical, space.cells, 1)
    return jnp.asarray(np.where(np.arange(width)[None, :] < count[:, None], 1.0 / count[:, None], 0.0), dtype)
