"""Acquisition functions of a posterior's moments; they are maximised, for an objective that is minimised."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.hypervolume import Boxes, Lines
from jhpo.kernels.numerics import log1mexp, log_h, log_ndtr

# Smoothing of the improvement in the Monte Carlo acquisition, in units of the targets.
_SOFTNESS = 1e-6


def log_expected_improvement(mean: jax.Array, variance: jax.Array, best: jax.Array) -> jax.Array:
    """log E[max(best - f, 0)] for f ~ N(mean, variance); elementwise, finite where EI underflows.

    Ament et al. (2023), eq. 8. ``variance`` > 0.

    >>> round(float(log_expected_improvement(jnp.float32(0.0), jnp.float32(1.0), jnp.float32(0.0))), 5)
    -0.91894
    """
    deviation = jnp.sqrt(variance)
    return log_h((best - mean) / deviation) + jnp.log(deviation)


def expected_improvement(mean: jax.Array, variance: jax.Array, best: jax.Array) -> jax.Array:
    """E[max(best - f, 0)]; elementwise, in the units of the targets."""
    return jnp.exp(log_expected_improvement(mean, variance, best))


def log_expected_hypervolume_improvement(mean: jax.Array, variance: jax.Array, boxes: Boxes) -> jax.Array:
    """log E[hypervolume that f adds] for independent f_k ~ N(mean_k, variance_k): float[m], float[m] to float[].

    The improvement is a sum over the boxes that the front does not dominate. The expected part of a box is the product
    over the objectives of psi(high) - psi(low), with psi(t) = E[max(t - f_k, 0)] (Yang et al. 2019, eq. 11, for boxes
    unbounded below). All terms are logarithms, so that value and gradient are finite where EHVI underflows (Ament et
    al. 2023, sec. 4). -inf without boxes.

    Args:
        mean, variance: float[m], of the objectives, to be minimised; ``variance`` > 0.
        boxes: from `jhpo.kernels.hypervolume.open_boxes`.

    >>> boxes = Boxes(jnp.array([[-jnp.inf, -jnp.inf]]), jnp.array([[1.0, 1.0]]))
    >>> value = log_expected_hypervolume_improvement(jnp.zeros(2), jnp.full((2,), 1e-8), boxes)
    >>> round(float(value), 4)
    0.0
    """
    wide = boxes.high > boxes.low
    ended = wide & jnp.isfinite(boxes.low)
    # both ends at once: half the kernels to compile
    ends = jnp.stack([jnp.where(wide, boxes.high, 0.0), jnp.where(ended, boxes.low, 0.0)])
    top, bottom = log_expected_improvement(mean[None, None, :], variance[None, None, :], ends)
    gap = top - bottom
    apart = ended & (gap > 0)  # 0 for a box that is thinner than the rounding error of psi
    side = top + jnp.where(apart, log1mexp(jnp.where(apart, gap, 1.0)), 0.0)
    thin = ended & ~apart
    open_ = (wide & ~thin).all(axis=1)
    parts = jnp.where(open_[:, None], side, 0.0).sum(axis=1)
    return jax.nn.logsumexp(jnp.where(open_, parts, -jnp.inf))


def sampled_log_expected_hypervolume_improvement(mean: jax.Array, variance: jax.Array, lines: Lines) -> jax.Array:
    """The same for any number of objectives m >= 2, by numerical integration: float[m], float[m] to float[].

    EHVI is the integral, over the non-dominated region, of the probability that f dominates a point. Along the last
    objective it is psi in closed form; the others are averaged over the lines. It is smooth, and the same function in
    every call.

    Args:
        mean, variance: float[m], of the objectives, to be minimised; ``variance`` > 0.
        lines: from `jhpo.kernels.hypervolume.open_lines`.

    >>> lines = Lines(jnp.linspace(0.005, 0.995, 100)[:, None], jnp.ones(100), jnp.full(100, 0.01))
    >>> value = sampled_log_expected_hypervolume_improvement(jnp.zeros(2), jnp.full((2,), 1e-8), lines)
    >>> round(float(value), 4)
    0.0
    """
    deviation = jnp.sqrt(variance)
    below = log_ndtr((lines.at - mean[None, :-1]) / deviation[None, :-1]).sum(axis=1)
    along = log_expected_improvement(mean[-1], variance[-1], lines.high)
    # a line may stand for nothing, where the front has no extent
    some = lines.share > 0
    share = jnp.log(jnp.where(some, lines.share, 1.0))
    return jax.nn.logsumexp(jnp.where(some, below + along + share, -jnp.inf))


def log_probability_of_improvement(mean: jax.Array, variance: jax.Array, best: jax.Array) -> jax.Array:
    """log P(f < best); elementwise."""
    return log_ndtr((best - mean) / jnp.sqrt(variance))


def confidence_bound(mean: jax.Array, variance: jax.Array, beta: jax.Array | float) -> jax.Array:
    """beta deviation - mean: the negative lower confidence bound, to be maximised; elementwise."""
    return beta * jnp.sqrt(variance) - mean


def log_probability_feasible(mean: jax.Array, variance: jax.Array) -> jax.Array:
    """log P(all constraints >= 0) for independent constraints, over the last axis: float[..., c] to float[...]."""
    return jnp.sum(log_ndtr(mean / jnp.sqrt(variance)), axis=-1)


def q_log_expected_improvement(
    mean: jax.Array, covariance: jax.Array, best: jax.Array, normals: jax.Array
) -> jax.Array:
    """log E[max(best - min_i f_i, 0)] of q points together, by sample average (Ament et al. 2023, sec. 4).

    Args:
        mean: float[q]. covariance: float[q, q]. best: float[]. normals: float[m, q], standard normal draws, preferably
            from a low-discrepancy sequence; with the same draws in every call the function is deterministic.

    Returns:
        float[]; invariant to the order of the points up to the sampling error.
    """
    q = mean.shape[0]
    jitter = 1e-12 if covariance.dtype.itemsize >= 8 else 1e-6
    size = jnp.mean(jnp.diagonal(covariance))
    root = jnp.linalg.cholesky(covariance + jitter * size * jnp.eye(q, dtype=covariance.dtype))
    draws = mean[None, :] + normals @ root.T
    scaled = (best - jnp.min(draws, axis=1)) / _SOFTNESS
    # log(softness * softplus(scaled)), linear in scaled far to the left
    deep = scaled < -20.0
    near = jnp.log(jax.nn.softplus(jnp.where(deep, 0.0, scaled)))
    logs = jnp.where(deep, scaled, near) + float(np.log(_SOFTNESS))
    return jax.nn.logsumexp(logs) - float(np.log(normals.shape[0]))
