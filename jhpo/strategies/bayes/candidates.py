"""Candidates of a Bayesian search: initial design, space-filling points, perturbations of the best, neighbours."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import counter_random
from jhpo.kernels.cells import distinct
from jhpo.kernels.covariance import Profile
from jhpo.kernels.sobol import sobol
from jhpo.strategies.bayes.front import Front
from jhpo.strategies.bayes.ground import FLIPS, Ground
from jhpo.strategies.bayes.history import EMPTY, History
from jhpo.strategies.bayes.model import Model
from jhpo.strategies.bayes.randomness import Randomness

# Candidates times rows of the model: long histories are searched with fewer candidates.
_MOST_PRODUCTS = 2**20


class Search(NamedTuple):
    """Where and how to search; all but the ground are Python values."""

    ground: Ground
    profile: Profile
    candidates: int
    starts: int
    iterations: int


class Draws(NamedTuple):
    """All random numbers of one search."""

    scramble: jax.Array  # uint32[d], of the even points
    local: jax.Array  # float[n, w] uniform, of the perturbed points
    lottery: jax.Array  # float[m] Gumbel, of the choice of starts


class Box(NamedTuple):
    """Bounds of the points."""

    low: jax.Array  # float[d]
    high: jax.Array  # float[d]


class Even(NamedTuple):
    """Space-filling points that may replace the model's; q rows, or one."""

    wanted: jax.Array  # bool[q], whether it replaces the model's point, unless it is known
    units: jax.Array  # float[q, d], canonical


def number_of_candidates(search: Search, model: Model) -> int:
    """Even, and fewer where the model has many rows."""
    return 2 * (min(search.candidates, _MOST_PRODUCTS // model.mean.shape[0]) // 2)


def draws(search: Search, stream: jax.Array, m: int, dtype: jnp.dtype) -> Draws:
    """Random numbers for ``m`` candidates from a stream uint32[2]."""
    d, n = search.ground.dim, m // 2
    width = 3 + (2 if search.ground.flips is None else 4) * d
    bits = counter_random.bits(stream, (d + n * width + m,))
    uniform = ((bits[d:] >> 8).astype(dtype) + 0.5) * jnp.asarray(2.0**-24, dtype)
    return Draws(bits[:d], uniform[: n * width].reshape(n, width), -jnp.log(-jnp.log(uniform[n * width :])))


def even_units(ground: Ground, key: jax.Array, seed: jax.Array, n: int, dtype: jnp.dtype) -> jax.Array:
    """Space-filling points: scrambled Sobol, or random samples of a space with priors or constraints."""
    even = ground.even and ground.bounded is None
    return sobol(0, n, ground.dim, seed, dtype) if even else ground.sample(key, n, dtype)


def local_units(ground: Ground, uniform: jax.Array, centres: jax.Array, lengths: jax.Array) -> jax.Array:
    """Perturbations of the centres: a random subset of coordinates moved by steps of many sizes.

    At least one coordinate moves, at most 20 of them on average (Regis and Shoemaker 2013); discrete ones are drawn
    anew half of the time.

    Args:
        uniform: float[n, w], see `draws`. centres: float[m, d]. lengths: float[d], lengthscales, the unit of the steps.
    """
    d, dtype, count = ground.dim, centres.dtype, jnp.asarray(ground.count)
    base = centres[(uniform[:, 0] * centres.shape[0]).astype(jnp.int32)]
    forced = (uniform[:, 1:2] * count.astype(dtype)).astype(jnp.int32) == jnp.arange(d, dtype=jnp.int32)[None, :]
    size = jnp.exp(float(np.log(1e-3)) + float(np.log(500.0)) * uniform[:, 2:3])
    moved = uniform[:, 3 : 3 + d] < 0.5 * jnp.minimum(20.0 / count.astype(dtype), 1.0)
    u = uniform[:, 3 + d : 3 + 2 * d]
    logistic = 0.55 * jnp.log(u / (1.0 - u))  # unit deviation, and cheaper than a normal
    near = jnp.abs(base + size * jnp.clip(lengths, 0.05, 1.0)[None, :] * logistic)  # reflected at both bounds
    near = jnp.clip(1.0 - jnp.abs(1.0 - near), 0.0, 1.0).astype(dtype)
    if ground.flips is not None:
        anew = ~ground.continuous[None, :] & (uniform[:, 3 + 3 * d :] < 0.5)
        near = jnp.where(anew, uniform[:, 3 + 2 * d : 3 + 3 * d], near)
    return jnp.where(moved | forced, near, base)


def flipped(ground: Ground, units: jax.Array, blocks: jax.Array) -> jax.Array:
    """n points with each of 8 changes of one discrete coordinate: float[8 n, d], not canonical.

    Args:
        ground: what has the changes. units: float[n, d]. blocks: int32[n], which 8 of them; the last ones, if there are
            not so many.
    """
    assert ground.flips is not None
    rows = blocks[:, None] * FLIPS + jnp.arange(FLIPS, dtype=jnp.int32)[None, :]
    coordinate, amount, step = (jnp.asarray(x).at[rows].get(mode="clip")[:, :, None] for x in ground.flips[:3])
    hit = coordinate == jnp.arange(ground.dim, dtype=jnp.int32)[None, None, :]
    values, here = amount.astype(units.dtype), units[:, None, :]
    moved = jnp.clip(jnp.where(step, here + values, values), 0.0, 1.0)
    return jnp.where(hit, moved, here).reshape(-1, ground.dim)


def known(units: jax.Array, history: History) -> jax.Array:
    """bool[n]: the (canonical) point is in the history already, told or pending."""
    near = ~distinct(units[:, None, :] - history.units[None, :, :]).any(axis=-1)
    return jnp.any(near & (history.status != EMPTY)[None, :], axis=1)


def pool(search: Search, model: Model, random: Draws, key: jax.Array, box: Box) -> jax.Array:
    """Candidates in the box: space-filling ones and perturbations of the best; every point of a small finite space."""
    ground, dtype = search.ground, model.incumbent.dtype
    if ground.points is not None:
        return ground.canonical(jnp.asarray(ground.points, dtype))
    even = even_units(ground, key, random.scramble, random.local.shape[0], dtype)
    points, weights = model.posterior.points.x, model.posterior.parameters.weights
    if isinstance(model.best, Front):
        # lengthscales in the mean of the objectives
        assert model.best.centres is not None
        best, points, weights = model.best.centres, points[0], jnp.exp(jnp.mean(jnp.log(weights), axis=0))
    else:
        _, best = jax.lax.top_k(-model.mean, min(4, model.mean.shape[0]))
    finite = jnp.isfinite(model.mean[best])[:, None]
    centres = jnp.where(finite, points[best], model.incumbent[None, :])
    lengths = weights[:-1] ** -0.5
    local = local_units(ground, random.local, centres, lengths)
    low, high = box.low[None, :], box.high[None, :]
    return ground.canonical(jnp.concatenate([low + even * (high - low), jnp.clip(local, low, high)]))


def design(
    ground: Ground, history: History, asked: jax.Array, seed: jax.Array, q: int, random: Randomness
) -> jax.Array:
    """The next ``q`` points of the space-filling design, which begins with the default point. float[q, d]

    Args:
        asked: int32[], points asked for so far. seed: uint32[d], the scramble of the Sobol sequence.
    """
    dtype = history.units.dtype
    if ground.points is not None:  # each point once, in random order
        points, number = jnp.asarray(ground.points, dtype), jnp.asarray(ground.number)
        padding = jnp.arange(points.shape[0], dtype=jnp.int32) >= number
        late = known(points, history).astype(dtype) + 2.0 * padding.astype(dtype)
        order = jnp.argsort(late + counter_random.uniform(random.design, late.shape, dtype))
        return ground.canonical(points[order[jnp.arange(q, dtype=jnp.int32) % number]])
    units = sobol(asked, q, ground.dim, seed, dtype) if ground.even else ground.sample(random.key, q, dtype)
    if ground.even and ground.bounded is not None:
        inside = ground.admissible(ground.canonical(units))
        units = jnp.where(inside[:, None], units, ground.sample(random.key, q, dtype))
    first = (asked + jnp.arange(q, dtype=jnp.int32) == 0)[:, None]
    units = jnp.where(first, jnp.asarray(ground.outline.default, dtype)[None, :], units)
    return ground.canonical(units)
