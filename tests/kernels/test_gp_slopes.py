"""Values and derivatives together: against scikit-learn's covariances, automatic and finite differences, and `gp`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF, Matern

from jhpo.kernels import gp, gp_fit, gp_slopes, warp
from jhpo.kernels.covariance import JETS, PROFILES, Points, all_terms

D, N, S = 3, 16, 8
CONTINUOUS = np.zeros(D, bool)
LENGTHS, SCALE, NOISE, SLOPE_NOISE = np.array([0.4, 0.9, 2.0]), 1.7, 0.02, 0.03
THETA = np.log([*LENGTHS, 1.0, SCALE, NOISE, SLOPE_NOISE])
NAMES = sorted(n for n, profile in PROFILES.items() if profile in JETS)


def truth(x):
    return np.sin(5 * x[:, 0]) + x[:, 1] ** 2 * x[:, 2]


def truth_grad(x):
    return np.stack([5 * np.cos(5 * x[:, 0]), 2 * x[:, 1] * x[:, 2], x[:, 1] ** 2], axis=1)


def make_data(n=11, capacity=N, poison=0.0, seed=0):
    """n points, the first 8 but one with slopes (one of which lacks a coordinate); padding filled with ``poison``."""
    x = np.full((capacity, D), poison)
    y, variance = np.full(capacity, poison), np.full(capacity, poison)
    x[:n] = np.random.default_rng(seed).random((n, D))
    y[:n], variance[:n] = truth(x[:n]), 0.0
    index = np.array([*range(7), capacity - 1], np.int32)  # the last one is padding
    grad = truth_grad(x[index])
    mask = np.ones((S, D), bool)
    mask[2, 1] = False
    grad[2, 1] = poison
    return gp.Data(Points(x), y, variance, np.arange(capacity) < n), gp_slopes.Slopes(index, grad, mask)


def differences(name, x, h=1e-3):
    """Covariances of values and scaled slopes at n points, from scikit-learn's kernel at points a little beside."""
    n = len(x)
    u = x / LENGTHS
    shape = RBF(1.0) if name == "rbf" else Matern(1.0, nu=2.5)
    eye = np.eye(D)
    beside = np.concatenate([u, *((u[:, None] + sign * h * eye).reshape(-1, D) for sign in (1, -1))])
    rows = np.zeros((n * (1 + D), len(beside)))
    rows[:n, :n] = np.eye(n)
    rows[n:, n : n + n * D] = np.eye(n * D) / (2 * h)
    rows[n:, n + n * D :] = -np.eye(n * D) / (2 * h)
    return rows @ shape(beside) @ rows.T


@pytest.mark.parametrize("name", NAMES)
def test_covariances_against_finite_differences(x64, name):
    x = np.random.default_rng(3).random((6, D))
    x[5] = x[4]  # coincident points too
    terms = all_terms(Points(jnp.asarray(x)), CONTINUOUS)
    weights = jnp.asarray([*LENGTHS**-2.0, 1.0])
    gram = gp_slopes.gram(jnp.asarray(x), terms, jnp.arange(6, dtype=jnp.int32), weights, PROFILES[name])
    np.testing.assert_allclose(gram, differences(name, x), atol=2e-5)
    np.testing.assert_allclose(gram, gram.T, atol=1e-14)
    assert np.linalg.eigvalsh(np.asarray(gram)).min() > -1e-12


@pytest.mark.parametrize("name", NAMES)
def test_posterior_against_a_dense_one(x64, name):
    n, queries = 11, np.random.default_rng(1).random((20, D))
    data, slopes = make_data(n)
    posterior = gp_slopes.condition(jnp.asarray(THETA), data, slopes, CONTINUOUS, PROFILES[name])
    mean, variance = jax.vmap(lambda q: gp.predict(posterior, Points(q), CONTINUOUS, PROFILES[name]))(queries)

    every = SCALE * differences(name, np.concatenate([data.points.x[:n], queries]))
    m = n + len(queries)
    keep = [m + D * i + j for i in range(7) for j in range(D) if (i, j) != (2, 1)]
    rows = [*range(n), *keep]
    steep = SCALE * (1.0 if name == "rbf" else 5.0 / 3.0)
    gram = every[np.ix_(rows, rows)] + np.diag([NOISE] * n + [steep * SLOPE_NOISE] * len(keep))
    scaled = (slopes.grad[:7] * LENGTHS)[np.asarray(slopes.mask[:7])]
    z = np.concatenate([data.y[:n], scaled])
    cross = every[n:m][:, rows]
    np.testing.assert_allclose(mean, cross @ np.linalg.solve(gram, z), atol=2e-4)
    expected = SCALE - (cross * np.linalg.solve(gram, cross.T).T).sum(axis=1)
    np.testing.assert_allclose(variance, expected, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_the_fit(x64, name):
    data, slopes = make_data()
    prior = gp_slopes.default_prior(D, jnp.float64)
    objective = jax.jit(gp_slopes.objective(data, slopes, prior, CONTINUOUS, PROFILES[name]))
    for seed in range(2):
        theta = THETA + np.random.default_rng(seed).normal(0, 0.3, THETA.size)
        _, grad = objective(theta)
        step = 1e-5 * np.eye(THETA.size)
        central = [(objective(theta + e)[0] - objective(theta - e)[0]) / 2e-5 for e in step]
        np.testing.assert_allclose(grad, central, rtol=1e-6, atol=1e-5)


@pytest.mark.slow
def test_the_likelihood_is_a_density_of_the_derivatives(x64):
    """Other lengthscales scale the slopes: the objective has to be the density of the data, not of what is modelled."""
    data, slopes = make_data()
    flat = gp_fit.Prior(*(np.zeros(D + 4), np.full(D + 4, 1e9), np.full(D + 4, -9.0), np.full(D + 4, 9.0)))
    objective = gp_slopes.objective(data, slopes, flat, CONTINUOUS)
    clean, known = gp_slopes.cleaned(data, slopes)
    terms, counts = all_terms(clean.points, CONTINUOUS), np.asarray(known.mask)
    values = []
    for theta in (THETA, THETA + 0.3):
        k = np.asarray(gp_slopes.noisy_covariance(jnp.asarray(theta), clean, known, terms, PROFILES["matern52"]))
        lengths = np.concatenate([np.ones(N), np.broadcast_to(np.exp(theta[:D]), counts.shape).ravel()])
        lengths = np.where(np.concatenate([clean.mask, counts.ravel()]), lengths, 1.0)
        lengths = np.concatenate([lengths, np.ones(len(k) - len(lengths))])
        by_unit = k / lengths[:, None] / lengths[None, :]
        z = np.asarray(gp_slopes.padded(clean.y, known.grad))
        density = 0.5 * z @ np.linalg.solve(by_unit, z) + 0.5 * np.linalg.slogdet(by_unit)[1]
        values.append((float(objective(jnp.asarray(theta))[0]), density))
    (a, exact_a), (b, exact_b) = values
    assert b - a == pytest.approx(exact_b - exact_a, rel=1e-9)


def test_padding_changes_nothing(x64):
    queries = np.random.default_rng(1).random((20, D))

    @jax.jit
    def compute(data, slopes):
        posterior = gp_slopes.condition(jnp.asarray(THETA), data, slopes, CONTINUOUS)
        predicted = jax.vmap(lambda q: gp.predict(posterior, Points(q), CONTINUOUS))(queries)
        prior = gp_slopes.default_prior(D, jnp.float64)
        value, grad = gp_slopes.objective(data, slopes, prior, CONTINUOUS)(jnp.asarray(THETA))
        return jnp.concatenate([*predicted, value[None], grad])

    results = [np.asarray(compute(*make_data(11, *case))) for case in ((16, 0.0), (16, 1e6), (32, np.nan))]
    assert np.isfinite(results[0]).all()
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=1e-10, atol=1e-10)


def test_without_slopes_it_is_the_plain_process(x64):
    data, slopes = make_data()
    slopes = slopes._replace(mask=np.zeros_like(slopes.mask))
    query = Points(jnp.full((D,), 0.3))
    with_none = gp.predict(gp_slopes.condition(jnp.asarray(THETA), data, slopes, CONTINUOUS), query, CONTINUOUS)
    plain = gp.predict(gp.condition(jnp.asarray(THETA[:-1]), data, CONTINUOUS), query, CONTINUOUS)
    np.testing.assert_allclose(with_none, plain, rtol=1e-10)


@pytest.mark.slow
def test_appended_and_extended_rows_against_fresh_ones(x64):
    data, slopes = make_data(12)
    full = gp_slopes.condition(jnp.asarray(THETA), data, slopes, CONTINUOUS)
    fewer = data._replace(mask=np.arange(N) < 11)
    part = gp_slopes.condition(jnp.asarray(THETA), fewer, slopes, CONTINUOUS)
    queries = Points(jnp.asarray(np.random.default_rng(2).random((9, D))))
    point = Points(jnp.asarray(data.points.x[11]))
    rows = gp.whiten(part, queries, CONTINUOUS)
    column = gp.extend(part, rows, queries, point, CONTINUOUS)
    more = gp.append(part, jnp.int32(11), point, jnp.asarray(data.y[11]), CONTINUOUS)
    ours, theirs = (jax.vmap(lambda q, p=p: gp.predict(p, q, CONTINUOUS))(queries) for p in (more, full))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(SCALE - (rows.at[:, 11].set(column) ** 2).sum(axis=1), theirs[1], atol=1e-10)


@pytest.mark.slow
def test_float32_agrees_with_float64(x64):
    data, slopes = make_data()
    queries = np.random.default_rng(1).random((20, D))

    def mean(dtype):
        cast = jax.tree.map(lambda a: a.astype(dtype) if np.asarray(a).dtype.kind == "f" else a, (data, slopes))
        posterior = gp_slopes.condition(jnp.asarray(THETA, dtype), *cast, CONTINUOUS)  # type: ignore[call-arg]
        return jax.vmap(lambda q: gp.predict(posterior, Points(q), CONTINUOUS)[0])(queries.astype(dtype))

    assert mean(np.float32).dtype == np.float32
    np.testing.assert_allclose(mean(np.float32), mean(np.float64), atol=2e-3)


@pytest.mark.slow
def test_slopes_are_worth_many_values(x64):
    """Fitted to the same points, the error with slopes is a fraction of that without."""
    data, slopes = make_data(8)
    queries = np.random.default_rng(1).random((200, D))
    prior, plain = gp_slopes.default_prior(D, jnp.float64), gp_fit.default_prior(D, jnp.float64)
    theta = gp_slopes.fit(jnp.asarray(prior.mean)[None], data, slopes, prior, CONTINUOUS, iterations=60)
    alone, _ = gp_fit.fit(jnp.asarray(plain.mean)[None], data, plain, CONTINUOUS, iterations=60)
    errors = []
    for posterior in (gp_slopes.condition(theta, data, slopes, CONTINUOUS), gp.condition(alone, data, CONTINUOUS)):
        mean = jax.vmap(lambda q, p=posterior: gp.predict(p, Points(q), CONTINUOUS)[0])(queries)
        errors.append(np.sqrt(np.mean((mean - truth(queries)) ** 2)))
    assert errors[0] < 0.3 * errors[1]


def test_smooth_warp(x64):
    y = jnp.asarray([3.0, 1.0, 2.0, 2.5, 1e9, np.inf])
    mask = jnp.asarray([True] * 5 + [False])
    z, slope = warp.half_log(y, mask)
    np.testing.assert_array_equal(z[1:4], y[1:4])  # at and below the median
    assert float(z[3]) < float(z[0]) < float(z[4]) < 50.0
    for i in (0, 4):
        h = 1e-6 * y[i]
        up, down = (warp.half_log(y.at[i].add(s * h), mask)[0][i] for s in (1, -1))
        assert float(slope[i]) == pytest.approx(float((up - down) / (2 * h)), rel=1e-4)
