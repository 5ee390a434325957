"""Tails of the normal law against mpmath; the Cholesky factor with its inverse against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from jhpo.kernels import numerics
from tests.selection import slow_except

POINTS = [3.0, 1.0, 0.3, 0.0, -0.5, -1.0, -2.5, -3.99, -4.01, -6.0, -12.0, -40.0, -1e3, -1e4, -1e5]


def _exact_log_h(u: float) -> float:
    mpmath.mp.dps = 60
    x = mpmath.mpf(u)
    if u < -50:  # the asymptotic series, exact to far more digits than are compared
        z = -x
        series = 1 / z**2 - 3 / z**4 + 15 / z**6 - 105 / z**8 + 945 / z**10
        return float(-(z**2) / 2 - mpmath.log(2 * mpmath.pi) / 2 + mpmath.log(series))
    return float(mpmath.log(mpmath.npdf(x) + x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2))


def _exact_log_ndtr(u: float) -> float:
    mpmath.mp.dps = 60
    x = mpmath.mpf(u)
    if u < -50:
        z = -x
        series = 1 / z - 1 / z**3 + 3 / z**5 - 15 / z**7
        return float(-(z**2) / 2 - mpmath.log(2 * mpmath.pi) / 2 + mpmath.log(series))
    return float(mpmath.log(mpmath.erfc(-x / mpmath.sqrt(2)) / 2))


@pytest.mark.parametrize("name,exact", [("log_h", _exact_log_h), ("log_ndtr", _exact_log_ndtr)])
def test_log_tails_against_mpmath(x64, name, exact):
    f = getattr(numerics, name)
    expected = np.array([exact(u) for u in POINTS])
    np.testing.assert_allclose(f(jnp.asarray(POINTS)), expected, rtol=1e-10)
    single = f(jnp.asarray(POINTS, jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["log_h", "log_ndtr"])
def test_log_tail_gradients(x64, name):
    f = getattr(numerics, name)
    for dtype in (jnp.float32, jnp.float64):
        slopes = jax.vmap(jax.grad(f))(jnp.asarray(POINTS, dtype))
        assert np.isfinite(slopes).all()
        assert (np.asarray(slopes) > 0).all()
    u = jnp.asarray([2.0, 0.1, -3.9, -4.1, -30.0, -1000.0])
    step = 1e-5 * np.maximum(1, np.abs(u))
    differences = (f(u + step) - f(u - step)) / (2 * step)
    np.testing.assert_allclose(jax.vmap(jax.grad(f))(u), differences, rtol=1e-7)


def test_log1mexp_and_safe_sqrt(x64):
    x = np.array([1e-12, 1e-3, 0.5, 0.8, 5.0, 40.0])
    mpmath.mp.dps = 40
    expected = [float(mpmath.log(1 - mpmath.exp(-mpmath.mpf(v)))) for v in x]
    np.testing.assert_allclose(numerics.log1mexp(jnp.asarray(x)), expected, rtol=1e-14)
    assert np.isfinite(jax.vmap(jax.grad(numerics.log1mexp))(jnp.asarray(x))).all()
    assert float(jax.grad(numerics.safe_sqrt)(0.0)) == 0.0
    assert float(numerics.safe_sqrt(-1.0)) == 0.0
    assert float(jax.grad(numerics.safe_sqrt)(4.0)) == 0.25


@pytest.mark.parametrize("n", [1, 8, 32, 64, 128, 256])
def test_cholesky_inverse(x64, n):
    a = np.random.default_rng(n).normal(size=(n, n))
    matrix = a @ a.T + 0.1 * np.eye(n)
    inverse = jax.jit(numerics.cholesky_inverse)(matrix)
    np.testing.assert_allclose(inverse @ np.linalg.cholesky(matrix), np.eye(n), atol=1e-10)
    np.testing.assert_allclose(inverse, np.linalg.inv(np.linalg.cholesky(matrix)), rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(np.triu(inverse, 1), 0)
    batched = jax.jit(jax.vmap(numerics.cholesky_inverse))(np.stack([matrix, 2 * matrix]))
    np.testing.assert_allclose(batched[1] * np.sqrt(2), inverse, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("n", [1, 64, 129, 256, 258, 512])
def test_the_product_of_a_triangle_with_itself(x64, n):
    root = np.tril(np.random.default_rng(n).normal(size=(n, n)))
    np.testing.assert_allclose(jax.jit(numerics.triangle_gram)(root), root.T @ root, rtol=1e-12, atol=1e-12 * n)
    small = root.astype(np.float32)
    both = jax.vmap(numerics.triangle_gram)(np.stack([small, 2 * small]))
    assert both.dtype == np.float32
    np.testing.assert_allclose(both[1], 4 * root.T @ root, rtol=1e-4, atol=1e-4 * n)


@pytest.mark.parametrize("n", slow_except({8, 64}, [8, 32, 64, 128]))
def test_cholesky_inverse_of_what_is_not_positive_definite(n):
    """Whichever pivot fails, first, middle or last: NaN, seen in the last corner."""
    for at in (0, n // 2 - 1, n // 2, n - 1):
        for value in (-1.0, 0.0, np.nan):
            matrix = np.eye(n, dtype=np.float32) + 0.01
            matrix[at, at] = value
            assert not np.isfinite(numerics.cholesky_inverse(jnp.asarray(matrix))[-1, -1]), (at, value)


def test_jitter_is_added_only_where_needed(x64):
    x = np.random.default_rng(0).random((32, 1))
    singular = np.exp(-((x - x.T) ** 2))  # numerically of rank 10 or so
    one = np.ones(())
    inverse, jitter = jax.jit(numerics.jittered_cholesky_inverse)(singular, one)
    assert np.isfinite(inverse).all()
    assert 0 < float(jitter) <= 1e-6
    factor = np.linalg.inv(inverse)
    np.testing.assert_allclose(factor @ factor.T, singular, atol=2e-6)
    assert float(numerics.jittered_cholesky_inverse(np.eye(32), one)[1]) == 0.0
    assert np.isnan(numerics.jittered_cholesky_inverse(-np.eye(32), one)[0]).any()


def test_cholesky_inverse_wants_a_power_of_two():
    with pytest.raises(ValueError, match="power of two"):
        numerics.cholesky_inverse(jnp.eye(3))
