"""Fitting the model to a history, and conditioning it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels import counter_random, gp, gp_fit, gp_slopes, warp
from jhpo.kernels.covariance import Points
from jhpo.kernels.loops import side_by_side
from jhpo.strategies.bayes import front as fronts
from jhpo.strategies.bayes.history import OBSERVED, PENDING, History, told_rows
from jhpo.strategies.bayes.model import Model, Surrogate, feasible_rows, imagine, slopes, targets
from jhpo.strategies.bayes.randomness import Randomness

# Fits of at most so many rows have two starts: the last parameters and the mode of the prior.
_TWO_STARTS = 64
# What an ask that doubts the model takes off the logarithms of its lengthscales. Results crowd along a front, and say
# little of lengthscales across it: too long ones are then sure that a part of the front that nobody has seen is bad.
_SHORTER = 0.7


class Targets(NamedTuple):
    """What k processes are conditioned on, all at the same points; see `gp.Data`."""

    y: jax.Array  # float[k, N]
    variance: jax.Array  # float[k, N]
    mask: jax.Array  # bool[k, N]


def build(
    surrogate: Surrogate, history: History, theta: jax.Array, refit: jax.Array, random: Randomness
) -> tuple[Model, jax.Array]:
    """Fit the model's parameters and condition it on the history.

    Args:
        surrogate: options of the model.
        history: at most a thousand rows, a power of two.
        theta: float[1 + c, d + 3] (d + 4 with slopes), the parameters of the last fit: objective, then measured
            constraints.
        refit: bool[], False keeps these parameters.
        random: the random choices.

    Returns:
        The model and the new theta.
    """
    points = surrogate.ground.points_of(history.units)
    process = _single if history.values is None else _several
    model, thetas = process(surrogate, history, points, theta, refit, random)
    model = _imagine_pending(surrogate, model, points, history.status == PENDING, random.worlds)
    if isinstance(model.best, fronts.Front):
        front = fronts.completed(model.best)
        assert front.centres is not None
        # the first that was observed
        middle = front.centres[jnp.argmax(jnp.isfinite(model.mean[front.centres]))]
        incumbent = jnp.where(model.any_feasible, history.units[middle], 0.5)
        model = model._replace(best=front, incumbent=incumbent)
    return model, thetas


def _single(
    surrogate: Surrogate, history: History, points: Points, theta: jax.Array, refit: jax.Array, random: Randomness
) -> tuple[Model, jax.Array]:
    """`build` for one objective, before pending rows are imagined."""
    y, variance, steep = targets(history, surrogate.warp)
    told = told_rows(history)
    measured = _constraints(history)
    constraints: gp.Posterior | None
    if history.grad.shape[1]:
        data = gp.Data(points, y, variance, told)
        fitted, posterior = _process_with_slopes(surrogate, theta[0], data, history, steep, refit)
        thetas, constraints = fitted[None], None
        if history.constraint.shape[1]:
            width = surrogate.ground.dim + 3  # only the objective has gradients, and so their noise
            own, constraints = _processes(surrogate, theta[1:, :width], points, measured, refit, random.rows)
            thetas = jnp.concatenate([thetas, theta[1:].at[:, :width].set(own)])
    else:
        every = _joined(Targets(y[None], variance[None], told[None]), measured)
        thetas, posteriors = _processes(surrogate, theta, points, every, refit, random.rows)
        posterior, constraints = _parted(posteriors, 1)
        posterior = jax.tree.map(lambda leaf: leaf[0], posterior)

    unexplained = _unexplained(posterior, y, told)
    feasible = feasible_rows(history)
    mean = jnp.where(feasible, gp.fitted(posterior, variance), jnp.inf)
    where = jnp.argmin(mean)
    any_feasible = jnp.any(feasible)
    best = jnp.where(any_feasible, mean[where], 0.0)
    incumbent = jnp.where(any_feasible, history.units[where], 0.5)
    in_all = lambda leaf: jnp.broadcast_to(leaf, (surrogate.worlds, *leaf.shape))  # noqa: E731
    posterior = posterior._replace(y=in_all(posterior.y), alpha=in_all(posterior.alpha))
    return Model(posterior, in_all(best), incumbent, mean, constraints, any_feasible, unexplained), thetas


def _several(
    surrogate: Surrogate, history: History, points: Points, theta: jax.Array, refit: jax.Array, random: Randomness
) -> tuple[Model, jax.Array]:
    """`_single` with an independent process for every objective; the front is not completed."""
    assert history.values is not None
    m = history.values.shape[1]
    told = told_rows(history)
    y, variance, reference = fronts.targets(history, surrogate.warp, surrogate.reference, surrogate.ends)
    every = _joined(Targets(y, variance, jnp.broadcast_to(told, y.shape)), _constraints(history))
    shorter = surrogate.shorter
    if shorter is not None:  # of the objectives
        shorter = shorter & (jnp.arange(every.y.shape[0], dtype=jnp.int32) < m)
    thetas, posteriors = _processes(surrogate, theta, points, every, refit, random.rows, shorter)
    posterior, constraints = _parted(posteriors, m)

    feasible = feasible_rows(history)
    means = jnp.where(feasible[:, None], jax.vmap(gp.fitted)(posterior, variance).T, jnp.inf)
    unexplained = jnp.mean(jax.vmap(lambda p, y: _unexplained(p, y, told))(posterior, y))
    if surrogate.ends is not None:
        near = (unexplained > fronts.MODEST_ABOVE) & ~surrogate.ends
        reference = jnp.where(near, fronts.modest(reference, means), reference)
    front = fronts.front_of(means, reference, surrogate.worlds)
    in_all = lambda leaf: jnp.broadcast_to(leaf[:, None], (m, surrogate.worlds, *leaf.shape[1:]))  # noqa: E731
    posterior = posterior._replace(y=in_all(posterior.y), alpha=in_all(posterior.alpha))
    model = Model(
        posterior=posterior,
        best=front,
        incumbent=jnp.full_like(history.units[0], 0.5),  # known once pending rows are imagined
        mean=means[:, 0],
        constraints=constraints,
        any_feasible=jnp.any(feasible),
        unexplained=unexplained,
    )
    return model, thetas


def _unexplained(posterior: gp.Posterior, y: jax.Array, told: jax.Array) -> jax.Array:
    """float[]: the variance of a left-out target's error, as a share of the targets' variance."""
    wrong = gp.left_out(posterior)[: y.shape[0]]
    return jnp.sum(wrong * wrong) / jnp.maximum(jnp.sum(jnp.where(told, y * y, 0.0)), 1e-30)


def _fitted(
    theta: jax.Array, prior: gp_fit.Prior, rows: int, refit: jax.Array, fit: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """The parameters that ``fit`` finds, or the last ones."""
    starts = jnp.stack([theta, jnp.asarray(prior.mean)]) if rows <= _TWO_STARTS else theta[None]
    return jax.lax.cond(refit, lambda: fit(starts), lambda: theta)


def _process(
    surrogate: Surrogate,
    theta: jax.Array,
    data: gp.Data,
    refit: jax.Array,
    stream: jax.Array,
    shorter: jax.Array | None = None,
) -> tuple[jax.Array, gp.Posterior]:
    """The fitted parameters, and the process that is conditioned with them, or with ``shorter`` lengthscales."""
    ground, profile = surrogate.ground, surrogate.profile
    prior = gp_fit.default_prior(ground.dim, data.y.dtype, ground.count)

    def fit(starts: jax.Array) -> jax.Array:
        some = _fit_rows(stream, data, surrogate.fit_rows)
        return gp_fit.fit(starts, some, prior, ground.categorical, iterations=surrogate.iterations, profile=profile)[0]

    theta = used = _fitted(theta, prior, data.y.shape[0], refit, fit)
    if shorter is not None:
        used = theta.at[: ground.dim].add(jnp.where(shorter, -_SHORTER, 0.0))
    return theta, gp.condition(used, data, ground.categorical, profile)


def _process_with_slopes(
    surrogate: Surrogate, theta: jax.Array, data: gp.Data, history: History, steep: jax.Array, refit: jax.Array
) -> tuple[jax.Array, gp.Posterior]:
    ground, profile = surrogate.ground, surrogate.profile
    categorical = ground.categorical
    known = slopes(surrogate, history, data.points, steep, jnp.exp(-2.0 * theta[: ground.dim]))
    prior = gp_slopes.default_prior(ground.dim, data.y.dtype, ground.count)

    def fit(starts: jax.Array) -> jax.Array:
        return gp_slopes.fit(starts, data, known, prior, categorical, iterations=surrogate.iterations, profile=profile)

    theta = _fitted(theta, prior, data.y.shape[0], refit, fit)
    return theta, gp_slopes.condition(theta, data, known, categorical, profile)


def _processes(
    surrogate: Surrogate,
    theta: jax.Array,
    points: Points,
    targets: Targets,
    refit: jax.Array,
    stream: jax.Array,
    shorter: jax.Array | None = None,
) -> tuple[jax.Array, gp.Posterior]:
    """`_process` of k targets, float[k, d + 3] and bool[k]: thetas and posteriors, stacked.

    One call for objectives and constraints: the program holds what a fit takes once.
    """

    def one(each: tuple[jax.Array, Targets, jax.Array | None]) -> tuple[jax.Array, gp.Posterior]:
        return _process(surrogate, each[0], gp.Data(points, *each[1]), refit, stream, each[2])

    rows = (theta, targets, shorter)
    if theta.shape[0] == 1:
        return jax.tree.map(lambda leaf: leaf[None], one(jax.tree.map(lambda leaf: leaf[0], rows)))
    return side_by_side(one, rows)


def _joined(first: Targets, second: Targets) -> Targets:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def _parted(posteriors: gp.Posterior, k: int) -> tuple[gp.Posterior, gp.Posterior | None]:
    """The first k, and the others if there are any."""
    first = jax.tree.map(lambda leaf: leaf[:k], posteriors)
    return first, jax.tree.map(lambda leaf: leaf[k:], posteriors) if posteriors.y.shape[0] > k else None


def _constraints(history: History) -> Targets:
    """The c measured constraints as targets: scaled but not centred, because their sign matters."""
    known = (history.status == OBSERVED)[:, None] & jnp.isfinite(history.constraint)
    if not known.shape[1]:
        return Targets(history.constraint.T, history.constraint.T, known.T)
    slack = jax.vmap(warp.tame_signed, 1)(jnp.where(known, history.constraint, 0.0), known)
    return Targets(slack, jnp.zeros_like(slack), known.T)


def _fit_rows(stream: jax.Array, data: gp.Data, rows: int) -> gp.Data:
    """A random selection of ``rows`` rows to fit the parameters to, if there are more."""
    if data.mask.shape[0] <= rows:
        return data
    score = jnp.where(data.mask, counter_random.uniform(stream, data.mask.shape, data.y.dtype), -1.0)
    index = jnp.sort(jax.lax.top_k(score, rows)[1])
    return jax.tree.map(lambda leaf: leaf[index], data)


def _imagine_pending(
    surrogate: Surrogate, model: Model, points: Points, pending: jax.Array, stream: jax.Array
) -> Model:
    """Apply `imagine` to every pending row."""

    def one(carry: tuple[jax.Array, Model]) -> tuple[jax.Array, Model]:
        left, model = carry
        row = jnp.argmax(left).astype(jnp.int32)
        point = jax.tree.map(lambda leaf: leaf[row], points)
        return left.at[row].set(False), imagine(surrogate, model, row, point, stream)

    return jax.lax.while_loop(lambda carry: jnp.any(carry[0]), one, (pending, model))[1]
