"""The box-constrained L-BFGS against SciPy's L-BFGS-B."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jhpo.kernels import gp, gp_fit, lbfgs
from jhpo.kernels.covariance import Points


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def scipy_minimum(value_and_grad, x, lower, upper):
    def f(v):
        value, grad = value_and_grad(v)
        return float(value), np.asarray(grad, float)

    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-9}
    return scipy.optimize.minimize(f, x, jac=True, method="L-BFGS-B", bounds=list(zip(lower, upper)), options=options)


@pytest.mark.parametrize("upper", [2.0, 0.5])
def test_rosenbrock_in_a_box(x64, upper):
    value_and_grad = jax.jit(jax.value_and_grad(rosenbrock))
    lower, upper = np.full(10, -2.0), np.full(10, upper)
    # positive: from elsewhere the two may end in different ones of the function's two minima
    starts = np.random.default_rng(0).uniform(0.0, 1.0, (4, 10))
    solve = jax.jit(jax.vmap(lambda x: lbfgs.minimize(value_and_grad, x, lower, upper, iterations=300)))
    found = solve(starts)
    assert float(found.residual.max()) < 1e-5  # the KKT conditions at the bounds
    assert (np.asarray(found.x) >= lower).all() and (np.asarray(found.x) <= upper).all()
    for start, value in zip(starts, found.value):
        assert abs(float(value) - scipy_minimum(value_and_grad, start, lower, upper).fun) < 1e-6


@pytest.mark.slow
def test_twenty_likelihoods(x64):
    """Fits of random data sets: never worse than SciPy by more than 1e-6, and stationary."""
    n, d = 32, 3
    prior = gp_fit.default_prior(d, jnp.float64)
    categorical = np.zeros(d, bool)
    start = jnp.asarray(prior.mean)

    def problem(x, y):
        data = gp.Data(Points(x), y, jnp.zeros(n), jnp.ones(n, bool))
        return gp_fit.objective(data, prior, categorical)

    @jax.jit
    def solve(x, y):
        return lbfgs.minimize(problem(x, y), start, prior.lower, prior.upper, iterations=120)

    both = jax.jit(lambda theta, x, y: problem(x, y)(theta))
    random = np.random.default_rng(1)
    for _ in range(20):
        x = random.random((n, d))
        y = np.sin(6 * x @ random.random(d)) + 0.2 * random.normal(size=n)
        y = (y - y.mean()) / y.std()
        found = solve(x, y)
        reference = scipy_minimum(lambda theta, x=x, y=y: both(theta, x, y), start, prior.lower, prior.upper)
        assert float(found.value) <= reference.fun + 1e-6
        assert float(found.residual) < 1e-5


def test_non_finite_values_are_rejected(x64):
    def f(x):  # nan beyond 1: the first step from 0 lands there
        return jnp.where(x[0] > 1.0, jnp.nan, -50.0 * x[0] + 40.0 * x[0] ** 2)

    box = jnp.full(1, 10.0)
    found = jax.jit(lambda x: lbfgs.minimize(jax.value_and_grad(f), x, -box, box, iterations=40))(jnp.zeros(1))
    np.testing.assert_allclose(found.x, [0.625], rtol=1e-6)
    stuck = lbfgs.minimize(lambda x: (jnp.nan * x[0], x), jnp.ones(1), -box, box, iterations=3)
    assert float(stuck.x[0]) == 1.0 and float(stuck.value) == np.inf


def test_starts_side_by_side_end_like_one_alone(x64):
    """Each stops when it has converged itself, with bounds of its own."""
    value_and_grad = jax.value_and_grad(rosenbrock)
    starts = jnp.asarray([[1.0, 1.0], [0.5, 0.9], [-1.0, 1.5]])  # the first has converged before it begins

    def problem(x):
        return value_and_grad, jnp.full(2, -2.0), x + 3.0

    options = {"iterations": 40, "memory": 3, "tolerance": 1e-3}
    each = jax.jit(lambda xs: lbfgs.minimize_each(problem, xs, **options))(starts)
    alone = jax.jit(lambda x: lbfgs.minimize(value_and_grad, x, *problem(x)[1:], **options))
    for x, found in zip(starts, zip(*each)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9), found, tuple(alone(x)))
    assert len(set(each.residual.tolist())) == 3


def test_float32_and_its_dtypes():
    box = jnp.full(4, 2.0)
    found = jax.jit(lambda x: lbfgs.minimize(jax.value_and_grad(rosenbrock), x, -box, box, iterations=100))(
        jnp.zeros(4)
    )
    assert found.x.dtype == jnp.float32
    assert float(found.value) < 1e-6
