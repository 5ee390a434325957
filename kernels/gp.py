"""Exact Gaussian process regression on masked rows: conditioning, prediction, appending a row. `gp_fit` fits it.

Notation: N rows of a padded buffer, real where ``mask`` is True; theta float[d + 3], the logarithms of d lengthscales,
the lengthscale of the activity term, the output scale (variance) and the noise variance. Targets have to be
standardised, as the prior mean is zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels.covariance import (
    Categorical,
    Points,
    Profile,
    cross,
    cross_distances,
    matern52,
    slope_row,
)
from jhpo.kernels.numerics import jittered_cholesky_inverse


class Parameters(NamedTuple):
    """theta in natural units."""

    weights: jax.Array  # float[d + 1], 1 / lengthscale^2, the last for the activity term
    scale: jax.Array  # float[], prior variance
    noise: jax.Array  # float[], variance of the noise


class Data(NamedTuple):
    """What a process is conditioned on."""

    points: Points  # N rows
    y: jax.Array  # float[N], standardised; anything where mask is False
    variance: jax.Array  # float[N], known noise variance in the units of y squared, on top of the learned noise
    mask: jax.Array  # bool[N], False in padding rows


class Posterior(NamedTuple):
    """A conditioned process; predictions need matrix products only.

    ``y`` and ``alpha`` may have a leading axis: several worlds (fantasies), which differ in the targets only.
    """

    points: Points
    y: jax.Array  # float[N] or float[worlds, N]; with slopes there are more than N rows, here and below
    mask: jax.Array  # bool[N]
    parameters: Parameters
    root: jax.Array  # float[N, N], R with R K R^T = I (the inverse Cholesky factor); unit rows where masked out
    alpha: jax.Array  # of y's shape, K^-1 y
    slopes: jax.Array | None = None  # int32[S], the points whose gradients are known too, see `gp_slopes`


def unpack(theta: jax.Array) -> Parameters:
    """The parameters in natural units from theta, their logarithms."""
    return Parameters(jnp.exp(-2.0 * theta[:-2]), jnp.exp(theta[-2]), jnp.exp(theta[-1]))


def covariance(correlation: jax.Array, p: Parameters, variance: jax.Array, mask: jax.Array) -> jax.Array:
    """Covariance float[N, N] of the observed values, noise included; rows of the identity where masked out."""
    pair = mask[:, None] & mask[None, :]
    diagonal = jnp.where(mask, p.noise + variance, 1.0)
    return jnp.where(pair, p.scale * correlation, 0.0) + jnp.diag(diagonal)


def clean(points: Points, mask: jax.Array) -> Points:
    """The points with padding rows set to the centre of the cube, so that a NaN there reaches no result."""
    return points._replace(x=jnp.where(mask[:, None], points.x, 0.5))


def condition(theta: jax.Array, data: Data, categorical: Categorical, profile: Profile = matern52) -> Posterior:
    """The posterior for given parameters; the factorisation adds jitter only if it fails without."""
    p = unpack(theta)
    points = clean(data.points, data.mask)
    y = jnp.where(data.mask, data.y, 0.0)
    variance = jnp.where(data.mask, data.variance, 0.0)
    c = cross(points, points, p.weights, categorical, profile)
    root, _ = jittered_cholesky_inverse(covariance(c, p, variance, data.mask), p.scale)
    return Posterior(points, y, jnp.asarray(data.mask), p, root, (root @ y) @ root)


def _cross_rows(posterior: Posterior, queries: Points, categorical: Categorical, profile: Profile) -> jax.Array:
    """Covariances float[m, N] of queries with the rows; 0 at padding, otherwise variances would turn negative."""
    weights, points, slopes = posterior.parameters.weights, posterior.points, posterior.slopes
    r2 = cross_distances(queries, points, weights, categorical)
    if slopes is None:
        rows = profile(r2)
    else:
        rows = jax.vmap(lambda q, r: slope_row(q, points, slopes, r, weights, profile))(queries, r2)
        rows = jnp.pad(rows, ((0, 0), (0, posterior.mask.shape[0] - rows.shape[1])))
    return jnp.where(posterior.mask[None, :], posterior.parameters.scale * rows, 0.0)


def _cross_row(posterior: Posterior, query: Points, categorical: Categorical, profile: Profile) -> jax.Array:
    """`_cross_rows` of one point, float[N]."""
    return _cross_rows(posterior, _alone(query), categorical, profile)[0]


def _alone(point: Points) -> Points:
    """One point as one row."""
    return jax.tree.map(lambda leaf: leaf[None], point)


def predict(
    posterior: Posterior, query: Points, categorical: Categorical, profile: Profile = matern52
) -> tuple[jax.Array, jax.Array]:
    """Mean (float[] or float[worlds]) and variance of the noise-free function at one point; vmap for more.

    The variance is at least 1e-12 of the prior's.
    """
    k = _cross_row(posterior, query, categorical, profile)
    white = posterior.root @ k
    scale = posterior.parameters.scale
    return posterior.alpha @ k, jnp.maximum(scale - jnp.sum(white * white), 1e-12 * scale)


def fitted(posterior: Posterior, variance: jax.Array) -> jax.Array:
    """Posterior means float[N] at the training rows, for a posterior with a single world.

    K a = y - (noise + variance) a, where a = (K + noise + variance)^-1 y is known: no covariance is evaluated.

    Args:
        variance: float[N], the known noise variance of each row, as in `Data`. Masked rows have no meaning.
    """
    n = variance.shape[0]
    return posterior.y[:n] - (posterior.parameters.noise + variance) * posterior.alpha[:n]


def whiten(posterior: Posterior, queries: Points, categorical: Categorical, profile: Profile = matern52) -> jax.Array:
    """Rows float[m, N], ``root @ k`` of each query: their inner products are what the data take off the covariance.

    The variance at point i is ``scale - sum(rows[i]**2)``, the means are ``rows @ (root @ y)``. `append` changes only
    one column, see `extend`.
    """
    return _cross_rows(posterior, queries, categorical, profile) @ posterior.root.T


def extend(
    posterior: Posterior,
    rows: jax.Array,
    queries: Points,
    point: Points,
    categorical: Categorical,
    profile: Profile = matern52,
) -> jax.Array:
    """The column float[m] that `append` of one point adds to the rows of `whiten`: O(m N) instead of O(m N^2).

    Args:
        posterior: before the point is appended. rows: float[m, N], of the queries.
    """
    p = posterior.parameters
    own = posterior.root @ _cross_row(posterior, point, categorical, profile)
    left = jnp.maximum(p.scale + p.noise - jnp.sum(own * own), p.noise)
    near = cross(queries, _alone(point), p.weights, categorical, profile)[:, 0]
    return (p.scale * near - rows @ own) / jnp.sqrt(left)


def left_out(posterior: Posterior) -> jax.Array:
    """Leave-one-out residuals float[N]: y minus the mean predicted from all other rows; 0 at padding.

    In closed form, alpha_i / (K^-1)_ii (Rasmussen and Williams 2006, eq. 5.12), for a single world.
    """
    wrong = posterior.alpha / jnp.sum(posterior.root * posterior.root, axis=0)
    return jnp.where(posterior.mask, wrong, 0.0)


def joint(
    posterior: Posterior, queries: Points, categorical: Categorical, profile: Profile = matern52
) -> tuple[jax.Array, jax.Array]:
    """Mean float[m] and covariance float[m, m] of the noise-free function at m points."""
    k = _cross_rows(posterior, queries, categorical, profile)
    white = k @ posterior.root.T
    p = posterior.parameters
    own = p.scale * cross(queries, queries, p.weights, categorical, profile)
    return k @ posterior.alpha, own - white @ white.T


def append(
    posterior: Posterior,
    index: jax.Array,
    query: Points,
    y: jax.Array,
    categorical: Categorical,
    profile: Profile = matern52,
) -> Posterior:
    """The posterior with one more observation in the free row ``index``: O(N^2), no new factorisation.

    With l = R k and s^2 = k** + noise - l.l, the new row of the root is (e_i - l^T R) / s.

    Args:
        index: int32[], a row whose mask is False. query: one point. y: float[] or float[worlds], its value.
    """
    p = posterior.parameters
    k = _cross_row(posterior, query, categorical, profile)
    white = posterior.root @ k
    left = jnp.maximum(p.scale + p.noise - jnp.sum(white * white), p.noise)
    unit = (jnp.arange(k.shape[0], dtype=jnp.int32) == index).astype(k.dtype)
    root = posterior.root.at[index].set((unit - white @ posterior.root) / jnp.sqrt(left))
    values = posterior.y.at[..., index].set(y)
    points = jax.tree.map(lambda rows, new: rows.at[index].set(new), posterior.points, query)
    mask = posterior.mask.at[index].set(True)
    return posterior._replace(points=points, y=values, mask=mask, root=root, alpha=(values @ root.T) @ root)
