"""Candidates of a Bayesian search: the design it begins with, even points, perturbations of the best, neighbours."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.covariance import Profile
from jhpo.kernels.sobol import MAX_DIM, sobol
from jhpo.strategies.bayes.history import EMPTY, SAME, History
from jhpo.strategies.bayes.model import Model

if TYPE_CHECKING:
    from jhpo.space.space import Space

# Discrete coordinates with more cells than this are also moved by the gradient, and take steps instead of all values.
MANY_CELLS = 8
# Finite spaces with at most so many points are searched completely.
_ENUMERABLE = 2048
# Candidates times rows of the model: long histories are searched with fewer candidates.
_MOST_PRODUCTS = 2**20


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


class Even(NamedTuple):
    """Points of the even design among those of the model; q rows, or one."""

    wanted: jax.Array  # bool[q], the point comes next, unless it is known
    units: jax.Array  # float[q, d], canonical


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
        if cells <= MANY_CELLS or (space.categorical[j] and cells <= 64):
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
