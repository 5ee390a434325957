"""Forecasts of learning curves: where a power law that was seen in part will end, with its uncertainty.

A curve is y(t) = a + D psi_c(t) + noise at shares t of the training, where psi_c falls from 1 at the first point to 0
at the end, as (t^-c - 1) does: ``a`` is the value at the end and ``D`` what is gained on the way. Given the exponent c
and the noise, both follow from a linear regression in closed form; exponents and noises are averaged by their evidence
over a grid, as Domhan et al. (2015) do over families of curves by sampling: there is nothing to optimise.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.shapes import Array, Bool, Float, Int

EXPONENTS = (0.1, 0.3, 0.6, 1.0, 1.6, 2.5)
NOISES = (0.01, 0.05, 0.2)  # standard deviations, in the units of the values
_ANYWHERE = 10.0  # prior standard deviation of the end: all but none


class Gain(NamedTuple):
    """What curves gain from the first part to the end, a normal distribution."""

    mean: jax.Array  # float[]
    variance: jax.Array  # float[]


class Forecast(NamedTuple):
    """The end of a curve and what it gains; means and variances."""

    end: jax.Array  # float[]
    end_variance: jax.Array  # float[]
    gain: jax.Array  # float[]
    gain_variance: jax.Array  # float[]


def shapes(times: np.ndarray) -> np.ndarray:
    """``float64[k, r]``: psi of each exponent at shares of the training ``float[r]``, ascending in (0, 1].

    >>> abs(shapes(np.array([0.25, 0.5, 0.75, 1.0]))[3]).round(3).tolist()
    [1.0, 0.333, 0.111, 0.0]
    """
    raw = np.stack([times**-c - 1.0 for c in EXPONENTS])
    return raw / raw[:, :1] if times[0] < 1.0 else np.ones_like(raw)


def forecast(values: Float[Array, "r"], psi: Float[Array, "k r"], count: Int[Array, ""], gain: Gain) -> Forecast:
    """The end of one curve; vmap for more.

    Args:
      values: of the points that were seen, in units of about their spread over curves; anything beyond them.
      psi: `shapes` of the points, those beyond too.
      count: how many were seen, at least 1.
      gain: the prior of what a curve gains from the first point to the end.

    >>> seen, psi = jnp.array([1.0, 1 / 3, 1 / 9, 0.0]) + 0.5, jnp.asarray(shapes(np.arange(1, 5) / 4), jnp.float32)
    >>> made = forecast(seen, psi, jnp.int32(3), Gain(jnp.float32(0.5), jnp.float32(1.0)))
    >>> round(float(made.end), 1), bool(made.end_variance < 0.1)
    (0.5, True)
    """
    dtype, r = values.dtype, values.shape[0]
    seen = jnp.arange(r, dtype=jnp.int32) < count
    y = jnp.where(seen, values, 0.0)
    psi = jnp.where(seen[None, :], psi, 0.0)
    centre = jnp.sum(y) / count.astype(dtype)

    def given(psi: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Evidence, means float[2] and covariance float[2, 2] of (a, D)."""
        design = jnp.stack([seen.astype(dtype), psi])
        prior = jnp.stack([centre, gain.mean])
        precision = jnp.diag(jnp.stack([jnp.full((), _ANYWHERE**-2, dtype), 1.0 / gain.variance]))
        residual = y - prior @ design
        inner = precision + design @ design.T / noise**2
        inverse = _inverse(inner)
        slope = design @ residual / noise**2
        n = count.astype(dtype)
        quadratic = residual @ residual / noise**2 - slope @ inverse @ slope
        volume = jnp.log(_determinant(inner)) - jnp.log(precision[0, 0] * precision[1, 1]) + 2.0 * n * jnp.log(noise)
        return -0.5 * (quadratic + volume), prior + inverse @ slope, inverse

    noises = jnp.asarray(NOISES, dtype)
    evidence, mean, spread = jax.vmap(lambda p: jax.vmap(lambda s: given(p, s))(noises))(psi)
    weight = jax.nn.softmax(evidence.reshape(-1))
    mean, spread = mean.reshape(-1, 2), jnp.diagonal(spread.reshape(-1, 2, 2), axis1=1, axis2=2)
    middle = weight @ mean
    variance = weight @ (spread + (mean - middle[None, :]) ** 2)
    return Forecast(middle[0], variance[0], middle[1], variance[1])


def common_gain(found: Forecast, mask: Bool[Array, "n"]) -> Gain:
    """What curves gain, from the forecasts of many: their mean, shrunk where little was seen, and how much they differ.

    Args:
      found: of n curves, ``float[n]`` each.
      mask: ``bool[n]``, False where there is no curve.
    """
    weight = jnp.where(mask, 1.0 / (0.25 + found.gain_variance), 0.0)
    total = 1.0 + weight.sum()  # a curve that gains half a unit comes first
    mean = (0.5 + weight @ jnp.where(mask, found.gain, 0.0)) / total
    apart = jnp.where(mask, (found.gain - mean) ** 2, 0.0)
    return Gain(mean, (1.0 + weight @ apart) / total + 0.01)


def _determinant(m: jax.Array) -> jax.Array:
    return m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]


def _inverse(m: jax.Array) -> jax.Array:
    turned = jnp.stack([jnp.stack([m[1, 1], -m[0, 1]]), jnp.stack([-m[1, 0], m[0, 0]])])
    return turned / _determinant(m)
