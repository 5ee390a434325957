"""Acquisition functions against closed forms, quadrature and brute-force sampling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jhpo.kernels import acquisition, gp
from jhpo.kernels.covariance import Points
from jhpo.kernels.hypervolume import open_boxes
from jhpo.kernels.sobol import sobol

pytestmark = pytest.mark.quick

CASES = [(0.0, 1.0, 0.0), (0.5, 0.2, 0.0), (-1.0, 2.0, 0.3), (3.0, 1.0, 0.0), (-4.0, 0.1, 0.0)]


@pytest.mark.parametrize("mean,deviation,best", CASES)
def test_expected_improvement(x64, mean, deviation, best):
    got = float(acquisition.expected_improvement(jnp.asarray(mean), jnp.asarray(deviation**2), jnp.asarray(best)))
    u = (best - mean) / deviation
    normal = scipy.stats.norm
    np.testing.assert_allclose(got, deviation * (normal.pdf(u) + u * normal.cdf(u)), rtol=1e-12)
    density = normal(mean, deviation).pdf
    low = min(mean, best) - 12 * deviation
    area = scipy.integrate.quad(lambda f: (best - f) * density(f), low, best, epsabs=1e-14, epsrel=1e-13, limit=400)
    np.testing.assert_allclose(got, area[0], rtol=1e-8)


def test_probability_and_bound(x64):
    mean, variance = jnp.asarray([0.0, 1.0, -2.0]), jnp.asarray([1.0, 0.25, 4.0])
    got = acquisition.log_probability_of_improvement(mean, variance, jnp.asarray([0.5, 0.5, 0.5]))
    expected = scipy.stats.norm(np.asarray(mean), np.sqrt(variance)).logcdf(0.5)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    np.testing.assert_allclose(acquisition.confidence_bound(mean, variance, 2.0), [2.0, 0.0, 6.0], rtol=1e-12)
    feasible = acquisition.log_probability_feasible(mean, variance)
    np.testing.assert_allclose(feasible, scipy.stats.norm.logcdf([0.0, 2.0, -1.0]).sum(), rtol=1e-12)


def make_posterior(noise):
    random = np.random.default_rng(0)
    x = random.random((32, 2))
    y = np.sin(5 * x[:, 0]) + x[:, 1] ** 2
    data = gp.Data(Points(x), y - y.mean(), np.zeros(32), np.arange(32) < 20)
    return gp.condition(np.log([0.3, 0.5, 1.0, 1.0, noise]), data, np.zeros(2, bool))


@pytest.mark.parametrize("noise", [1e-2, 1e-4])
def test_gradient_against_differences(x64, noise):
    posterior = make_posterior(noise)
    best = jnp.min(posterior.y[:20])

    def value(x):
        return acquisition.log_expected_improvement(*gp.predict(posterior, Points(x), np.zeros(2, bool)), best)

    grad = jax.jit(jax.grad(value))
    for x in (np.array([0.2, 0.7]), np.array([0.9, 0.1]), np.asarray(posterior.points.x[3])):  # the last: a row itself
        step = 1e-6 * np.eye(2)
        central = [(value(x + e) - value(x - e)) / 2e-6 for e in step]
        np.testing.assert_allclose(grad(x), central, rtol=1e-5, atol=1e-5)


def normals(count, q, seed=0):
    u = sobol(0, count, q, jax.random.bits(jax.random.key(seed), (q,), jnp.uint32))
    return jax.scipy.special.ndtri(jnp.clip(u, 1e-7, 1 - 1e-7))


def test_batch_improvement(x64):
    best = jnp.asarray(0.2)
    for at, variance in ((0.0, 1.0), (0.8, 0.3)):
        single = acquisition.q_log_expected_improvement(
            jnp.asarray([at]), jnp.asarray([[variance]]), best, normals(4096, 1)
        )
        expected = acquisition.log_expected_improvement(jnp.asarray(at), jnp.asarray(variance), best)
        assert abs(np.expm1(float(single - expected))) < 0.01

    mean, cov = jnp.asarray([0.3, 0.5]), jnp.asarray([[1.0, 0.6], [0.6, 0.8]])
    got = float(jnp.exp(acquisition.q_log_expected_improvement(mean, cov, best, normals(4096, 2))))
    draws = np.random.default_rng(0).multivariate_normal(np.asarray(mean), np.asarray(cov), 1_000_000)
    improvement = np.maximum(float(best) - draws.min(axis=1), 0)
    assert abs(got - improvement.mean()) < 3 * improvement.std() / 1000

    order = jnp.asarray([1, 0])
    swapped = acquisition.q_log_expected_improvement(mean[order], cov[order][:, order], best, normals(4096, 2))
    assert abs(float(jnp.exp(swapped)) - got) < 3 * improvement.std() / np.sqrt(4096)


def test_batch_improvement_far_from_any(x64):
    """Hopeless batches still have a finite value and slope."""
    f = lambda m: acquisition.q_log_expected_improvement(m, jnp.eye(2) * 0.01, jnp.asarray(0.0), normals(256, 2))  # noqa: E731
    value, grad = jax.value_and_grad(f)(jnp.asarray([30.0, 31.0]))
    assert np.isfinite(value) and np.isfinite(grad).all() and float(grad[0]) < 0


@pytest.mark.parametrize("m", [2, 3])
def test_expected_hypervolume_improvement(x64, m):
    rng = np.random.default_rng(m)
    points, reference = rng.random((5, m)), jnp.full((m,), 1.2)
    mean, deviation = jnp.asarray(0.2 + 0.5 * rng.random(m)), jnp.asarray(0.1 + 0.3 * rng.random(m))
    boxes = open_boxes(jnp.asarray(points), reference)

    @jax.jit
    def log_value(mean):
        return acquisition.log_expected_hypervolume_improvement(mean, deviation**2, boxes)

    # the improvement itself, of Sobol draws of the posterior
    draws = sobol(0, 2**12, m, jnp.asarray([17, 4, 29], jnp.uint32)[:m], jnp.float64)
    new = mean[None] + deviation[None] * jax.scipy.special.ndtri(jnp.clip(draws, 1e-9, 1 - 1e-9))
    low, high = map(np.asarray, boxes)
    gains = np.clip(high[None] - np.maximum(low[None], np.asarray(new)[:, None]), 0, None).prod(-1).sum(-1)
    assert float(jnp.exp(log_value(mean))) == pytest.approx(float(gains.mean()), rel=0.01)
    # the gradient by differences, and finite values far from where anything is gained
    slope, step = jax.grad(log_value)(mean), 1e-6
    for k in range(m):
        moved = [float(log_value(mean.at[k].add(s * step))) for s in (1, -1)]
        assert float(slope[k]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-5)
    far = jnp.full((m,), 50.0)
    assert np.isfinite(float(log_value(far))) and float(log_value(far)) < -1000
    assert np.isfinite(np.asarray(jax.grad(log_value)(far))).all()


@pytest.mark.slow
def test_no_open_box_is_worth_nothing():
    boxes = open_boxes(jnp.asarray([[-jnp.inf, 0.0], [0.5, 0.5]]), jnp.asarray([0.5, 0.5]))
    shut = boxes._replace(low=boxes.high)
    value = acquisition.log_expected_hypervolume_improvement(jnp.zeros(2), jnp.ones(2), shut)
    assert float(value) == -np.inf
