"""Bayesian optimisation: a Gaussian process of the history and a search for the most promising next points."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels import gp
from jhpo.kernels.covariance import PROFILES
from jhpo.kernels.sobol import sobol
from jhpo.space import Space
from jhpo.strategies import _bayes_model as modelling
from jhpo.strategies import _bayes_search as searching
from jhpo.strategies._bayes_model import EMPTY, FAILED, OBSERVED, PENDING, History, Surrogate
from jhpo.strategies._bayes_search import Search
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, static_field, strategy

SMALLEST = 32  # rows of the first buffer


class BayesState(NamedTuple):
    """The history in padded buffers, and the parameters of the last fit."""

    space: Space  # static
    history: History  # N rows, N a power of two
    count: jax.Array  # int32[], rows in use
    seed: jax.Array  # uint32[d], scramble of the initial design
    theta: jax.Array  # float[1 + c, d + 3], of the last fit: objective, then measured constraints


def bucket(rows: int) -> int:
    """The smallest buffer for so many rows: 32, 64, 128, ..."""
    return max(SMALLEST, 1 << (max(rows, 1) - 1).bit_length())


@strategy
class BayesOpt(Strategy):
    """Gaussian process Bayesian optimisation."""

    batch: int = static_field(1)
    initial: int = static_field(0)
    capacity: int = static_field(0)
    constraints: int = static_field(0)
    kernel: str = static_field("matern52")
    warp: str = static_field("half_rank")
    candidates: int = static_field(1024)
    starts: int = static_field(6)
    fit_iterations: int = static_field(30)
    search_iterations: int = static_field(30)

    steady = True
    host_float64 = True

    @property
    def population(self) -> int:
        return self.batch

    def _initial(self, d: int) -> int:
        return self.initial or max(self.batch, min(d + 1, 8))

    def init(self, space: Space, key: jax.Array) -> BayesState:
        n = bucket(max(self.capacity, self.batch))
        dtype, d, c = default_dtype(), space.dim, self.constraints
        zeros = jnp.zeros((n,), dtype)
        history = History(
            jnp.full((n, d), 0.5, dtype), zeros, zeros, jnp.zeros((n, c), dtype), jnp.full((n,), EMPTY, jnp.int32)
        )
        theta = jnp.broadcast_to(jnp.asarray(gp.default_prior(d, dtype).mean), (1 + c, d + 3))
        seed = jax.random.bits(key, (d,), jnp.uint32)
        return BayesState(space, history, jnp.zeros((), jnp.int32), seed, theta)

    def ask(self, state: BayesState, key: jax.Array) -> tuple[jax.Array, BayesState]:
        start = state.count < self._initial(state.space.dim)
        units, theta = jax.lax.cond(start, self._design, self._model, state, key)
        return units, self._add_pending(state._replace(theta=theta), units)

    def _design(self, state: BayesState, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        space, dtype = state.space, state.history.units.dtype
        units = sobol(state.count, self.batch, space.dim, state.seed, dtype)
        first = (state.count + jnp.arange(self.batch, dtype=jnp.int32) == 0)[:, None]
        units = jnp.where(first, jnp.asarray(space.default_unit(), dtype)[None, :], units)
        return space.canonical(units), state.theta

    def _model(self, state: BayesState, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        space = state.space
        fit_key, search_key = jax.random.split(key)
        surrogate = Surrogate(space, PROFILES[self.kernel], self.warp, self.fit_iterations, 256)
        model, theta = modelling.build(surrogate, state.history, state.theta, fit_key)
        search = Search(space, PROFILES[self.kernel], self.candidates, self.starts, self.search_iterations)
        box = jnp.zeros((space.dim,), theta.dtype), jnp.ones((space.dim,), theta.dtype)
        units = searching.batch(search, model, state.history, state.count, self.batch, search_key, *box)
        return units, theta

    def _add_pending(self, state: BayesState, units: jax.Array) -> BayesState:
        history = state.history
        rows = state.count + jnp.arange(self.batch, dtype=jnp.int32)
        history = history._replace(
            units=history.units.at[rows].set(units, mode="drop"),
            status=history.status.at[rows].set(PENDING, mode="drop"),
        )
        return state._replace(history=history, count=state.count + jnp.int32(self.batch))

    def tell(self, state: BayesState, units: jax.Array, result: Evaluation) -> BayesState:
        n = units.shape[0]
        rows = state.count - jnp.int32(n) + jnp.arange(n, dtype=jnp.int32)
        good = jnp.isfinite(result.value)
        h = state.history
        h = h._replace(
            value=h.value.at[rows].set(jnp.where(good, result.value, 0.0)),
            status=h.status.at[rows].set(jnp.where(good, OBSERVED, FAILED)),
        )
        return state._replace(history=h)
