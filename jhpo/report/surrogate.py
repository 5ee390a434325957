"""A Gaussian process of a study's trials, along each coordinate through the best one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import JhpoError
from jhpo.kernels import gp, gp_fit, warp
from jhpo.kernels.acquisition import log_expected_improvement
from jhpo.kernels.covariance import Points
from jhpo.kernels.internals import float_precision
from jhpo.process.switches import with_transfers
from jhpo.programs.compilation import cpu_options
from jhpo.report.figures.light import thinned
from jhpo.report.importance import FEWEST
from jhpo.report.trials import Trials
from jhpo.space.cells import centre_of
from jhpo.space.host_rows import active_rows
from jhpo.space.listed import Listed, Ordinal
from jhpo.space.space import Space

MOST = 256  # trials in the model
PLACES = 81  # along a coordinate
_ITERATIONS = 60  # of the fit


class Slices(NamedTuple):
    """The model along the coordinates: m places for each of d."""

    units: np.ndarray  # float64[d, m, d], rows through the best trial; coordinates with few values repeat them
    mean: np.ndarray  # float64[d, m], in the model's own scale, to be minimised
    deviation: np.ndarray  # float64[d, m], without the noise
    improvement: np.ndarray  # float64[d, m], logarithm of the expected improvement
    ids: np.ndarray  # int64[n], the trials in the model, best first
    targets: np.ndarray  # float64[n], their values in the model's scale


@with_transfers
def slices(trials: Trials) -> Slices:
    """A process fitted as `jhpo.BayesOpt` fits its own: Matern-5/2, values worse than the median by their ranks.

    It is fitted to the best and the other trials of the study, whatever strategy proposed them; pending trials,
    failures, trust regions and gradients are left out.

    Raises:
      JhpoError: fewer than eight successful trials.
    """
    ids = trials.table.ranked(trials.sign)
    if len(ids) < FEWEST:
        raise JhpoError(f"model: at least {FEWEST} successful trials are needed, and there are {len(ids)}")
    ids = thinned(ids, MOST)
    space, value = trials.space, trials.sign * trials.table.value.array[ids]
    size = 1 << max(int(len(ids) - 1).bit_length(), 3)
    rows, mask = np.full((size, space.dim), 0.5), np.arange(size) < len(ids)
    rows[: len(ids)] = trials.table.unit.array[ids]
    padded = np.append(value, np.zeros(size - len(ids)))
    units = np.stack([_through(space, rows[0], k) for k in range(space.dim)])
    with float_precision(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        both = np.asarray(_canonical(space, np.concatenate([rows, units.reshape(-1, space.dim)])))
        on = _active(space, both)
        found = _program()((both[:size], on[:size]), padded, mask, (both[size:], on[size:]), _categorical(space))
        mean, deviation, improvement, targets = (np.asarray(part) for part in found)
    shape = units.shape[:2]
    return Slices(units, mean.reshape(shape), deviation.reshape(shape), improvement.reshape(shape), ids,
                  targets[: len(ids)])  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def _canonical(space: Space, rows: jax.Array) -> jax.Array:
    return space.canonical(rows)


@functools.cache
def _program() -> Callable[..., tuple[jax.Array, ...]]:
    return jax.jit(_predicted, compiler_options=cpu_options(quickly=True))


def _predicted(
    rows: tuple[jax.Array, jax.Array], value: jax.Array, mask: jax.Array, queries: tuple[jax.Array, jax.Array],
    categorical: jax.Array,
) -> tuple[jax.Array, ...]:  # fmt: skip
    """Means, deviations and log expected improvements at the queries, and the targets."""
    tamed, _ = warp.tame(value, mask)
    y, _ = warp.standardize(warp.half_rank(tamed, mask), mask)
    data = gp.Data(Points(*rows), y, jnp.zeros_like(y), mask)
    prior = gp_fit.default_prior(rows[0].shape[1], y.dtype)
    theta, _ = gp_fit.fit(prior.mean[None, :], data, prior, categorical, iterations=_ITERATIONS)
    posterior = gp.condition(theta, data, categorical)

    def predict(query: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return gp.predict(posterior, Points(*query), categorical)

    # one coordinate's places at a time: together they take gigabytes where there are hundreds of coordinates
    mean, variance = jax.lax.map(predict, queries, batch_size=PLACES)
    lowest = jnp.min(jnp.where(mask, gp.fitted(posterior, data.variance), jnp.inf))
    improvement = log_expected_improvement(mean, variance, jnp.broadcast_to(lowest, mean.shape))
    return mean, jnp.sqrt(variance), improvement, y


def _through(space: Space, best: np.ndarray, coordinate: int) -> np.ndarray:
    """Rows ``float64[m, d]`` through a point along one coordinate: everywhere, or the middle of each cell."""
    cells = int(space.cells[coordinate])
    places = np.linspace(0.0, 1.0, PLACES)
    if 0 < cells <= PLACES:
        parameter = next(p for p, at in zip(space.parameters, space.slices) if at.start <= coordinate < at.stop)
        places = centre_of(parameter, np.minimum(np.arange(PLACES), cells - 1), np.float64, np)
    rows = np.repeat(best[None], PLACES, axis=0)
    rows[:, coordinate] = places
    return rows


def _active(space: Space, rows: np.ndarray) -> np.ndarray:
    """``bool[n, d]``: which coordinates matter in each row."""
    on = active_rows(space, rows)
    return np.concatenate(
        [np.repeat(a[:, None], where.stop - where.start, axis=1) for a, where in zip(on, space.slices)], axis=1
    )


def _categorical(space: Space) -> np.ndarray:
    """``bool[d]``: choices without an order."""
    unordered = [isinstance(p, Listed) and not isinstance(p, Ordinal) for p in space.parameters]
    return np.concatenate([np.full(s.stop - s.start, u) for u, s in zip(unordered, space.slices)])
