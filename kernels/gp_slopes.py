"""Gaussian process regression on values and derivatives.

Solak et al. (2003), "Derivative observations in Gaussian process models of dynamic systems". Notation as in `gp`;
besides the N rows of values there are slopes: the derivatives with respect to the d coordinates at S of the N points.
They are modelled in scaled coordinates, u = x / lengthscale, as lengthscale times derivative, so that all have the same
prior variance. The rows of a posterior are the values, then the slopes point by point, then padding up to P rows, a
power of two; `gp.predict`, `gp.whiten`, `gp.extend` and `gp.append` accept it like any other.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import gp, gp_fit, lbfgs
from jhpo.kernels.covariance import JETS, Categorical, Profile, all_terms, distances, matern52
from jhpo.kernels.numerics import cholesky_inverse, jittered_cholesky_inverse, triangle_gram

# Normal prior of the logarithm of the slopes' noise variance relative to their prior variance, and its upper bound.
_NOISE_MEAN, _NOISE_DEVIATION, _NOISE_MOST = float(np.log(0.01)), 2.0, float(np.log(100.0))


class Slopes(NamedTuple):
    """Derivatives at S of the points."""

    rows: jax.Array  # int32[S], which points
    grad: jax.Array  # float[S, d], of the targets by the unit coordinates; anything where mask is False
    mask: jax.Array  # bool[S, d], False for derivatives to ignore


def default_prior(d: int, dtype: jnp.dtype, count: int | jax.Array | None = None) -> gp_fit.Prior:
    """The prior of `gp_fit.default_prior` with one more parameter, the noise of the slopes: d + 4 in all."""
    plain = gp_fit.default_prior(d, dtype, count)
    more = (_NOISE_DEVIATION, plain.lower[-1], _NOISE_MOST)
    mean = jnp.append(plain.mean, jnp.asarray(_NOISE_MEAN, plain.mean.dtype))
    return gp_fit.Prior(mean, *(np.append(a, np.asarray(b, a.dtype)) for a, b in zip(plain[1:], more)))


def rows_for(points: int, slopes: int, d: int) -> int:
    """P, the number of rows: the power of two that holds the values and slopes.

    >>> rows_for(32, 32, 3), rows_for(64, 40, 11)
    (128, 512)
    """
    return 1 << (points + slopes * d - 1).bit_length()


def gram(
    x: jax.Array, terms: jax.Array, index: jax.Array, weights: jax.Array, profile: Profile = matern52
) -> jax.Array:
    """Correlations of values and slopes, float[N + S d, N + S d].

    With t = u - v, and c, c', c'' the profile and its derivatives at |t|^2: a slope at u and a value at v have
    2 c' t_i, slopes at u and v have -2 c' [i = j] - 4 c'' t_i t_j.

    Args:
        x: float[N, d]. terms: float[d + 1, N, N], see `all_terms`. index: int32[S]. weights: float[d + 1].
    """
    (n, d), s = x.shape, index.shape[0]
    c, first, second = JETS[profile](distances(terms, weights))
    u = x * jnp.sqrt(weights[:-1])[None, :]
    t = u[index][:, None, :] - u[None, :, :]
    mixed = (2.0 * first[index][:, :, None] * t).transpose(0, 2, 1).reshape(s * d, n)
    t, first, second = t[:, index], first[index][:, index], second[index][:, index]
    eye = jnp.eye(d, dtype=x.dtype)[None, None]
    own = -2.0 * first[:, :, None, None] * eye - 4.0 * (second[:, :, None] * t)[:, :, :, None] * t[:, :, None, :]
    return jnp.block([[c, mixed.T], [mixed, own.transpose(0, 2, 1, 3).reshape(s * d, s * d)]])


def cleaned(data: gp.Data, slopes: Slopes) -> tuple[gp.Data, Slopes]:
    """The data and slopes with neutral padding, so that a NaN there reaches no result."""
    mask = jnp.asarray(data.mask)
    points = gp.clean(data.points, mask)
    clean = gp.Data(points, jnp.where(mask, data.y, 0.0), jnp.where(mask, data.variance, 0.0), mask)
    counted = slopes.mask & mask[slopes.rows][:, None]
    return clean, Slopes(slopes.rows, jnp.where(counted, slopes.grad, 0.0), counted)


def padded(values: jax.Array, slopes: jax.Array) -> jax.Array:
    """Values ``[N]`` and slopes ``[S, d]`` as one padded vector ``[P]``, see `rows_for`."""
    total = rows_for(values.shape[0], *slopes.shape)
    rows = jnp.concatenate([values, slopes.reshape(-1)])
    return jnp.concatenate([rows, jnp.zeros((total - rows.shape[0],), rows.dtype)])


def noisy_covariance(theta: jax.Array, data: gp.Data, slopes: Slopes, terms: jax.Array, profile: Profile) -> jax.Array:
    """Covariance float[P, P] of values and slopes, noise included; padding rows are those of the identity."""
    p, noise = gp.unpack(theta[:-1]), jnp.exp(theta[-1])
    # the prior variance of a slope is -2 c'(0): 5/3 for Matern-5/2, 1 for the RBF
    steep = -2.0 * JETS[profile](jnp.zeros((), theta.dtype))[1]
    extra = padded(p.noise + data.variance, jnp.broadcast_to(p.scale * steep * noise, slopes.mask.shape))
    mask = padded(data.mask, slopes.mask)
    c = p.scale * gram(data.points.x, terms, slopes.rows, p.weights, profile)
    short = mask.shape[0] - c.shape[0]
    pair = mask[:, None] & mask[None, :]
    return jnp.where(pair, jnp.pad(c, (0, short)), 0.0) + jnp.diag(jnp.where(mask, extra, 1.0))


def _targets(theta: jax.Array, data: gp.Data, slopes: Slopes) -> jax.Array:
    """float[P]: values, then derivatives times lengthscales."""
    lengths = jnp.exp(theta[: slopes.grad.shape[1]])
    return padded(data.y, slopes.grad * lengths[None, :])


def objective(
    data: gp.Data, slopes: Slopes, prior: gp_fit.Prior, categorical: Categorical, profile: Profile = matern52
) -> lbfgs.ValueAndGrad:
    """The function a fit minimises: the negative log posterior density of theta float[d + 4] and its gradient.

    With z the targets and a = K^-1 z, the derivative of the likelihood with respect to K is (K^-1 - a a^T) / 2
    (Rasmussen and Williams 2006, eq. 5.9) and that with respect to z is a. So autodiff covers the construction of K and
    z, not the factorisation. The change of variables to scaled slopes adds log l for each slope that is not masked.
    """
    data, slopes = cleaned(data, slopes)
    terms = all_terms(data.points, categorical)
    d = slopes.mask.shape[1]
    counts = jnp.sum(slopes.mask, axis=0, dtype=data.y.dtype)

    def value_and_grad(theta: jax.Array) -> tuple[jax.Array, jax.Array]:
        covariance, by_covariance = jax.vjp(lambda t: noisy_covariance(t, data, slopes, terms, profile), theta)
        targets, by_targets = jax.vjp(lambda t: _targets(t, data, slopes), theta)
        root = cholesky_inverse(covariance)
        white = root @ targets
        alpha = white @ root
        value = 0.5 * jnp.sum(white * white) - jnp.sum(jnp.log(jnp.diagonal(root))) - jnp.sum(counts * theta[:d])
        outer = 0.5 * (triangle_gram(root) - alpha[:, None] * alpha[None, :])
        grad = (by_covariance(outer)[0] + by_targets(alpha)[0]).at[:d].add(-counts)
        z = (theta - prior.mean) / prior.deviation
        return value + 0.5 * jnp.sum(z * z), grad + z / prior.deviation

    return value_and_grad


def fit(
    starts: jax.Array,
    data: gp.Data,
    slopes: Slopes,
    prior: gp_fit.Prior,
    categorical: Categorical,
    *,
    iterations: int,
    profile: Profile = matern52,
) -> jax.Array:
    """The maximum a posteriori theta float[d + 4] from starts float[s, d + 4]; see `gp_fit.fit`."""
    return gp_fit.most_probable(objective(data, slopes, prior, categorical, profile), starts, prior, iterations)[0]


def condition(
    theta: jax.Array, data: gp.Data, slopes: Slopes, categorical: Categorical, profile: Profile = matern52
) -> gp.Posterior:
    """The posterior for given parameters; the factorisation adds jitter only if it fails without.

    Args:
        theta: float[d + 4]. data: N rows. slopes: at S of them. categorical: bool[d]; slopes there must be masked out.
    """
    data, slopes = cleaned(data, slopes)
    p = gp.unpack(theta[:-1])
    covariance = noisy_covariance(theta, data, slopes, all_terms(data.points, categorical), profile)
    root, _ = jittered_cholesky_inverse(covariance, p.scale)
    y = _targets(theta, data, slopes)
    mask = padded(data.mask, slopes.mask)
    return gp.Posterior(data.points, y, mask, p, root, (root @ y) @ root, slopes.rows)
