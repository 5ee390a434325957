"""A model of where learning curves end: the forecast of each, joined by a Gaussian process over hyperparameters."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import gp
from jhpo.kernels.covariance import Points
from jhpo.kernels.forecast import Forecast, Gain, common_gain, forecast, shapes
from jhpo.space.space import Space

LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)  # lengthscales, times sqrt(d)
_NOISE = 0.02  # of the process, in units of the spread
_SQUASHED = 2.0  # values further than this from the median, in units of the spread, count less


class Ends(NamedTuple):
    """What is expected at the end of the training, in units of the spread of the values."""

    mean: jax.Array  # float[C + m], of the members, then of the candidates
    variance: jax.Array  # float[C + m]
    best: jax.Array  # float[], the lowest that is expected of a member
    own: jax.Array  # float[C], what a member's own curve says, NaN where it says nothing
    own_variance: jax.Array  # float[C]


def ends(
    space: Space, units: jax.Array, curve: jax.Array, count: jax.Array, begun: jax.Array, candidates: jax.Array
) -> Ends:
    """Forecasts of members and candidates.

    Args:
      space: of the points.
      units: ``float[C, d]``, the members.
      curve: ``float[C, r]``, their values after each part of the training, to be minimised; infinite beyond.
      count: ``int32[C]``, parts that they were trained.
      begun: ``bool[C]``.
      candidates: ``float[m, d]``.
    """
    dtype, r = units.dtype, curve.shape[1]
    seen = (jnp.arange(r, dtype=jnp.int32)[None, :] < count[:, None]) & begun[:, None] & jnp.isfinite(curve)
    there = seen[:, 0] & (seen.sum(axis=1, dtype=jnp.int32) == count)  # failed members say nothing
    y = _standardised(curve, seen)
    number, psi = jnp.maximum(count, 1), jnp.asarray(shapes(np.arange(1, r + 1) / r), dtype)

    def again(_: jax.Array, carry: tuple[Gain, Forecast]) -> tuple[Gain, Forecast]:
        each = jax.vmap(lambda v, k: forecast(v, psi, k, carry[0]))(y, number)
        return common_gain(each, there), each

    # twice: what all curves gain, as it follows from the first forecasts, sharpens the second ones
    wide, nothing = Gain(jnp.full((), 0.5, dtype), jnp.ones((), dtype)), Forecast(*4 * (jnp.zeros_like(y[:, 0]),))
    _, each = jax.lax.fori_loop(0, 2, again, (wide, nothing))
    end = jnp.where(there, each.end, 0.0)
    weight = jnp.where(there, 1.0 / (each.end_variance + 0.1), 0.0)
    middle = (weight @ end) / jnp.maximum(weight.sum(), 1e-6)
    scale = jnp.maximum((weight @ (end - middle) ** 2) / jnp.maximum(weight.sum(), 1e-6), 0.01)
    mean, variance = _joined(space, units, candidates, end - middle, each.end_variance, there, scale)
    mean = mean + middle
    # what was measured at the end is known
    whole = there & (count == r)
    known = jnp.where(whole, y[:, -1], mean[: units.shape[0]])
    mean = mean.at[: units.shape[0]].set(known)
    variance = variance.at[: units.shape[0]].set(jnp.where(whole, 1e-6, variance[: units.shape[0]]))
    best = jnp.min(jnp.where(there, known, jnp.inf))
    own = jnp.where(there, jnp.where(whole, y[:, -1], each.end), jnp.nan)
    own_variance = jnp.where(whole, 0.0, each.end_variance)
    return Ends(mean, variance, jnp.where(jnp.isfinite(best), best, 0.0), own, own_variance)


def _standardised(curve: jax.Array, seen: jax.Array) -> jax.Array:
    """Values in units of their spread around the median.

    Large ones are drawn in, so that a training that diverges does not hide the differences of the others.
    """
    value = jnp.where(seen, curve, jnp.nan)
    middle = jnp.nanmedian(value)
    spread = jnp.maximum(jnp.nanmedian(jnp.abs(value - middle)) * 1.48, 1e-6 * (1.0 + jnp.abs(middle)))
    scaled = jnp.where(seen, (curve - middle) / spread, 0.0)
    return _SQUASHED * jnp.arcsinh(scaled / _SQUASHED)


def _joined(
    space: Space, units: jax.Array, candidates: jax.Array, end: jax.Array, noise: jax.Array, there: jax.Array,
    scale: jax.Array,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Mean and variance, ``float[C + m]``, of the process at members and candidates; its lengthscale by evidence."""
    dtype, d = units.dtype, units.shape[1]
    categorical = np.asarray(space.categorical) if np.asarray(space.categorical).any() else None
    conditions = space.outline.conditions is not None

    def points(rows: jax.Array) -> Points:
        return Points(rows, space.active(rows) if conditions else None)

    rows = space.canonical(units)
    more = (1 << (len(units) - 1).bit_length()) - len(units)  # factors of a power of two are made

    def wide(x: jax.Array, blank: float = 0.0) -> jax.Array:
        return jnp.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1), constant_values=blank)

    there = wide(there, False)
    data = gp.Data(points(wide(rows, 0.5)), wide(end), jnp.where(there, wide(noise), 1.0), there)

    def at(length: jax.Array) -> tuple[jax.Array, gp.Posterior]:
        theta = jnp.concatenate(
            [jnp.full((d + 1,), jnp.log(length)), jnp.log(scale)[None], jnp.log(_NOISE * scale)[None]]
        )
        posterior = gp.condition(theta, data, categorical)
        fit = -0.5 * (posterior.y @ posterior.alpha)
        return fit + jnp.where(there, jnp.log(jnp.diagonal(posterior.root)), 0.0).sum(), posterior

    evidence, posteriors = jax.lax.map(at, jnp.asarray(np.sqrt(d) * np.asarray(LENGTHS), dtype))
    best = jnp.argmax(evidence)
    posterior = jax.tree.map(lambda x: x[best], posteriors)
    queries = points(jnp.concatenate([rows, candidates]))
    return jax.vmap(lambda q: gp.predict(posterior, q, categorical))(queries)
