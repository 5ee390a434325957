"""From a history to a conditioned Gaussian process: which rows, which targets, which parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import gp, warp
from jhpo.kernels.covariance import Points, Profile
from jhpo.strategies._bayes_history import EMPTY, FAILED, OBSERVED, PENDING, History

if TYPE_CHECKING:
    from jhpo.space import Space
# Fits of at most so many rows begin twice: at the last parameters and at the mode of the prior.
_TWO_STARTS = 64


class Model(NamedTuple):
    """What the acquisition needs of a fitted history."""

    posterior: gp.Posterior  # of the standardised objective
    best: jax.Array  # float[], the incumbent's value: the lowest posterior mean at a feasible observed point
    incumbent: jax.Array  # float[d], where
    mean: jax.Array  # float[N], posterior means at the rows, inf where not observed and feasible
    constraints: gp.Posterior | None  # stacked over the c constraints
    any_feasible: jax.Array  # bool[]


class Surrogate(NamedTuple):
    """Static choices of the model (Python values)."""

    space: Space
    profile: Profile
    warp: str
    iterations: int
    fit_rows: int  # the parameters are fitted to at most so many rows

    @property
    def categorical(self) -> np.ndarray:
        return np.asarray(self.space.categorical)


def as_points(space: Space, units: jax.Array) -> Points:
    """Canonical unit rows as kernels see them."""
    units = space.canonical(units)
    return Points(units, space.active(units) if any(space.conditions) else None)


def feasible_rows(history: History) -> jax.Array:
    """bool[N]: observed, and no measured constraint violated."""
    return (history.status == OBSERVED) & history.feasible


def targets(history: History, kind: str) -> tuple[jax.Array, jax.Array]:
    """Standardised targets and variances in their units; failed rows get the worst value met."""
    seen = history.status == OBSERVED
    told = seen | (history.status == FAILED)
    rough, first = warp.standardize(history.value, seen)
    y = rough if kind == "none" else warp.half_rank(rough, seen)
    worst = jnp.max(jnp.where(seen, y, -jnp.inf))
    y = jnp.where(seen, y, jnp.where(jnp.isfinite(worst), worst, 0.0))
    y, scale = warp.standardize(y, told)
    return y, jnp.where(seen, history.variance / first / first / scale / scale, 0.0)


def select(
    history: History, slots: jax.Array, rows: int, weights: jax.Array, space: Space
) -> tuple[History, jax.Array]:
    """The ``rows`` most useful ones of a long history: pending ones, the best, and those nearest to the best.

    Args:
        slots: int32[q], the rows kept free for new points; they are always among those selected.
        weights: float[d], 1 / lengthscale^2.

    Returns:
        The selection, and where the slots lie in it.
    """
    if history.status.shape[0] <= rows:
        return history, slots
    value = jnp.where(feasible_rows(history), history.value, jnp.inf)
    gap = history.units - history.units[jnp.argmin(value)][None, :]
    gap = jnp.where(jnp.asarray(space.categorical)[None, :], (gap != 0).astype(gap.dtype), gap * gap)
    near = warp.masked_rank(gap @ weights, history.status != EMPTY)
    good = warp.masked_rank(value, history.status == OBSERVED)
    priority = jnp.minimum(near, 3 * good)  # a quarter of the rows by value, the rest by distance
    priority = jnp.where(history.status == PENDING, -1, priority)
    priority = jnp.where(history.status == EMPTY, jnp.iinfo(jnp.int32).max, priority).at[slots].set(-2)
    index = jnp.sort(jax.lax.top_k(-priority, rows)[1])
    return jax.tree.map(lambda leaf: leaf[index], history), jnp.searchsorted(index, slots).astype(jnp.int32)


def _fit_rows(key: jax.Array, data: gp.Data, rows: int) -> gp.Data:
    """A random selection of rows for the fit of the parameters, where there are more than ``rows``."""
    if data.mask.shape[0] <= rows:
        return data
    score = jnp.where(data.mask, jax.random.uniform(key, data.mask.shape, data.y.dtype), -1.0)
    index = jnp.sort(jax.lax.top_k(score, rows)[1])
    return jax.tree.map(lambda leaf: leaf[index], data)


def _condition(surrogate: Surrogate, theta: jax.Array, data: gp.Data, pending: jax.Array) -> gp.Posterior:
    """Condition on the data, then also on pending rows at their predicted mean: certain there, nothing new believed."""
    categorical, profile = surrogate.categorical, surrogate.profile

    def predicted(posterior: gp.Posterior) -> jax.Array:
        return jax.vmap(lambda p: gp.predict(posterior, p, categorical, profile)[0])(data.points)

    def again(carry: tuple[jax.Array, gp.Posterior]) -> tuple[jax.Array, gp.Posterior]:
        turn, before = carry
        y = jnp.where(pending & (turn > 0), predicted(before), data.y)
        rows = data._replace(y=y, mask=data.mask | (pending & (turn > 0)))
        return turn + 1, gp.condition(theta, rows, categorical, profile)

    blank = jax.eval_shape(lambda: gp.condition(theta, data, categorical, profile))
    start = (jnp.int32(0), jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), blank))
    turns = 1 + jnp.any(pending).astype(jnp.int32)
    return jax.lax.while_loop(lambda carry: carry[0] < turns, again, start)[1]


def build(
    surrogate: Surrogate, history: History, theta: jax.Array, refit: jax.Array, key: jax.Array
) -> tuple[Model, jax.Array]:
    """Fit and condition.

    Args:
        history: at most a thousand rows, a power of two.
        theta: float[1 + c, p], the parameters of the last fit: objective, then measured constraints.
        refit: bool[], False keeps these parameters.

    Returns:
        The model and the new theta.
    """
    space, categorical = surrogate.space, surrogate.categorical
    points = as_points(space, history.units)
    y, variance = targets(history, surrogate.warp)
    seen = history.status == OBSERVED
    pending = history.status == PENDING
    prior = gp.default_prior(space.dim, y.dtype)

    def process(theta: jax.Array, y: jax.Array, variance: jax.Array, mask: jax.Array) -> tuple[jax.Array, gp.Posterior]:
        data = gp.Data(points, y, variance, mask)

        def fit() -> jax.Array:
            rows = _fit_rows(key, data, surrogate.fit_rows)
            starts = jnp.stack([theta, jnp.asarray(prior.mean)]) if rows.y.shape[0] <= _TWO_STARTS else theta[None]
            return gp.fit(starts, rows, prior, categorical, iterations=surrogate.iterations, profile=surrogate.profile)[
                0
            ]

        fitted = jax.lax.cond(refit, fit, lambda: theta)
        return fitted, _condition(surrogate, fitted, data, pending)

    c = history.constraint.shape[1]
    if c == 0:
        fitted, posterior = process(theta[0], y, variance, seen | (history.status == FAILED))
        thetas, constraints = fitted[None], None
    else:
        known = seen[:, None] & jnp.isfinite(history.constraint)
        slack = jnp.where(known, history.constraint, 0.0)
        # no mean is taken off a constraint: its sign is what matters
        size = jnp.sqrt(jnp.mean(slack**2, axis=0) / jnp.maximum(jnp.mean(known, axis=0, dtype=slack.dtype), 1e-30))
        slack = slack / jnp.where(size > 0, size, 1.0)[None, :]
        ys = jnp.concatenate([y[None], slack.T])
        masks = jnp.concatenate([(seen | (history.status == FAILED))[None], known.T])
        variances = jnp.concatenate([variance[None], jnp.zeros_like(slack.T)])
        thetas, stacked = jax.lax.map(lambda a: process(*a), (theta, ys, variances, masks))
        posterior = jax.tree.map(lambda leaf: leaf[0], stacked)
        constraints = jax.tree.map(lambda leaf: leaf[1:], stacked)

    means = jax.vmap(lambda p: gp.predict(posterior, p, categorical, surrogate.profile)[0])(points)
    feasible = feasible_rows(history)
    mean = jnp.where(feasible, means, jnp.inf)
    where = jnp.argmin(mean)
    any_feasible = jnp.any(feasible)
    best = jnp.where(any_feasible, mean[where], 0.0)
    incumbent = jnp.where(any_feasible, history.units[where], 0.5)
    return Model(posterior, best, incumbent, mean, constraints, any_feasible), thetas
