"""The parameters of a Gaussian process: their priors, the likelihood with its closed-form gradient, the fit.

Notation as in `gp`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import lbfgs
from jhpo.kernels.covariance import Categorical, Profile, all_terms, distances, matern52
from jhpo.kernels.gp import Data, clean, covariance, unpack
from jhpo.kernels.numerics import cholesky_inverse, triangle_gram

# A fit ends when no derivative of the log posterior with respect to theta exceeds this.
_FIT_TOLERANCE = 1e-2
_LOG_2PI = float(np.log(2 * np.pi))


class Prior(NamedTuple):
    """Independent normal priors on theta and a box around it; see `default_prior`."""

    mean: jax.Array  # float[d + 3]
    deviation: np.ndarray  # float[d + 3]
    lower: np.ndarray  # float[d + 3]
    upper: np.ndarray  # float[d + 3]


def default_prior(d: int, dtype: jnp.dtype, count: int | jax.Array | None = None) -> Prior:
    """Weakly informative priors that scale with the dimension.

    Args:
        d: columns of the points. dtype: of theta. count: the number of coordinates, if some columns are padding; d by
            default.

    Lengthscales are LogNormal(sqrt(2) + log(d)/2, sqrt(3)) (Hvarfner et al. 2024, "Vanilla Bayesian optimization
    performs great in high dimensions"); the mean of their logarithm is lowered by the variance 3, so that the mode is
    that of the density of the lengthscale itself. The logarithms of the activity lengthscale and of the output scale
    are Normal(0, 1). The logarithm of the noise is Normal(-9, 2): with the usual LogNormal(-4, 1) the noise of a
    deterministic function stays at a tenth of its spread and the optimum is never refined, while two dozen noisy values
    outweigh the wide tail of this one. A lower bound of the noise, 1e-6 in float64 and 1e-4 in float32, keeps the
    factorisation well conditioned.
    """
    floor = 1e-6 if np.dtype(dtype).itemsize >= 8 else 1e-4
    length = 0.5 * jnp.log(jnp.asarray(d if count is None else count, dtype)) + float(np.sqrt(2) - 3.0)
    mean = jnp.concatenate([jnp.full((d,), length), jnp.asarray([0.0, 0.0, -9.0], dtype)])
    deviation = [np.sqrt(3)] * d + [1.0, 1.0, 2.0]
    lower = np.log([0.025] * d + [0.1, 0.05, floor])
    upper = np.log([50.0] * d + [50.0, 20.0, 1.0])
    return Prior(mean, *(np.asarray(v, np.dtype(dtype)) for v in (deviation, lower, upper)))


def _correlation(terms: jax.Array, weights: jax.Array, profile: Profile) -> tuple[jax.Array, jax.Array]:
    """Profile and its derivative at ``terms . weights``: float[N, N] each."""
    r2 = distances(terms, weights)
    return jax.jvp(profile, (r2,), (jnp.ones_like(r2),))


def _terms(data: Data, categorical: Categorical) -> jax.Array:
    return all_terms(clean(data.points, data.mask), categorical)


def _likelihood(theta: jax.Array, terms: jax.Array, data: Data, profile: Profile) -> tuple[jax.Array, jax.Array]:
    """Negative log marginal likelihood and its gradient, in closed form.

    dL/dK = (K^-1 - a a^T) / 2 (Rasmussen and Williams 2006, eq. 5.9): one Cholesky factor and three matrix products.
    """
    p = unpack(theta)
    y = jnp.where(data.mask, data.y, 0.0)
    variance = jnp.where(data.mask, data.variance, 0.0)
    c, slope = _correlation(terms, p.weights, profile)
    root = cholesky_inverse(covariance(c, p, variance, data.mask))
    white = root @ y
    alpha = white @ root
    count = jnp.sum(data.mask, dtype=y.dtype)
    # padding rows are those of the identity with y = 0: they add nothing
    value = 0.5 * jnp.sum(white * white) - jnp.sum(jnp.log(jnp.diagonal(root))) + 0.5 * _LOG_2PI * count
    outer = 0.5 * (triangle_gram(root) - alpha[:, None] * alpha[None, :])
    pair = data.mask[:, None] & data.mask[None, :]
    outer = jnp.where(pair, outer, 0.0)
    by_weight = terms.reshape(terms.shape[0], -1) @ (outer * slope).reshape(-1)
    lengths = -2.0 * p.weights * p.scale * by_weight
    scale = p.scale * jnp.sum(outer * c)
    noise = p.noise * jnp.sum(jnp.diagonal(outer))
    return value, jnp.concatenate([lengths, scale[None], noise[None]])


def negative_log_likelihood(
    theta: jax.Array, data: Data, categorical: Categorical, profile: Profile = matern52
) -> jax.Array:
    """Negative log marginal likelihood, float[]; its gradient with respect to theta is the closed form.

    Args:
        theta: float[d + 3], see the top of the file. data: N rows, N a power of two. categorical: bool[d].
    """
    terms = _terms(data, categorical)

    @jax.custom_vjp
    def value(t: jax.Array) -> jax.Array:
        return _likelihood(t, terms, data, profile)[0]

    value.defvjp(lambda t: _likelihood(t, terms, data, profile), lambda grad, g: (g * grad,))
    return value(theta)


def objective(data: Data, prior: Prior, categorical: Categorical, profile: Profile = matern52) -> lbfgs.ValueAndGrad:
    """The function a fit minimises: the negative log posterior density of theta, up to a constant, and its gradient."""
    terms = _terms(data, categorical)

    def value_and_grad(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, grad = _likelihood(theta, terms, data, profile)
        z = (theta - prior.mean) / prior.deviation
        return value + 0.5 * jnp.sum(z * z), grad + z / prior.deviation

    return value_and_grad


def fit(
    starts: jax.Array,
    data: Data,
    prior: Prior,
    categorical: Categorical,
    *,
    iterations: int,
    profile: Profile = matern52,
) -> tuple[jax.Array, jax.Array]:
    """The maximum a posteriori theta, by L-BFGS from several starts.

    On the CPU starts run under `jax.lax.map`: batched factorisations inside a loop have made XLA's CPU thread pool
    hang, and sequential ones are as fast there. Elsewhere they run side by side.

    Args:
        starts: float[s, d + 3]. data: N rows, N a power of two. iterations: of L-BFGS, per start.

    Returns:
        ``(theta[d + 3], value[])``; the first start if no value was finite.
    """
    return most_probable(objective(data, prior, categorical, profile), starts, prior, iterations)


def most_probable(
    target: lbfgs.ValueAndGrad, starts: jax.Array, prior: Prior, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """The minimiser of ``target`` within the prior's box and its value; see `fit`."""
    lower, upper = jnp.asarray(prior.lower), jnp.asarray(prior.upper)

    def one_by_one(starts: jax.Array) -> lbfgs.LBFGSResult:
        solve = functools.partial(lbfgs.minimize, iterations=iterations, tolerance=_FIT_TOLERANCE)
        return jax.lax.map(lambda theta: solve(target, theta, lower, upper), starts)

    def at_once(starts: jax.Array) -> lbfgs.LBFGSResult:
        problem = lambda _: (target, lower, upper)  # noqa: E731
        return lbfgs.minimize_each(problem, starts, iterations=iterations, tolerance=_FIT_TOLERANCE)

    thetas, values, *_ = jax.lax.platform_dependent(starts, cpu=one_by_one, default=at_once)
    best = jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))
    return thetas[best], values[best]
