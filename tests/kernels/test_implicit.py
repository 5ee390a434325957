"""Implicit hypergradients against ridge regression and the errors the solvers are known to make."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.implicit import (
    conjugate_gradient,
    implicit_value_and_grad,
    largest_eigenvalue,
    neumann,
    nystrom,
)
from jhpo.kernels.unroll_grad import reverse_value_and_grad


def spd(n, low=0.5, high=8.0, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))
    return jnp.asarray(q @ np.diag(np.geomspace(low, high, n)) @ q.T)


@pytest.fixture
def ridge(x64):
    """Per-feature penalties lambda = exp(l): dE/dl_i = -(A^-1 v)_i w_i lambda_i."""
    rng = np.random.default_rng(1)
    x, y, xv, yv = (jnp.asarray(rng.normal(size=s)) for s in ((40, 6), (40,), (30, 6), (30,)))
    logs = jnp.asarray(rng.normal(size=6))

    def train(l, w):
        return jnp.sum((x @ w - y) ** 2) / 2 + jnp.sum(jnp.exp(l) * w**2) / 2

    def valid(l, w):
        return jnp.sum((xv @ w - yv) ** 2) / 2

    def solve(l):
        return jnp.linalg.solve(x.T @ x + jnp.diag(jnp.exp(l)), x.T @ y)

    w = solve(logs)
    v = xv.T @ (xv @ w - yv)
    matrix = x.T @ x + jnp.diag(jnp.exp(logs))
    expected = -jnp.linalg.solve(matrix, v) * w * jnp.exp(logs)
    return train, valid, solve, logs, w, expected


def test_ridge_by_autodiff_and_by_conjugate_gradients(ridge):
    train, valid, solve, logs, w, expected = ridge
    np.testing.assert_allclose(jax.grad(lambda l: valid(l, solve(l)))(logs), expected, rtol=1e-10)
    by_cg = functools.partial(conjugate_gradient, iterations=6)
    value, grad, info = jax.jit(lambda l, w: implicit_value_and_grad(train, valid, l, w, by_cg))(logs, w)
    np.testing.assert_allclose(grad, expected, rtol=1e-8)
    np.testing.assert_allclose(value, valid(logs, w), rtol=1e-12)
    assert float(info.residual) < 1e-10 and not bool(info.negative)


def test_unrolled_gradient_converges_to_the_implicit_one(x64):
    """The error of T steps of gradient descent behaves as T rho^T with rho = (kappa - 1) / (kappa + 1)."""
    h = jnp.array([1.0, 2.0])
    rate, rho = 2 / 3, 1 / 3

    def step(hp, w, t):
        return w - rate * (h * w - hp)

    best = lambda hp: hp / h  # noqa: E731
    weights, hp = jnp.array([1.0, 0.7]), jnp.array([0.4, -1.1])
    curved = lambda hp, w: jnp.sum(jnp.sin(weights * w))  # noqa: E731
    exact = jax.grad(lambda hp: curved(hp, best(hp)))(hp)

    def error(steps):
        got = reverse_value_and_grad(step, curved, lambda hp: jnp.zeros((2,)), hp, steps, 1)[1]
        return float(jnp.max(jnp.abs(got - exact)))

    at10, at20 = error(10), error(20)
    assert 0.2 < (at20 / at10) / (2 * rho**10) < 2.0
    assert error(40) < 1e-12 and error(80) < 1e-12


def test_neumann_error_is_the_power_it_should_be(x64):
    matrix = spd(5)
    v = jnp.asarray(np.random.default_rng(2).normal(size=5))
    rate, products = 0.2, 7
    left = jnp.linalg.solve(matrix, v) - neumann(lambda x: matrix @ x, v, products, rate).x
    power = jnp.linalg.matrix_power(jnp.eye(5) - rate * matrix, products + 1)
    np.testing.assert_allclose(left, power @ jnp.linalg.solve(matrix, v), rtol=1e-10)


def test_conjugate_gradients_are_exact_in_n_steps(x64):
    matrix = spd(8)
    v = {"a": jnp.asarray(np.random.default_rng(3).normal(size=3)), "b": jnp.arange(5.0)}
    flat = lambda t: jnp.concatenate([t["a"], t["b"]])  # noqa: E731
    product = lambda t: dict(zip("ab", jnp.split(matrix @ flat(t), [3])))  # noqa: E731
    run = jax.jit(lambda v: conjugate_gradient(product, v, 8))(v)
    np.testing.assert_allclose(flat(run.x), jnp.linalg.solve(matrix, flat(v)), rtol=1e-10)
    damped = conjugate_gradient(product, v, 8, damping=0.7)
    np.testing.assert_allclose(flat(damped.x), jnp.linalg.solve(matrix + 0.7 * jnp.eye(8), flat(v)), rtol=1e-10)


def test_conjugate_gradients_stop_early_and_at_zero(x64):
    matrix = spd(20)
    v = jnp.ones((20,))
    run = conjugate_gradient(lambda x: matrix @ x, v, 50, tolerance=1e-3)
    assert float(run.residual) <= 1e-3 and int(run.products) < 21
    nothing = conjugate_gradient(lambda x: matrix @ x, jnp.zeros((20,)), 5)
    np.testing.assert_array_equal(nothing.x, np.zeros(20))


def test_negative_curvature_is_flagged_and_nystrom_survives_it(x64):
    matrix = jnp.diag(jnp.array([2.0, -1.0, 0.5]))
    v = jnp.array([1.0, 2.0, -1.0])
    run = conjugate_gradient(lambda x: matrix @ x, v, 3)
    assert bool(run.negative) and bool(jnp.all(jnp.isfinite(run.x)))
    other = nystrom(lambda x: matrix @ x, v, jax.random.key(0), 3, 0.01)
    assert bool(other.negative)
    np.testing.assert_allclose(other.x, v / (jnp.abs(jnp.diag(matrix)) + 0.01), rtol=1e-9)


def test_nystrom_is_exact_at_the_rank_of_the_hessian(x64):
    rng = np.random.default_rng(4)
    factor = jnp.asarray(rng.normal(size=(30, 4)))
    matrix, rho = factor @ factor.T, 0.3
    v = jnp.asarray(rng.normal(size=30))
    run = jax.jit(lambda v: nystrom(lambda x: matrix @ x, v, jax.random.key(1), 4, rho))(v)
    expected = jnp.linalg.solve(matrix + rho * jnp.eye(30), v)
    assert float(jnp.linalg.norm(run.x - expected)) < 1e-9 * float(jnp.linalg.norm(expected))
    assert float(run.residual) < 1e-9 and not bool(run.negative)
    poor = nystrom(lambda x: matrix @ x, v, jax.random.key(1), 2, rho)
    assert float(poor.residual) > 1e-2


def test_largest_eigenvalue(x64):
    matrix = spd(6, 1.0, 9.0)
    got = largest_eigenvalue(lambda x: matrix @ x, jnp.zeros((6,)), jax.random.key(0), 100)
    np.testing.assert_allclose(got, 9.0, rtol=1e-6)


def test_direct_terms_and_integer_leaves(x64):
    train = lambda hp, w: hp["c"] * (w - hp["a"]) ** 2 / 2  # noqa: E731
    valid = lambda hp, w: w**2 + 3 * hp["b"] * hp["c"].astype(w.dtype)  # noqa: E731
    hp = {"a": jnp.float64(2.0), "b": jnp.float64(1.0), "c": jnp.int32(4)}
    train_f = lambda hp, w: train({**hp, "c": jnp.float64(4.0)}, w)  # noqa: E731
    solve = functools.partial(conjugate_gradient, iterations=1)
    _, grad, _ = implicit_value_and_grad(train_f, valid, hp, jnp.float64(2.0), solve)
    np.testing.assert_allclose([grad["a"], grad["b"], grad["c"]], [4.0, 12.0, 0.0], rtol=1e-12)


def test_solvers_in_float32_under_vmap():
    matrix = spd(6).astype(jnp.float32)
    vs = jax.random.normal(jax.random.key(2), (3, 6), jnp.float32)
    expected = jnp.linalg.solve(matrix, vs.T).T
    product = lambda x: matrix @ x  # noqa: E731
    by_cg = jax.vmap(lambda v: conjugate_gradient(product, v, 8).x)(vs)
    by_series = jax.vmap(lambda v: neumann(product, v, 120, 0.2).x)(vs)
    np.testing.assert_allclose(by_cg, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(by_series, expected, rtol=1e-3, atol=1e-4)
