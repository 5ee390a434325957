"""What the Gaussian process is conditioned on: rows, targets, gradients, and fantasies of pending points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from jhpo.kernels import counter_random, gp, warp
from jhpo.kernels.cells import distinct
from jhpo.kernels.covariance import Points, Profile
from jhpo.kernels.gp_slopes import Slopes
from jhpo.strategies.bayes.front import Front, extended
from jhpo.strategies.bayes.ground import Ground
from jhpo.strategies.bayes.history import EMPTY, OBSERVED, PENDING, History, told_rows

# Values and derivatives together make at most so many rows.
SLOPE_ROWS = 512
# A gradient longer than this many median ones comes from chaotic training and is ignored.
_CHAOS = 10.0
# Noise variance of an outlier, relative to the variance of the targets.
_DOUBT = 1.0


class Model(NamedTuple):
    """The fitted model as the acquisition function uses it."""

    posterior: gp.Posterior  # of the standardised objective, in several worlds: see `imagine`; stacked over several
    best: jax.Array | Front  # float[worlds], the lowest posterior mean at a feasible observed point, or an imagined one
    incumbent: jax.Array  # float[d], the best observed point, or one on the front
    mean: (
        jax.Array
    )  # float[N], posterior means at the rows, inf where not observed and feasible; of the first of several
    constraints: gp.Posterior | None  # stacked over the c constraints
    any_feasible: jax.Array  # bool[]
    unexplained: jax.Array  # float[], variance of a left-out target's error, as a share of the targets' variance


class Surrogate(NamedTuple):
    """Options of the model; all but the ground and what an ask doubts are Python values."""

    ground: Ground
    profile: Profile
    warp: str  # half_rank, half_log or none
    iterations: int
    fit_rows: int  # the parameters are fitted to at most so many rows
    worlds: int  # number of fantasy values of a pending point
    reference: np.ndarray | None = None  # float[m], of several objectives, to be minimised; None for one from the data
    # bool[], what an ask of several objectives doubts; None for never: that all ends of the front were seen (its
    # reference point lies beyond all results), and the lengthscales (they are taken for shorter)
    ends: jax.Array | None = None
    shorter: jax.Array | None = None


def feasible_rows(history: History) -> jax.Array:
    """bool[N]: observed, and no measured constraint violated."""
    return (history.status == OBSERVED) & history.feasible


def targets(history: History, kind: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Standardised targets, variances in their units, and their derivatives by the values.

    Failed rows get the worst target. The ranks of "half_rank" have no derivative; it is then that of the scaling only.
    """
    seen = history.status == OBSERVED
    told = told_rows(history)
    y, slope = warp.tame(history.value, seen)
    if kind == "half_rank":
        y = warp.half_rank(y, seen)
    elif kind == "half_log":
        y, steep = warp.half_log(y, seen)
        slope = slope * steep
    worst = jnp.max(jnp.where(seen, y, -jnp.inf))
    y = jnp.where(seen, y, jnp.where(jnp.isfinite(worst), worst, 0.0))
    y, scale = warp.standardize(y, told)
    slope = slope / scale
    known = history.variance * slope * slope
    # an outlier may be a fault of one evaluation: extra noise keeps it from shaping its neighbourhood
    doubt = jnp.where(warp.stray(history.value, seen), _DOUBT, 0.0)
    return y, jnp.where(seen, known + doubt, 0.0), slope


def slopes(surrogate: Surrogate, history: History, points: Points, steep: jax.Array, weights: jax.Array) -> Slopes:
    """The gradients in the model: those of the best and nearest points, without chaotic ones.

    Args:
        steep: float[N], derivatives of the targets by the values. weights: float[d], 1 / lengthscale^2.
    """
    n, d = history.units.shape
    continuous = surrogate.ground.continuous[None, :]
    known = continuous if points.active is None else continuous & points.active
    grad = jnp.where(known, history.grad * steep[:, None], 0.0)
    length = jnp.sqrt(jnp.sum(grad * grad, axis=1))
    usable = (history.status == OBSERVED) & jnp.isfinite(length)
    middle = (jnp.maximum(jnp.sum(usable, dtype=jnp.int32), 1) - 1) // 2
    usable = usable & (length <= _CHAOS * jnp.sort(jnp.where(usable, length, jnp.inf))[middle])
    count = min(n, (SLOPE_ROWS - n) // d)
    first = jnp.where(usable, _priority(history, weights, surrogate.ground), jnp.iinfo(jnp.int32).max)
    index = jnp.sort(jax.lax.top_k(-first, count)[1]).astype(jnp.int32)
    return Slopes(index, grad[index], jnp.broadcast_to(known & usable[:, None], grad.shape)[index])


def _priority(history: History, weights: jax.Array, ground: Ground) -> jax.Array:
    """int32[N], lowest first: a quarter of the rows by value, the others by their distance from the best one."""
    value = jnp.where(feasible_rows(history), history.value, jnp.inf)
    gap = history.units - history.units[jnp.argmin(value)][None, :]
    terms = gap * gap
    if ground.categorical is not None:
        terms = jnp.where(jnp.asarray(ground.categorical)[None, :], distinct(gap).astype(gap.dtype), terms)
    near = warp.masked_rank(terms @ weights, history.status != EMPTY)
    return jnp.minimum(near, 3 * warp.masked_rank(value, history.status == OBSERVED))


def select(
    history: History, slots: jax.Array, rows: int, weights: jax.Array, ground: Ground
) -> tuple[History, jax.Array]:
    """Select ``rows`` rows of a long history: the pending ones, the best, and those nearest to the best.

    Args:
        slots: int32[q], rows reserved for new points; always selected.
        weights: float[d], 1 / lengthscale^2.

    Returns:
        The selection, and where the slots lie in it.
    """
    if history.status.shape[0] <= rows:
        return history, slots
    priority = jnp.where(history.status == PENDING, -1, _priority(history, weights, ground))
    priority = jnp.where(history.status == EMPTY, jnp.iinfo(jnp.int32).max, priority).at[slots].set(-2)
    index = jnp.sort(jax.lax.top_k(-priority, rows)[1])
    return jax.tree.map(lambda leaf: leaf[index], history), jnp.searchsorted(index, slots).astype(jnp.int32)


def imagine(surrogate: Surrogate, model: Model, slot: jax.Array, point: Points, stream: jax.Array) -> Model:
    """Add a pending point to the model, with a different fantasy value from the posterior in each world.

    The next point is then chosen by its expected improvement averaged over them (Snoek et al. 2012, "Practical Bayesian
    optimization of machine learning algorithms", sec. 3.2). Measured constraints get their predicted values.

    Args:
        slot: int32[], a free row of the model. stream: uint32[2], of random numbers.
    """
    categorical, profile = surrogate.ground.categorical, surrogate.profile

    def appended(posterior: gp.Posterior, number: jax.Array) -> tuple[gp.Posterior, jax.Array]:
        mean, variance = gp.predict(posterior, point, categorical, profile)
        total = variance + posterior.parameters.noise
        worlds = mean.shape[0]
        # a few worlds suffice with the same quantiles for every point, in a random order that makes them independent
        levels = jnp.asarray(ndtri((np.arange(worlds) + 0.5) / worlds), mean.dtype)
        place = number.astype(jnp.uint32) * np.uint32(worlds) + jnp.arange(worlds, dtype=jnp.uint32)
        normals = levels[jnp.argsort(counter_random.scramble(place, stream))]
        value = mean + jnp.sqrt(total) * normals
        known = mean + variance / jnp.sqrt(total) * normals  # the posterior's mean there, given the value
        return gp.append(posterior, slot, point, value, categorical, profile), known

    posterior, known = of_each(model, appended, _numbers(model, slot))
    constraints, allowed = model.constraints, jnp.ones((), bool)
    if constraints is not None:
        slack = jax.vmap(lambda p: gp.predict(p, point, categorical, profile)[0])(constraints)
        allowed = (slack >= 0).all()
        constraints = jax.vmap(lambda p, y: gp.append(p, slot, point, y, categorical, profile))(constraints, slack)
    best: jax.Array | Front
    if isinstance(model.best, Front):
        best = extended(model.best, slot, jnp.where(allowed, known.T, jnp.inf))
    else:
        best = jnp.where(allowed, jnp.minimum(model.best, known), model.best)
    return model._replace(posterior=posterior, best=best, constraints=constraints)


def of_each(model: Model, f: Callable[..., Any], *arrays: jax.Array) -> Any:
    """``f`` of the posterior and arrays; of every objective's, side by side, if there are several."""
    return (jax.vmap(f) if isinstance(model.best, Front) else f)(model.posterior, *arrays)


def _numbers(model: Model, slot: jax.Array) -> jax.Array:
    """A number for the imagined values of a row, or int32[m], one for each of several objectives."""
    if not isinstance(model.best, Front):
        return slot
    m = model.best.reference.shape[0]
    return slot * m + jnp.arange(m, dtype=jnp.int32)
