"""From a history to a conditioned Gaussian process: which rows, which targets, which parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import gp, gp_slopes, warp
from jhpo.kernels.covariance import Points, Profile
from jhpo.kernels.gp_slopes import Slopes
from jhpo.strategies._bayes_history import EMPTY, FAILED, OBSERVED, PENDING, History

if TYPE_CHECKING:
    from jhpo.space import Space
# Fits of at most so many rows begin twice: at the last parameters and at the mode of the prior.
_TWO_STARTS = 64
# Values and derivatives together make at most so many rows.
SLOPE_ROWS = 512
# Training is chaotic where a gradient is longer than so many median ones: it says nothing, and counts for nothing.
_CHAOS = 10.0


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
    warp: str  # half_rank, half_log or none
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


def targets(history: History, kind: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Standardised targets, variances in their units, and their derivatives by the values; failed rows get the worst
    target met. (The ranks of "half_rank" have no derivative: there it is only that of the scale.)"""
    seen = history.status == OBSERVED
    told = seen | (history.status == FAILED)
    y, first = warp.standardize(history.value, seen)
    slope = jnp.ones_like(y)
    if kind == "half_rank":
        y = warp.half_rank(y, seen)
    elif kind == "half_log":
        y, slope = warp.half_log(y, seen)
    worst = jnp.max(jnp.where(seen, y, -jnp.inf))
    y = jnp.where(seen, y, jnp.where(jnp.isfinite(worst), worst, 0.0))
    y, scale = warp.standardize(y, told)
    slope = slope / first / scale
    return y, jnp.where(seen, history.variance * slope * slope, 0.0), slope


def slopes(surrogate: Surrogate, history: History, points: Points, steep: jax.Array, weights: jax.Array) -> Slopes:
    """The gradients that the model is told: of the best and nearest points whose gradient means something.

    Args:
        steep: float[N], derivatives of the targets by the values. weights: float[d], 1 / lengthscale^2.
    """
    n, d = history.units.shape
    continuous = jnp.asarray(surrogate.space.cells == 0)[None, :]
    known = continuous if points.active is None else continuous & points.active
    grad = jnp.where(known, history.grad * steep[:, None], 0.0)
    length = jnp.sqrt(jnp.sum(grad * grad, axis=1))
    usable = (history.status == OBSERVED) & jnp.isfinite(length)
    middle = (jnp.maximum(jnp.sum(usable, dtype=jnp.int32), 1) - 1) // 2
    usable = usable & (length <= _CHAOS * jnp.sort(jnp.where(usable, length, jnp.inf))[middle])
    count = min(n, (SLOPE_ROWS - n) // d)
    first = jnp.where(usable, _priority(history, weights, surrogate.space), jnp.iinfo(jnp.int32).max)
    index = jnp.sort(jax.lax.top_k(-first, count)[1]).astype(jnp.int32)
    return Slopes(index, grad[index], jnp.broadcast_to(known & usable[:, None], grad.shape)[index])


def _priority(history: History, weights: jax.Array, space: Space) -> jax.Array:
    """int32[N], lowest first: a quarter of the rows by value, the others by their distance from the best one."""
    value = jnp.where(feasible_rows(history), history.value, jnp.inf)
    gap = history.units - history.units[jnp.argmin(value)][None, :]
    gap = jnp.where(jnp.asarray(space.categorical)[None, :], (gap != 0).astype(gap.dtype), gap * gap)
    near = warp.masked_rank(gap @ weights, history.status != EMPTY)
    return jnp.minimum(near, 3 * warp.masked_rank(value, history.status == OBSERVED))


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
    priority = jnp.where(history.status == PENDING, -1, _priority(history, weights, space))
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


def _condition(
    surrogate: Surrogate, condition: Callable[[gp.Data], gp.Posterior], data: gp.Data, pending: jax.Array
) -> gp.Posterior:
    """Condition on the data, then also on pending rows at their predicted mean: certain there, nothing new believed."""
    categorical, profile = surrogate.categorical, surrogate.profile

    def predicted(posterior: gp.Posterior) -> jax.Array:
        return jax.vmap(lambda p: gp.predict(posterior, p, categorical, profile)[0])(data.points)

    def again(carry: tuple[jax.Array, gp.Posterior]) -> tuple[jax.Array, gp.Posterior]:
        turn, before = carry
        y = jnp.where(pending & (turn > 0), predicted(before), data.y)
        rows = data._replace(y=y, mask=data.mask | (pending & (turn > 0)))
        return turn + 1, condition(rows)

    blank = jax.eval_shape(condition, data)
    start = (jnp.int32(0), jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), blank))
    turns = 1 + jnp.any(pending).astype(jnp.int32)
    return jax.lax.while_loop(lambda carry: carry[0] < turns, again, start)[1]


def build(
    surrogate: Surrogate, history: History, theta: jax.Array, refit: jax.Array, key: jax.Array
) -> tuple[Model, jax.Array]:
    """Fit and condition.

    Args:
        history: at most a thousand rows, a power of two.
        theta: float[1 + c, d + 3] (d + 4 with slopes), the parameters of the last fit: objective, then measured
            constraints.
        refit: bool[], False keeps these parameters.

    Returns:
        The model and the new theta.
    """
    space, categorical, profile = surrogate.space, surrogate.categorical, surrogate.profile
    points = as_points(space, history.units)
    y, variance, steep = targets(history, surrogate.warp)
    seen = history.status == OBSERVED
    pending = history.status == PENDING
    objective = gp.Data(points, y, variance, seen | (history.status == FAILED))
    plain = gp.default_prior(space.dim, y.dtype)

    def parameters(theta: jax.Array, prior: gp.Prior, fit: Callable[[jax.Array], jax.Array]) -> jax.Array:
        starts = jnp.stack([theta, jnp.asarray(prior.mean)]) if y.shape[0] <= _TWO_STARTS else theta[None]
        return jax.lax.cond(refit, lambda: fit(starts), lambda: theta)

    def process(theta: jax.Array, data: gp.Data) -> tuple[jax.Array, gp.Posterior]:
        def fit(starts: jax.Array) -> jax.Array:
            rows = _fit_rows(key, data, surrogate.fit_rows)
            return gp.fit(starts, rows, plain, categorical, iterations=surrogate.iterations, profile=profile)[0]

        theta = parameters(theta, plain, fit)
        return theta, _condition(surrogate, lambda rows: gp.condition(theta, rows, categorical, profile), data, pending)

    def sloped(theta: jax.Array, data: gp.Data) -> tuple[jax.Array, gp.Posterior]:
        known = slopes(surrogate, history, points, steep, jnp.exp(-2.0 * theta[: space.dim]))
        prior = gp_slopes.default_prior(space.dim, y.dtype)

        def fit(starts: jax.Array) -> jax.Array:
            return gp_slopes.fit(
                starts, data, known, prior, categorical, iterations=surrogate.iterations, profile=profile
            )

        theta = parameters(theta, prior, fit)
        return theta, _condition(
            surrogate, lambda rows: gp_slopes.condition(theta, rows, known, categorical, profile), data, pending
        )

    fitted, posterior = (sloped if history.grad.shape[1] else process)(theta[0], objective)
    thetas, constraints = fitted[None], None
    if history.constraint.shape[1]:
        known = seen[:, None] & jnp.isfinite(history.constraint)
        slack = jnp.where(known, history.constraint, 0.0)
        # no mean is taken off a constraint: its sign is what matters
        size = jnp.sqrt(jnp.mean(slack**2, axis=0) / jnp.maximum(jnp.mean(known, axis=0, dtype=slack.dtype), 1e-30))
        slack = slack / jnp.where(size > 0, size, 1.0)[None, :]
        own = theta[1:, : plain.mean.shape[0]]
        own, constraints = jax.lax.map(
            lambda a: process(a[0], gp.Data(points, a[1], jnp.zeros_like(y), a[2])), (own, slack.T, known.T)
        )
        # the noise of slopes, where there is one, is the objective's alone
        thetas = jnp.concatenate([thetas, theta[1:].at[:, : own.shape[1]].set(own)])

    means = jax.vmap(lambda p: gp.predict(posterior, p, categorical, surrogate.profile)[0])(points)
    feasible = feasible_rows(history)
    mean = jnp.where(feasible, means, jnp.inf)
    where = jnp.argmin(mean)
    any_feasible = jnp.any(feasible)
    best = jnp.where(any_feasible, mean[where], 0.0)
    incumbent = jnp.where(any_feasible, history.units[where], 0.5)
    return Model(posterior, best, incumbent, mean, constraints, any_feasible), thetas
