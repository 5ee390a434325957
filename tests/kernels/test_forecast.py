"""Forecasts of learning curves beside a Bayesian linear regression by NumPy, and on curves whose end is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from jhpo.kernels.forecast import EXPONENTS, NOISES, Gain, common_gain, forecast, shapes

R = 10
T = np.arange(1, R + 1) / R
PSI = shapes(T)


def shape(c: float) -> np.ndarray:
    return (T**-c - 1) / (T[0] ** -c - 1)


def reference(y: np.ndarray, gain: tuple[float, float]) -> tuple[float, float]:
    """Mean and variance of the end, from the marginal normal of the curve and its end under every hypothesis."""
    k, evidence, means, variances = len(y), [], [], []
    for c in EXPONENTS:
        for noise in NOISES:
            psi = shape(c)[:k]
            # (y, a) are jointly normal: a ~ N(mean of y, 10^2), D ~ N(*gain), y = a + D psi + noise
            mean = y.mean() + gain[0] * psi
            cov = 100.0 + gain[1] * np.outer(psi, psi) + noise**2 * np.eye(k)
            evidence.append(multivariate_normal.logpdf(y, mean, cov))
            cross = np.linalg.solve(cov, np.full(k, 100.0))
            means.append(y.mean() + cross @ (y - mean))
            variances.append(100.0 - cross @ np.full(k, 100.0))
    weight = np.exp(evidence - logsumexp(evidence))
    middle = weight @ means
    return middle, weight @ (np.asarray(variances) + (np.asarray(means) - middle) ** 2)


def test_the_end_is_that_of_a_bayesian_regression(x64: None) -> None:
    rng, made = np.random.default_rng(0), jax.jit(jax.vmap(forecast, (0, None, 0, None)))
    curves = 0.3 + rng.uniform(0.2, 2, (6, 1)) * shape(0.8)[None] + 0.05 * rng.normal(size=(6, R))
    counts = np.array([1, 2, 3, 5, 9, 10])
    found = made(curves, PSI, counts.astype(np.int32), Gain(jnp.float64(0.7), jnp.float64(0.5)))
    expected = np.array([reference(y[:k], (0.7, 0.5)) for y, k in zip(curves, counts)])
    np.testing.assert_allclose(found.end, expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(found.end_variance, expected[:, 1], rtol=1e-4)
    assert (np.diff(found.end_variance) < 0).all()  # the more is seen, the surer


def test_float32_agrees_and_what_is_beyond_does_not_matter() -> None:
    y = np.asarray(0.3 + shape(1.6), np.float32)
    wild = np.where(np.arange(R) < 4, y, np.inf).astype(np.float32)
    gain = Gain(jnp.float32(0.5), jnp.float32(1.0))
    found = jax.jit(forecast)(wild, PSI.astype(np.float32), jnp.int32(4), gain)
    assert abs(found.end - 0.3) < 3 * np.sqrt(found.end_variance) and abs(found.end - 0.3) < 0.1
    assert jax.tree.leaves(found)[0].dtype == jnp.float32
    np.testing.assert_allclose(found.end, reference(y[:4].astype(float), (0.5, 1.0))[0], atol=1e-3)


@pytest.mark.slow
def test_what_curves_gain_in_common() -> None:
    y = np.asarray(0.1 + np.linspace(0.5, 1.5, 32)[:, None] * shape(0.6)[None], np.float32)
    found = jax.vmap(forecast, (0, None, 0, None))(
        y, PSI.astype(np.float32), jnp.full(32, R, jnp.int32), Gain(jnp.float32(0.5), jnp.float32(1.0))
    )
    gain = common_gain(found, jnp.arange(32) < 31)
    assert abs(gain.mean - 1.0) < 0.05 and 0.05 < gain.variance < 0.25
    nothing = common_gain(found, jnp.zeros(32, bool))
    np.testing.assert_allclose([nothing.mean, nothing.variance], [0.5, 1.01], rtol=1e-5)
