"""The Gaussian process against scikit-learn, SciPy, central differences and itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

from jhpo.kernels import covariance, gp, gp_fit
from jhpo.kernels.covariance import Points

D = 3
CONTINUOUS = np.zeros(D, bool)
LENGTHS, SCALE, NOISE = np.array([0.4, 0.9, 2.0]), 1.7, 0.02
THETA = np.log([*LENGTHS, 1.0, SCALE, NOISE])


def make_data(n, capacity, seed=0, poison=0.0):
    """n rows of a smooth function in a buffer, the padding filled with ``poison``."""
    random = np.random.default_rng(seed)
    x = np.full((capacity, D), poison)
    y = np.full(capacity, poison)
    x[:n] = random.random((n, D))
    y[:n] = np.sin(5 * x[:n, 0]) + x[:n, 1] ** 2 + 0.1 * random.normal(size=n)
    return gp.Data(Points(x), y, np.full(capacity, poison), np.arange(capacity) < n)._replace(
        variance=np.where(np.arange(capacity) < n, 0.0, poison)
    )


def reference(name, data, n):
    nu = {"matern52": 2.5, "matern32": 1.5, "matern12": 0.5}.get(name)
    shape = RBF(LENGTHS) if nu is None else Matern(LENGTHS, nu=nu)
    kernel = ConstantKernel(SCALE) * shape + WhiteKernel(NOISE)
    return GaussianProcessRegressor(kernel, alpha=0.0, optimizer=None).fit(data.points.x[:n], data.y[:n])


@pytest.mark.parametrize("name", sorted(covariance.PROFILES))
def test_posterior_and_likelihood_against_scikit_learn(x64, name):
    n, profile = 23, covariance.PROFILES[name]
    data = make_data(n, 32)
    model = reference(name, data, n)
    queries = np.random.default_rng(1).random((20, D))

    @jax.jit
    def compute(data, queries):
        posterior = gp.condition(jnp.asarray(THETA), data, CONTINUOUS, profile)
        single = jax.vmap(lambda q: gp.predict(posterior, Points(q), CONTINUOUS, profile))(queries)
        together = gp.joint(posterior, Points(queries), CONTINUOUS, profile)
        return single, together, gp_fit.negative_log_likelihood(jnp.asarray(THETA), data, CONTINUOUS, profile)

    (mean, variance), (joint_mean, joint), value = compute(data, queries)
    expected, covariances = model.predict(queries, return_cov=True)
    noise_free = np.diag(covariances) - NOISE
    np.testing.assert_allclose(mean, expected, rtol=1e-9)
    np.testing.assert_allclose(variance, noise_free, rtol=1e-9)
    np.testing.assert_allclose(joint_mean, expected, rtol=1e-9)
    np.testing.assert_allclose(joint, covariances - NOISE * np.eye(20), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(-value, model.log_marginal_likelihood_value_, rtol=1e-9)


def test_likelihood_against_the_normal_density(x64):
    """With a known variance a row, which scikit-learn's white kernel cannot express."""
    n = 17
    data = make_data(n, 32)
    variance = np.where(data.mask, np.linspace(0.01, 0.5, 32), 7.0)
    gram = SCALE * Matern(LENGTHS, nu=2.5)(data.points.x[:n]) + np.diag(NOISE + variance[:n])
    expected = scipy.stats.multivariate_normal(np.zeros(n), gram).logpdf(data.y[:n])
    value = gp_fit.negative_log_likelihood(THETA, data._replace(variance=variance), CONTINUOUS)
    np.testing.assert_allclose(-value, expected, rtol=1e-9)


def plain_likelihood(theta, data, categorical):
    """The same number by automatic differentiation through a Cholesky factor."""
    p = gp.unpack(theta)
    n = int(data.mask.sum())
    rows = jax.tree.map(lambda leaf: leaf[:n], data.points)
    gram = p.scale * covariance.cross(rows, rows, p.weights, categorical) + jnp.diag(p.noise + data.variance[:n])
    factor = jnp.linalg.cholesky(gram)
    white = jax.scipy.linalg.solve_triangular(factor, data.y[:n], lower=True)
    return 0.5 * white @ white + jnp.log(jnp.diagonal(factor)).sum() + 0.5 * n * jnp.log(2 * jnp.pi)


def test_likelihood_gradient(x64):
    data = make_data(40, 64)
    data = data._replace(points=Points(data.points.x.copy(), np.arange(64 * D).reshape(64, D) % 5 != 0))
    data.points.x[:, 1] = (np.floor(3 * data.points.x[:, 1]) + 0.5) / 3  # a category of three
    categorical = np.array([False, True, False])
    value = jax.jit(lambda theta: gp_fit.negative_log_likelihood(theta, data, categorical))
    grad = jax.jit(jax.grad(lambda theta: gp_fit.negative_log_likelihood(theta, data, categorical)))
    for seed in range(3):
        theta = THETA + np.random.default_rng(seed).normal(0, 0.3, THETA.size)
        automatic = jax.grad(plain_likelihood)(theta, data, categorical)
        np.testing.assert_allclose(grad(theta), automatic, rtol=1e-10, atol=1e-10)
        step = 1e-5 * np.eye(THETA.size)
        central = [(value(theta + e) - value(theta - e)) / 2e-5 for e in step]
        np.testing.assert_allclose(grad(theta), central, rtol=1e-6, atol=1e-6)


def test_padding_changes_nothing(x64):
    queries = np.random.default_rng(1).random((20, D))

    @jax.jit
    def compute(data):
        posterior = gp.condition(jnp.asarray(THETA), data, CONTINUOUS)
        predicted = jax.vmap(lambda q: gp.predict(posterior, Points(q), CONTINUOUS))(queries)
        value, grad = jax.value_and_grad(gp_fit.negative_log_likelihood)(jnp.asarray(THETA), data, CONTINUOUS)
        return jnp.concatenate([*predicted, value[None], grad])

    cases = ((32, 0.0), (32, 1e6), (64, 1e6), (64, np.nan))
    results = [np.asarray(compute(make_data(20, capacity, poison=poison))) for capacity, poison in cases]
    assert np.isfinite(results[0]).all()
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-10, atol=1e-10)


def test_appended_rows_against_a_full_factor(x64):
    data = make_data(32, 64)
    full = gp.condition(THETA, data, CONTINUOUS)
    part = gp.condition(THETA, data._replace(mask=np.arange(64) < 12), CONTINUOUS)
    add = jax.jit(lambda p, i, x, y: gp.append(p, i, Points(x), y, CONTINUOUS))
    for i in range(12, 32):
        part = add(part, jnp.int32(i), data.points.x[i], data.y[i])
    np.testing.assert_array_equal(part.mask, full.mask)
    np.testing.assert_allclose(part.root, full.root, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(part.alpha, full.alpha, rtol=1e-9, atol=1e-9)


def test_fit_finds_the_relevant_dimensions(x64):
    """A function of the first coordinate alone: its lengthscale is the shortest, the noise close to the truth."""
    random = np.random.default_rng(0)
    x = random.random((64, D))
    y = np.sin(8 * x[:, 0]) + 0.1 * random.normal(size=64)
    y = (y - y.mean()) / y.std()
    data = gp.Data(Points(x), y, np.zeros(64), np.ones(64, bool))
    prior = gp_fit.default_prior(D, jnp.float64)
    starts = np.stack([prior.mean, prior.mean + 0.5])
    theta, value = jax.jit(lambda s: gp_fit.fit(s, data, prior, CONTINUOUS, iterations=60))(starts)
    lengths = np.exp(theta[:D])
    assert lengths[0] < 0.5 and lengths[0] < 0.3 * lengths[1:].min()
    assert 0.003 < float(np.exp(theta[-1])) < 0.06
    assert np.isfinite(value)


def test_float32_agrees_with_float64(x64):
    data = make_data(50, 64)
    single = jax.tree.map(lambda a: a if a.dtype == bool else a.astype(np.float32), data)
    query = np.random.default_rng(2).random((10, D))

    @jax.jit
    def compute(theta, data, query):
        posterior = gp.condition(theta, data, CONTINUOUS)
        return jax.vmap(lambda z: gp.predict(posterior, Points(z), CONTINUOUS))(query)

    results = [
        compute(THETA, data, query),
        compute(THETA.astype(np.float32), single, query.astype(np.float32)),
    ]
    assert results[1][0].dtype == jnp.float32
    np.testing.assert_allclose(results[1][0], results[0][0], atol=2e-4)
    np.testing.assert_allclose(results[1][1], results[0][1], atol=2e-4)


def test_no_rows_at_all_is_the_prior(x64):
    data = make_data(0, 32, poison=np.nan)
    posterior = gp.condition(THETA, data, CONTINUOUS)
    mean, variance = gp.predict(posterior, Points(np.full(D, 0.3)), CONTINUOUS)
    assert float(mean) == 0.0
    np.testing.assert_allclose(variance, SCALE, rtol=1e-12)


def test_worlds_against_one_at_a_time(x64):
    """Targets with a leading axis: as many posteriors as there are rows of them, with one factorisation."""
    data = make_data(12, 32)
    one = gp.condition(THETA, data._replace(mask=np.arange(32) < 12), CONTINUOUS)
    worlds = one._replace(y=jnp.stack([one.y] * 3), alpha=jnp.stack([one.alpha] * 3))
    point, query, values = Points(np.full(D, 0.4)), Points(np.full(D, 0.3)), jnp.array([-1.0, 0.2, 3.0])
    means, variance = gp.predict(gp.append(worlds, jnp.int32(12), point, values, CONTINUOUS), query, CONTINUOUS)
    for mean, value in zip(means, values):
        single = gp.append(one, jnp.int32(12), point, value, CONTINUOUS)
        np.testing.assert_allclose((mean, variance), gp.predict(single, query, CONTINUOUS), rtol=1e-12)


def test_extended_rows_against_fresh_ones(x64):
    """What `extend` adds for an appended point is what `whiten` computes anew, and gives the same variances."""
    data = make_data(12, 32)
    queries = Points(np.random.default_rng(3).random((7, D)))
    before = gp.condition(THETA, data._replace(mask=np.arange(32) < 12), CONTINUOUS)
    point = Points(np.full(D, 0.4))
    rows = gp.whiten(before, queries, CONTINUOUS)
    column = gp.extend(before, rows, queries, point, CONTINUOUS)
    after = gp.append(before, jnp.int32(12), point, jnp.asarray(0.7), CONTINUOUS)
    fresh = gp.whiten(after, queries, CONTINUOUS)
    np.testing.assert_allclose(rows.at[:, 12].set(column), fresh, rtol=1e-9, atol=1e-10)
    mean, variance = jax.vmap(lambda q: gp.predict(after, q, CONTINUOUS))(queries)
    np.testing.assert_allclose(fresh @ (after.root @ after.y), mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(SCALE - (fresh**2).sum(axis=1), variance, rtol=1e-8)


def test_fitted_means_against_predicted_ones(x64):
    n = 9
    data = make_data(n, 16, poison=7.0)
    data = data._replace(variance=np.where(data.mask, np.linspace(0.0, 0.5, 16), 7.0))
    posterior = gp.condition(THETA, data, CONTINUOUS)
    expected = jax.vmap(lambda x: gp.predict(posterior, Points(x), CONTINUOUS)[0])(data.points.x[:n])
    np.testing.assert_allclose(gp.fitted(posterior, data.variance)[:n], expected, rtol=1e-9)


def test_left_out_rows_against_scikit_learn(x64):
    n = 9
    data = make_data(n, 16, poison=7.0)
    wrong = gp.left_out(gp.condition(THETA, data, CONTINUOUS))
    for row in range(n):
        others = np.delete(np.arange(n), row)
        rest = gp.Data(Points(data.points.x[others]), data.y[others], data.variance[others], data.mask[others])
        expected = data.y[row] - reference("matern52", rest, n - 1).predict(data.points.x[row : row + 1])[0]
        np.testing.assert_allclose(wrong[row], expected, rtol=1e-9)
    np.testing.assert_array_equal(wrong[n:], 0.0)
