"""Maximising an acquisition function over a space: scores, polish, batches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import acquisition, gp, lbfgs
from jhpo.kernels.covariance import Points
from jhpo.strategies.bayes.candidates import (
    MANY_CELLS,
    Draws,
    Even,
    Search,
    admissible,
    draws,
    is_small,
    known,
    neighbours,
    number_of_candidates,
    pool,
)
from jhpo.strategies.bayes.history import History, add_pending
from jhpo.strategies.bayes.model import Model, Surrogate, as_points, imagine

# A score below every real one, yet finite, so that arithmetic on scores stays finite.
WORST = -1e20


def utility(model: Model, mean: jax.Array, variance: jax.Array, feasible: jax.Array | None) -> jax.Array:
    """Log expected improvement over all worlds, plus the log probability of feasibility where constraints are measured.

    Args:
        mean: float[..., worlds]. variance, feasible: float[...].
    """
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
    categorical = np.asarray(search.space.categorical)
    slack, spread = jax.vmap(lambda p: gp.predict(p, point, categorical, search.profile))(model.constraints)
    return acquisition.log_probability_feasible(slack, spread)


def score(search: Search, model: Model, point: Points) -> jax.Array:
    """The acquisition function at one point."""
    categorical = np.asarray(search.space.categorical)
    mean, variance = gp.predict(model.posterior, point, categorical, search.profile)
    return utility(model, mean, variance, chance(search, model, point))


def pick(
    search: Search,
    model: Model,
    candidates: jax.Array,
    scores: jax.Array,
    history: History,
    random: Draws,
    low: jax.Array,
    high: jax.Array,
) -> jax.Array:
    """The best point found: the most promising candidates polished, and their neighbours tried. float[d]

    Args:
        scores: float[m], of the candidates; below ``0.4 * WORST`` where one may not be proposed.
    """
    space = search.space
    discrete = bool((space.cells > 0).any())

    def value(units: jax.Array) -> jax.Array:
        found = score(search, model, as_points(space, units))
        return jnp.where(jnp.isfinite(found), jnp.maximum(found, 0.1 * WORST), 0.1 * WORST)

    def values(units: jax.Array) -> jax.Array:
        found = jnp.where(admissible(space, units), jax.vmap(value)(units), 0.5 * WORST)
        return jnp.where(known(space, units, history), WORST, found)

    if is_small(space):
        return candidates[jnp.argmax(scores)]

    # Boltzmann choice without replacement: the best one always, the others with probability ~ exp(standardised score)
    ok = scores > 0.4 * WORST
    count = jnp.maximum(jnp.sum(ok, dtype=scores.dtype), 1.0)
    centre = jnp.sum(jnp.where(ok, scores, 0.0)) / count
    spread = jnp.sqrt(jnp.sum(jnp.where(ok, scores - centre, 0.0) ** 2) / count) + 1e-12
    lottery = jnp.where(ok, 2.0 * (scores - centre) / spread, -1e6) + random.lottery
    lottery = lottery.at[jnp.argmax(scores)].set(jnp.inf)
    _, chosen = jax.lax.top_k(lottery, search.starts - 1)
    starts = jnp.concatenate([candidates[chosen], model.incumbent[None, :]])

    movable = ~np.asarray(space.categorical) & ((space.cells == 0) | (space.cells > MANY_CELLS))
    results = [starts]
    if movable.any():

        def polish(start: jax.Array) -> jax.Array:
            point = as_points(space, start)
            free = jnp.asarray(movable) if point.active is None else jnp.asarray(movable) & point.active
            # the relaxed point: integers with many cells between their cells, all else as at the start
            smooth = jax.value_and_grad(lambda x: -score(search, model, point._replace(x=x)))
            lower, upper = jnp.where(free, low, start), jnp.where(free, high, start)
            return lbfgs.minimize(smooth, start, lower, upper, iterations=search.iterations, memory=6, tolerance=1e-3).x

        polished = jax.vmap(polish)(starts)
        if space.has_constraints:  # back towards the start, if the polish left the feasible region
            shares = jnp.asarray([0.9, 0.5, 0.1], starts.dtype)[:, None, None]
            back = starts[None] + shares * (polished - starts)[None]
            results.append(back.reshape(-1, space.dim))
        results.append(space.canonical(polished))
    final = jnp.concatenate(results)
    if discrete:
        rounds = jnp.concatenate([final, space.canonical(neighbours(space, final))])
        best = rounds[jnp.argmax(values(rounds))]
        final = jnp.concatenate([best[None], space.canonical(neighbours(space, best[None])), candidates[:64]])
    found = space.canonical(final)
    return found[jnp.argmax(values(found))]


def batch(
    search: Search,
    surrogate: Surrogate,
    model: Model,
    history: History,
    rows: jax.Array,
    slots: jax.Array,
    key: jax.Array,
    low: jax.Array,
    high: jax.Array,
    even: Even,
) -> jax.Array:
    """Points one after the other, each chosen while those before are imagined. float[q, d]

    Args:
        history: the whole one, to tell known points; rows: int32[q], free ones in it.
        slots: int32[q], free rows of the model's posterior.
        even: points that take the place of the model's own.
    """
    space, profile = search.space, search.profile
    categorical = np.asarray(space.categorical)
    draw_key, imagine_key = jax.random.split(key)
    random = draws(search, draw_key, number_of_candidates(search, model), model.incumbent.dtype)
    candidates = pool(search, model, random, draw_key, low, high)
    points = as_points(space, candidates)
    barred = ~admissible(space, candidates)
    scale = model.posterior.parameters.scale

    def scores(model: Model, explained: jax.Array, history: History) -> jax.Array:
        mean = explained @ (model.posterior.root @ model.posterior.y.T)
        variance = jnp.maximum(scale - jnp.sum(explained * explained, axis=1), 1e-12 * scale)
        feasible = jax.vmap(lambda p: chance(search, model, p))(points)
        found = utility(model, mean, variance, feasible)
        found = jnp.where(jnp.isfinite(found), jnp.maximum(found, 0.1 * WORST), 0.1 * WORST)
        found = jnp.where(barred, 0.5 * WORST, found)
        return jnp.where(known(space, candidates, history), WORST, found)

    def choose(model: Model, explained: jax.Array, history: History, even: Even) -> jax.Array:
        own = pick(search, model, candidates, scores(model, explained, history), history, random, low, high)
        return jnp.where(even.wanted & ~known(space, even.units[None], history)[0], even.units, own)

    def one(
        carry: tuple[Model, jax.Array, History], at: tuple[jax.Array, jax.Array, Even]
    ) -> tuple[tuple[Model, jax.Array, History], jax.Array]:
        (model, explained, history), (row, slot, even) = carry, at
        unit = choose(model, explained, history, even)
        point = as_points(space, unit)
        column = gp.extend(model.posterior, explained, points, point, categorical, profile)
        history = add_pending(history, row, unit)
        model = imagine(surrogate, model, slot, point, imagine_key)
        return (model, explained.at[:, slot].set(column), history), unit

    explained = gp.whiten(model.posterior, points, categorical, profile)
    if rows.shape[0] == 1:
        return choose(model, explained, history, jax.tree.map(lambda leaf: leaf[0], even))[None]
    return jax.lax.scan(one, (model, explained, history), (rows, slots, even))[1]
