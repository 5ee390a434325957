"""Maximising an acquisition function over a space: candidates, polish, neighbours, batches."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import acquisition, gp, lbfgs
from jhpo.kernels.covariance import Points, Profile
from jhpo.kernels.sobol import MAX_DIM, sobol
from jhpo.strategies._bayes_history import EMPTY, SAME, History, add_pending
from jhpo.strategies._bayes_model import Model, as_points

if TYPE_CHECKING:
    from jhpo.space import Space

# Discrete coordinates with more cells than this are also moved by the gradient, and take steps instead of all values.
_MANY_CELLS = 8
# Finite spaces with at most so many points are searched completely.
_ENUMERABLE = 2048
# Candidates times rows of the model: long histories are searched with fewer candidates.
_MOST_PRODUCTS = 2**20
# A score below every real one, yet finite, so that arithmetic on scores stays finite.
WORST = -1e20


class Search(NamedTuple):
    """Static choices of the search (Python values)."""

    space: Space
    profile: Profile
    candidates: int
    starts: int
    iterations: int


class Draws(NamedTuple):
    """All random numbers of one search, from a single draw: every further one would enlarge the program."""

    scramble: jax.Array  # uint32[d], of the even points
    local: jax.Array  # float[n, w] uniform, of the perturbed points
    lottery: jax.Array  # float[m] Gumbel, of the choice of starts


def number_of_candidates(search: Search, model: Model) -> int:
    """Even, and fewer where the model has many rows."""
    return 2 * (min(search.candidates, _MOST_PRODUCTS // model.mean.shape[0]) // 2)


def draws(search: Search, key: jax.Array, m: int, dtype: jnp.dtype) -> Draws:
    """Random numbers for ``m`` candidates."""
    d, n = search.space.dim, m // 2
    width = 3 + (4 if (search.space.cells > 0).any() else 2) * d
    bits = jax.random.bits(key, (d + n * width + m,), jnp.uint32)
    uniform = ((bits[d:] >> 8).astype(dtype) + 0.5) * jnp.asarray(2.0**-24, dtype)
    return Draws(bits[:d], uniform[: n * width].reshape(n, width), -jnp.log(-jnp.log(uniform[n * width :])))


def even_units(space: Space, key: jax.Array, seed: jax.Array, n: int, dtype: jnp.dtype) -> jax.Array:
    """Even points of the space: scrambled Sobol, or draws of the space where it has priors or constraints."""
    if space.has_constraints or space.dim > MAX_DIM or any(p.prior is not None for p in space.parameters):
        return space.sample_unit(key, n, dtype)
    return sobol(0, n, space.dim, seed, dtype)


def local_units(space: Space, uniform: jax.Array, centres: jax.Array, lengths: jax.Array) -> jax.Array:
    """Perturbations of the centres: a random subset of coordinates moved by steps of many sizes.

    At least one coordinate moves, at most 20 of them on average (Regis and Shoemaker 2013); discrete ones are drawn
    anew half of the time.

    Args:
        uniform: float[n, w], see `draws`. centres: float[m, d]. lengths: float[d], lengthscales, the unit of the steps.
    """
    d, dtype = space.dim, centres.dtype
    base = centres[(uniform[:, 0] * centres.shape[0]).astype(jnp.int32)]
    forced = (uniform[:, 1:2] * d).astype(jnp.int32) == jnp.arange(d, dtype=jnp.int32)[None, :]
    size = jnp.exp(float(np.log(1e-3)) + float(np.log(500.0)) * uniform[:, 2:3])
    moved = uniform[:, 3 : 3 + d] < 0.5 * min(20.0 / d, 1.0)
    u = uniform[:, 3 + d : 3 + 2 * d]
    logistic = 0.55 * jnp.log(u / (1.0 - u))  # unit deviation, and cheaper than a normal
    near = jnp.abs(base + size * jnp.clip(lengths, 0.05, 1.0)[None, :] * logistic)  # reflected at both bounds
    near = jnp.clip(1.0 - jnp.abs(1.0 - near), 0.0, 1.0).astype(dtype)
    discrete = space.cells > 0
    if discrete.any():
        anew = jnp.asarray(discrete)[None, :] & (uniform[:, 3 + 3 * d :] < 0.5)
        near = jnp.where(anew, uniform[:, 3 + 2 * d : 3 + 3 * d], near)
    return jnp.where(moved | forced, near, base)


def flip_table(space: Space) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every one-coordinate change of the discrete coordinates: (coordinate, value or step, is it a step)."""
    coordinate, amount, relative = [], [], []
    for j, cells in enumerate(space.cells):
        if cells == 0 or cells == 1:
            continue
        if cells <= _MANY_CELLS or (space.categorical[j] and cells <= 64):
            values, step = (np.arange(cells) + 0.5) / cells, False
        else:
            sizes = np.unique(np.round(np.geomspace(1, max(cells // 4, 1), 4))) / cells
            values, step = np.concatenate([-sizes, sizes]), True
        coordinate += [j] * len(values)
        amount += list(values)
        relative += [step] * len(values)
    return np.asarray(coordinate, np.int32), np.asarray(amount), np.asarray(relative, bool)


def neighbours(space: Space, units: jax.Array) -> jax.Array:
    """All one-flip neighbours of n points: float[n * f, d]."""
    coordinate, amount, relative = flip_table(space)
    hit = coordinate[:, None] == np.arange(space.dim)[None, :]
    values = jnp.asarray(amount, units.dtype)[None, :, None]
    moved = jnp.clip(jnp.where(jnp.asarray(relative)[None, :, None], units[:, None, :] + values, values), 0.0, 1.0)
    return jnp.where(jnp.asarray(hit)[None], moved, units[:, None, :]).reshape(-1, space.dim)


@functools.lru_cache(maxsize=16)
def every_point(space: Space) -> np.ndarray:
    """float64[n, d]: all points of a small finite space."""
    return np.asarray(space.enumerate(), np.float64)


def is_small(space: Space) -> bool:
    """The space is finite and small enough to be searched completely."""
    return space.cardinality <= _ENUMERABLE


def known(space: Space, units: jax.Array, history: History) -> jax.Array:
    """bool[n]: the (canonical) point is in the history already, told or pending."""
    near = (jnp.abs(units[:, None, :] - history.units[None, :, :]) < SAME).all(axis=-1)
    return jnp.any(near & (history.status != EMPTY)[None, :], axis=1)


def utility(model: Model, mean: jax.Array, variance: jax.Array, feasible: jax.Array | None) -> jax.Array:
    """Log expected improvement, plus the log probability of being feasible where constraints are measured."""
    value = acquisition.log_expected_improvement(mean, variance, model.best)
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


def score(search: Search, model: Model, posterior: gp.Posterior, point: Points) -> jax.Array:
    """The acquisition function at one point."""
    categorical = np.asarray(search.space.categorical)
    mean, variance = gp.predict(posterior, point, categorical, search.profile)
    return utility(model, mean, variance, chance(search, model, point))


def admissible(space: Space, units: jax.Array) -> jax.Array:
    """bool[n]: meets the space's own constraints."""
    if not space.has_constraints:
        return jnp.ones(units.shape[:1], bool)
    return (space.unit_constraint(units) >= 0).all(axis=-1)


def pool(search: Search, model: Model, random: Draws, key: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Candidates in the box: even ones, and perturbations of the best points; all points of a small finite space."""
    space, dtype = search.space, model.incumbent.dtype
    if is_small(space):
        return jnp.asarray(every_point(space), dtype)
    even = even_units(space, key, random.scramble, random.local.shape[0], dtype)
    _, best = jax.lax.top_k(-model.mean, min(4, model.mean.shape[0]))
    finite = jnp.isfinite(model.mean[best])[:, None]
    centres = jnp.where(finite, model.posterior.points.x[best], model.incumbent[None, :])
    lengths = model.posterior.parameters.weights[:-1] ** -0.5
    local = local_units(space, random.local, centres, lengths)
    units = jnp.concatenate([low[None, :] + even * (high - low)[None, :], jnp.clip(local, low[None, :], high[None, :])])
    return space.canonical(units)


def pick(
    search: Search,
    model: Model,
    posterior: gp.Posterior,
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
        found = score(search, model, posterior, as_points(space, units))
        return jnp.where(jnp.isfinite(found), jnp.maximum(found, 0.1 * WORST), 0.1 * WORST)

    def values(units: jax.Array) -> jax.Array:
        found = jnp.where(admissible(space, units), jax.vmap(value)(units), 0.5 * WORST)
        return jnp.where(known(space, units, history), WORST, found) if discrete else found

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

    movable = ~np.asarray(space.categorical) & ((space.cells == 0) | (space.cells > _MANY_CELLS))
    results = [starts]
    if movable.any():

        def polish(start: jax.Array) -> jax.Array:
            point = as_points(space, start)
            free = jnp.asarray(movable) if point.active is None else jnp.asarray(movable) & point.active
            # the relaxed point: integers with many cells between their cells, all else as at the start
            smooth = jax.value_and_grad(lambda x: -score(search, model, posterior, point._replace(x=x)))
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
    model: Model,
    history: History,
    rows: jax.Array,
    slots: jax.Array,
    key: jax.Array,
    low: jax.Array,
    high: jax.Array,
) -> jax.Array:
    """Points one after the other, each conditioned on those before at their predicted mean. float[q, d]

    Args:
        history: the whole one, to tell known points; rows: int32[q], free ones in it.
        slots: int32[q], free rows of the model's posterior.
    """
    space, profile = search.space, search.profile
    categorical, discrete = np.asarray(space.categorical), bool((space.cells > 0).any())
    random = draws(search, key, number_of_candidates(search, model), model.incumbent.dtype)
    candidates = pool(search, model, random, key, low, high)
    points = as_points(space, candidates)
    # all of this is made once; a pick changes one column of the rows, and the variances
    mean, explained = gp.whiten(model.posterior, points, categorical, profile)
    feasible = jax.vmap(lambda p: chance(search, model, p))(points)
    barred = ~admissible(space, candidates)
    scale = model.posterior.parameters.scale

    def scores(explained: jax.Array, history: History) -> jax.Array:
        variance = jnp.maximum(scale - jnp.sum(explained * explained, axis=1), 1e-12 * scale)
        found = utility(model, mean, variance, feasible)
        found = jnp.where(jnp.isfinite(found), jnp.maximum(found, 0.1 * WORST), 0.1 * WORST)
        found = jnp.where(barred, 0.5 * WORST, found)
        return jnp.where(known(space, candidates, history), WORST, found) if discrete else found

    def one(
        carry: tuple[gp.Posterior, jax.Array, History], at: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[gp.Posterior, jax.Array, History], jax.Array]:
        (posterior, explained, history), (row, slot) = carry, at
        unit = pick(search, model, posterior, candidates, scores(explained, history), history, random, low, high)
        point = as_points(space, unit)
        expected, _ = gp.predict(posterior, point, categorical, profile)
        column = gp.extend(posterior, explained, points, point, categorical, profile)
        posterior = gp.append(posterior, slot, point, expected, categorical, profile)
        history = add_pending(history, row, unit)
        return (posterior, explained.at[:, slot].set(column), history), unit

    if rows.shape[0] == 1:
        scored = scores(explained, history)
        return pick(search, model, model.posterior, candidates, scored, history, random, low, high)[None]
    return jax.lax.scan(one, (model.posterior, explained, history), (rows, slots))[1]


def design(space: Space, history: History, asked: jax.Array, seed: jax.Array, q: int, key: jax.Array) -> jax.Array:
    """The next ``q`` points of an even design that begins at the defaults. float[q, d]

    Args:
        asked: int32[], points asked for so far. seed: uint32[d], the scramble of the Sobol sequence.
    """
    dtype = history.units.dtype
    if is_small(space):  # each point once, in random order
        points = jnp.asarray(every_point(space), dtype)
        late = known(space, points, history).astype(dtype)
        order = jnp.argsort(late + jax.random.uniform(key, late.shape, dtype))
        return points[order[jnp.arange(q) % points.shape[0]]]
    if space.dim > MAX_DIM or any(p.prior is not None for p in space.parameters):
        units = space.sample_unit(key, q, dtype)
    else:
        units = sobol(asked, q, space.dim, seed, dtype)
        if space.has_constraints:
            inside = admissible(space, space.canonical(units))
            units = jnp.where(inside[:, None], units, space.sample_unit(key, q, dtype))
    first = (asked + jnp.arange(q, dtype=jnp.int32) == 0)[:, None]
    start = space.default_unit()
    units = jnp.where(first, jnp.asarray(start, dtype)[None, :], units)
    return space.canonical(units)
