"""Functions drawn from a posterior: their moments are the posterior's, whatever the kernel and the space."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels import covariance, gp, pathwise
from jhpo.kernels.covariance import Points
from tests.selection import slow_except

CATEGORICAL, CELLS = np.array([False, True]), np.array([0, 3])
CHOICES = pathwise.Choices(CATEGORICAL, CELLS, 4)


def points(n: int, seed: int) -> Points:
    random = np.random.default_rng(seed)
    x = np.stack([random.random(n), (random.integers(0, 3, n) + 0.5) / 3], axis=1)
    return Points(x, random.random((n, 2)) < 0.8)


def test_embedding_keeps_the_distances(x64):
    weights, p = jnp.asarray([4.0, 2.0, 0.5]), points(12, 0)
    e = np.asarray(pathwise.embed(p, weights, CHOICES))
    gaps = ((e[:, None] - e[None]) ** 2).sum(axis=-1)
    np.testing.assert_allclose(gaps, covariance.distances(covariance.all_terms(p, CATEGORICAL), weights), atol=1e-12)


@pytest.mark.parametrize("kernel", slow_except({"matern52"}, ["matern52", "rbf"]))
def test_moments_of_the_paths(x64, kernel):
    profile, count = covariance.PROFILES[kernel], 4000
    rows, queries = points(16, 1), points(5, 2)
    y = np.sin(6 * rows.x[:, 0]) + rows.x[:, 1]
    mask = np.arange(16) < 11
    data = gp.Data(rows, y - y.mean(), np.full(16, 0.02), mask)
    posterior = gp.condition(jnp.log(jnp.asarray([0.4, 1.0, 1.5, 0.8, 0.01])), data, CATEGORICAL, profile)
    noise = jnp.where(mask, 0.03, 0.0)
    options = {"kernel": kernel}
    paths = pathwise.draw(posterior, noise, jax.random.key(0), count, CHOICES, features=4000, **options)
    values = np.asarray(pathwise.evaluate(paths, posterior, queries, CHOICES, **options))
    mean, cov = gp.joint(posterior, queries, CATEGORICAL, profile)
    deviation = np.sqrt(np.diag(cov))
    # sampling error of the mean, and that of the features, which is the same for all paths
    np.testing.assert_allclose(values.mean(axis=0), mean, atol=5 * deviation.max() / np.sqrt(count) + 0.01)
    np.testing.assert_allclose(np.cov(values.T), cov, atol=0.1 * deviation.max() ** 2)
