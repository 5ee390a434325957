"""Functions drawn from a Gaussian process posterior by pathwise conditioning, cheap to evaluate anywhere.

A sample of the prior is a sum of random cosine features; an update by the data turns it into one of the posterior
(Matheron's rule; Wilson et al. 2020, "Efficiently sampling functions from Gaussian process posteriors", eq. 13).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import gp, threefry
from jhpo.kernels.covariance import PROFILES, Points, Profile, cross

# Degrees of freedom of the multivariate t that is the spectral density of each profile; None for a normal.
_FREEDOM = {"matern12": 1, "matern32": 3, "matern52": 5, "rbf": None}


class Paths(NamedTuple):
    """S functions of a posterior over points embedded in e dimensions."""

    frequencies: jax.Array  # float[F, e]
    phases: jax.Array  # float[F]
    weights: jax.Array  # float[S, F], weights of the cosines
    update: jax.Array  # float[S, N], weights of the covariances with the rows


class Choices(NamedTuple):
    """Which coordinates are unordered choices, and their numbers of categories."""

    categorical: np.ndarray | jax.Array  # bool[d]
    cells: np.ndarray | jax.Array  # int32[d], numbers of categories
    most: int  # the largest of them, or more


def embed(points: Points, weights: jax.Array, choices: Choices | None) -> jax.Array:
    """Points as vectors whose squared distances are those of `jhpo.kernels.covariance`: float[n, e].

    Args:
        points: n rows. weights: float[d + 1]. choices: None where every coordinate is ordered.
    """
    root, x = jnp.sqrt(weights), points.x
    scaled = x * root[None, :-1]
    if choices is None:
        parts = [scaled]
    else:
        unordered = jnp.asarray(choices.categorical)
        index = jnp.floor(x * jnp.asarray(choices.cells).astype(x.dtype)[None, :]).astype(jnp.int32)
        code = jax.nn.one_hot(index, choices.most, dtype=x.dtype) * (root[:-1] * float(np.sqrt(0.5)))[None, :, None]
        code = jnp.where(unordered[None, :, None], code, 0.0)
        parts = [jnp.where(unordered[None, :], 0.0, scaled), code.reshape(x.shape[0], -1)]
    if points.active is not None:
        parts.append(points.active.astype(points.x.dtype) * root[-1])
    return jnp.concatenate(parts, axis=1)


def _prior(paths: Paths, embedded: jax.Array) -> jax.Array:
    """Prior term of each path at n points: float[S, n]."""
    return paths.weights @ jnp.cos(paths.frequencies @ embedded.T + paths.phases[:, None])


def draw(
    posterior: gp.Posterior,
    noise: jax.Array,
    key: jax.Array,
    count: int,
    choices: Choices | None,
    *,
    kernel: str = "matern52",
    features: int = 512,
) -> Paths:
    """Independent samples of the noise-free function from its posterior.

    Args:
        posterior: conditioned on N rows; if it has several worlds, the samples are divided among them.
        noise: float[N], total noise variance of each row.
        count: S, number of samples. features: F; the error of the prior's covariance falls as 1 / sqrt(F).
    """
    dtype = posterior.y.dtype
    p = posterior.parameters
    embedded = embed(posterior.points, p.weights, choices)
    frequency_key, chi_key, phase_key, weight_key, noise_key = threefry.split(key, 5)
    frequencies = jax.random.normal(frequency_key, (features, embedded.shape[1]), dtype)
    freedom = _FREEDOM[kernel]
    if freedom is not None:
        chi = jnp.sum(jax.random.normal(chi_key, (features, freedom), dtype) ** 2, axis=1, keepdims=True)
        frequencies = frequencies * jnp.sqrt(freedom / chi)
    phases = jax.random.uniform(phase_key, (features,), dtype, 0.0, float(2 * np.pi))
    weights = jax.random.normal(weight_key, (count, features), dtype) * jnp.sqrt(2.0 * p.scale / features)
    paths = Paths(frequencies, phases, weights, jnp.zeros((count, posterior.mask.shape[0]), dtype))
    shake = jax.random.normal(noise_key, paths.update.shape, dtype) * jnp.sqrt(noise)[None, :]
    worlds = jnp.atleast_2d(posterior.y)
    y = worlds[np.arange(count) % worlds.shape[0]]
    gap = jnp.where(posterior.mask[None, :], y - _prior(paths, embedded) - shake, 0.0)
    return paths._replace(update=(gap @ posterior.root.T) @ posterior.root)


def evaluate(
    paths: Paths,
    posterior: gp.Posterior,
    queries: Points,
    choices: Choices | None,
    *,
    kernel: str = "matern52",
) -> jax.Array:
    """Values of the paths at n points: float[S, n]."""
    p = posterior.parameters
    profile: Profile = PROFILES[kernel]
    categorical = None if choices is None else choices.categorical
    k = p.scale * cross(queries, posterior.points, p.weights, categorical, profile)
    k = jnp.where(posterior.mask[None, :], k, 0.0)
    return _prior(paths, embed(queries, p.weights, choices)) + paths.update @ k.T
