"""Maximising an acquisition function over a space: scores, polish, batches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import acquisition, gp, lbfgs
from jhpo.kernels.covariance import Points
from jhpo.strategies.bayes.candidates import (
    Box,
    Draws,
    Even,
    Search,
    draws,
    flipped,
    known,
    number_of_candidates,
    pool,
)
from jhpo.strategies.bayes.front import Front, improvement
from jhpo.strategies.bayes.ground import FLIPS, Ground
from jhpo.strategies.bayes.history import History, add_pending
from jhpo.strategies.bayes.model import Model, Surrogate, imagine, of_each
from jhpo.strategies.bayes.randomness import Randomness

# Grades below every score, finite so that arithmetic on them stays finite: the acquisition has no value, the point
# violates the space's constraints, it was asked for before. Candidates above the last may be polished.
_NO_VALUE, _OUTSIDE, _KNOWN = -1e19, -5e19, -1e20
_ELIGIBLE = -4e19


class Field(NamedTuple):
    """The m candidates of one batch."""

    candidates: jax.Array  # float[m, d], canonical
    points: Points  # the same, as kernels see them
    inside: jax.Array  # bool[m], no constraint of the space is violated
    random: Draws
    box: Box


class Room(NamedTuple):
    """The rows of the q new points."""

    rows: jax.Array  # int32[q], free ones in the whole history
    slots: jax.Array  # int32[q], the same ones in the model's posterior


def utility(model: Model, mean: jax.Array, variance: jax.Array, feasible: jax.Array | None) -> jax.Array:
    """Log expected improvement over all worlds, plus the log probability of feasibility where constraints are measured.

    Args:
        mean: float[..., worlds]. variance, feasible: float[...]. With several objectives mean and variance have a
            leading axis of their number more.
    """
    if isinstance(model.best, Front):
        worth = functools.partial(improvement, model.best)
        value = worth(mean, variance) if variance.ndim == 1 else jax.vmap(worth, 1)(mean, variance)
    else:
        best = jnp.broadcast_to(model.best, mean.shape)
        value = acquisition.log_expected_improvement(mean, variance[..., None], best)
        value = jax.nn.logsumexp(value, axis=-1) - float(np.log(mean.shape[-1]))
    if feasible is None:
        return value
    # while nothing feasible is known, look for feasibility alone
    return jnp.where(model.any_feasible, value, 0.0) + feasible


def chance(search: Search, model: Model, point: Points) -> jax.Array | None:
    """Log probability that a point meets the measured constraints; None without any."""
    if model.constraints is None:
        return None
    categorical = search.ground.categorical
    slack, spread = jax.vmap(lambda p: gp.predict(p, point, categorical, search.profile))(model.constraints)
    return acquisition.log_probability_feasible(slack, spread)


def score(search: Search, model: Model, point: Points) -> jax.Array:
    """The acquisition function at one point."""
    mean, variance = of_each(model, lambda p: gp.predict(p, point, search.ground.categorical, search.profile))
    return utility(model, mean, variance, chance(search, model, point))


def graded(found: jax.Array, inside: jax.Array, seen: jax.Array) -> jax.Array:
    """float[m]: the scores, or the grade of a point that is without a value, infeasible or known."""
    found = jnp.where(jnp.isfinite(found), jnp.maximum(found, _NO_VALUE), _NO_VALUE)
    return jnp.where(seen, _KNOWN, jnp.where(inside, found, _OUTSIDE))


def pick(search: Search, model: Model, field: Field, scores: jax.Array, history: History) -> jax.Array:
    """The best point found after polishing the best candidates and trying their neighbours. float[d]

    Args:
        search: the space and options of the search.
        model: the fitted model.
        field: the candidates.
        scores: float[m], of the candidates, graded.
        history: the whole history, which holds the known points.
    """
    ground = search.ground
    if ground.points is not None:  # every point there is has its score
        return field.candidates[jnp.argmax(scores)]

    def best_of(units: jax.Array) -> tuple[jax.Array, jax.Array]:
        units = ground.canonical(units)
        found = jax.vmap(lambda u: score(search, model, ground.points_of(u)))(units)
        found = graded(found, ground.admissible(units), known(units, history))
        where = jnp.argmax(found)
        return units[where], found[where]

    starts = _starts(search, model, field, scores)
    final = jnp.concatenate([starts, *_polished(search, model, starts, field.box)])
    if ground.flips is None:
        return best_of(final)[0]
    return _climbed(ground, field.candidates, final, best_of)


def _climbed(
    ground: Ground,
    candidates: jax.Array,
    final: jax.Array,
    best_of: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
) -> jax.Array:
    """The best of some points, a few candidates, the neighbours of these points, and those of the best of all. float[d]

    One loop looks at all of them, so that the program holds what a look takes only once.

    Args:
        final: float[n, d]. best_of: of any 8 n points the best one and its score.
    """
    assert ground.flips is not None
    n = final.shape[0]
    some = jnp.concatenate([final, candidates])[np.arange(FLIPS * n) % (n + candidates.shape[0])]
    blocks = (jnp.asarray(ground.flips.number) + (FLIPS - 1)) // FLIPS
    row = jnp.arange(n, dtype=jnp.int32)

    def look(i: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # first the points themselves, then block after block of all their changes, then n blocks of the best one's
        again = i > blocks
        centres = jnp.where(again, best[0][None, :], final)
        neighbours = flipped(ground, centres, jnp.where(again, (i - blocks - 1) * n + row, i - 1))
        other = best_of(jnp.where(i == 0, some, neighbours))
        better = other[1] > best[1]
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), other, best)

    worst = jnp.full((), -jnp.inf, final.dtype)
    return jax.lax.fori_loop(0, 1 + blocks + (blocks + n - 1) // n, look, (final[0], worst))[0]


def _starts(search: Search, model: Model, field: Field, scores: jax.Array) -> jax.Array:
    """Points to polish: the best candidate, others with probability ~ exp(standardised score), and the incumbent."""
    ok = scores > _ELIGIBLE
    count = jnp.maximum(jnp.sum(ok, dtype=scores.dtype), 1.0)
    centre = jnp.sum(jnp.where(ok, scores, 0.0)) / count
    spread = jnp.sqrt(jnp.sum(jnp.where(ok, scores - centre, 0.0) ** 2) / count) + 1e-12
    # the largest of logits with Gumbel noise: draws without replacement
    lottery = jnp.where(ok, 2.0 * (scores - centre) / spread, -1e6) + field.random.lottery
    lottery = lottery.at[jnp.argmax(scores)].set(jnp.inf)
    _, chosen = jax.lax.top_k(lottery, search.starts - 1)
    return jnp.concatenate([field.candidates[chosen], model.incumbent[None, :]])


def _polished(search: Search, model: Model, starts: jax.Array, box: Box) -> list[jax.Array]:
    """The starts moved uphill by L-BFGS; in a space with constraints also points on the way."""
    ground = search.ground
    movable = ground.movable

    def problem(start: jax.Array) -> tuple[lbfgs.ValueAndGrad, jax.Array, jax.Array]:
        point = ground.points_of(start)
        free = movable if point.active is None else movable & point.active
        # the relaxed point: integers with many cells between their cells, all else as at the start
        smooth = jax.value_and_grad(lambda x: -score(search, model, point._replace(x=x)))
        return smooth, jnp.where(free, box.low, start), jnp.where(free, box.high, start)

    polished = lbfgs.minimize_each(problem, starts, iterations=search.iterations, memory=6, tolerance=1e-3).x
    if ground.bounded is None:
        return [polished]
    # back towards the start, if the polish left the feasible region
    shares = jnp.asarray([0.9, 0.5, 0.1], starts.dtype)[:, None, None]
    back = starts[None] + shares * (polished - starts)[None]
    return [back.reshape(-1, ground.dim), polished]


def batch(
    search: Search,
    surrogate: Surrogate,
    model: Model,
    history: History,
    room: Room,
    *,
    box: Box,
    even: Even,
    random: Randomness,
) -> jax.Array:
    """Choose points one after the other, each with fantasies for those before it. float[q, d]

    Args:
        search: the space and options of the search.
        surrogate: options of the model.
        model: the fitted model.
        history: the whole history, which holds the known points.
        room: rows of the new points.
        box: bounds of the points.
        even: space-filling points that may replace the model's.
        random: the random choices.
    """
    ground, profile = search.ground, search.profile
    drawn = draws(search, random.search, number_of_candidates(search, model), model.incumbent.dtype)
    candidates = pool(search, model, drawn, random.key, box)
    field = Field(candidates, ground.points_of(candidates), ground.admissible(candidates), drawn, box)

    def moments(posterior: gp.Posterior, explained: jax.Array) -> tuple[jax.Array, jax.Array]:
        scale = posterior.parameters.scale
        mean = explained @ (posterior.root @ posterior.y.T)
        return mean, jnp.maximum(scale - jnp.sum(explained * explained, axis=1), 1e-12 * scale)

    def choose(model: Model, explained: jax.Array, history: History, even: Even) -> jax.Array:
        mean, variance = of_each(model, moments, explained)
        feasible = jax.vmap(lambda p: chance(search, model, p))(field.points)
        scores = graded(utility(model, mean, variance, feasible), field.inside, known(candidates, history))
        own = pick(search, model, field, scores, history)
        return jnp.where(even.wanted & ~known(even.units[None], history)[0], even.units, own)

    def one(
        carry: tuple[Model, jax.Array, History], at: tuple[Room, Even]
    ) -> tuple[tuple[Model, jax.Array, History], jax.Array]:
        (model, explained, history), ((row, slot), even) = carry, at
        unit = choose(model, explained, history, even)
        point = ground.points_of(unit)

        def extend(posterior: gp.Posterior, explained: jax.Array) -> jax.Array:
            return gp.extend(posterior, explained, field.points, point, ground.categorical, profile)

        column = of_each(model, extend, explained)
        history = add_pending(history, row, unit)
        model = imagine(surrogate, model, slot, point, random.worlds)
        return (model, explained.at[..., slot].set(column), history), unit

    explained = of_each(model, lambda p: gp.whiten(p, field.points, ground.categorical, profile))
    if room.rows.shape[0] == 1:
        return choose(model, explained, history, jax.tree.map(lambda leaf: leaf[0], even))[None]
    return jax.lax.scan(one, (model, explained, history), (room, even))[1]
