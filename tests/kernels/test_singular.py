"""Derivatives at exact zeros: as before elsewhere, zero where 0 met infinity, and infinite where they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.singular import defined_at_zeros, without_huge

ROOTS = {"sqrt": jnp.sqrt, "cbrt": jnp.cbrt, "power": lambda x: x**0.3, "traced power": lambda x: x ** (0.5 + 0 * x)}
OTHERS = {
    "quotient": lambda x: (x + 1) / x,
    "log": jnp.log,
    "rsqrt": jax.lax.rsqrt,
    "inverse": lambda x: x**-3,
    "arc": lambda x: jnp.arctan2(x, 2 * x + 1),
    "loop": lambda x: jax.lax.scan(lambda c, _: (jnp.sqrt(c) / (1 + c), None), x, None, length=3)[0],
}


def forward(f, x):
    return jax.jvp(defined_at_zeros(f, forward=True), (x,), (jnp.ones_like(x),))[1]


def backward(f, x):
    return jax.grad(defined_at_zeros(f))(x)


@pytest.mark.parametrize("name", [*ROOTS, *OTHERS])
@pytest.mark.parametrize("place", [1e-6, 0.3, 7.0])
def test_nothing_changes_away_from_zero(name, place, x64):
    f, x = (ROOTS | OTHERS)[name], jnp.float64(place)
    for mode in (forward, backward):
        np.testing.assert_allclose(mode(f, x), jax.grad(f)(x), rtol=1e-12)
    assert defined_at_zeros(f)(x) == f(x)


@pytest.mark.parametrize("name", ROOTS)
def test_roots_of_zero(name):
    f, zeros = ROOTS[name], jnp.zeros(3)
    still = lambda x: jnp.sum(f(x**2 @ jnp.eye(3)) * 1e4)  # noqa: E731
    assert not np.all(np.isfinite(jax.grad(still)(zeros)))
    assert forward(still, zeros) == 0.0 and backward(still, zeros).tolist() == [0.0, 0.0, 0.0]
    if name != "traced power":  # whose exponent moves as well
        assert forward(f, jnp.float32(0)) == jnp.inf
        assert name in ("cbrt", "power") or without_huge(backward(f, jnp.float32(0))) == jnp.inf


THROWN_AWAY = {
    "clip by norm": lambda x, n: jnp.where(n < 1, x, x / n),
    "ratio of norms": lambda x, n: jnp.where(n == 0, x, n / jnp.sum(x)),
    "negative root": lambda x, n: jnp.where(n < 1, x, jnp.sqrt(n - 2.0)),
    "logarithm": lambda x, n: jnp.where(n > 0, jnp.log(n), x),
    "inverse root": lambda x, n: jnp.where(n > 0, jax.lax.rsqrt(n), x),
}


@pytest.mark.parametrize("name", THROWN_AWAY)
def test_what_a_where_throws_away_does_not_count(name):
    f = lambda x: jnp.sum(THROWN_AWAY[name](x, jnp.sqrt(jnp.sum(x**2)) * jnp.ones(3)))  # noqa: E731
    assert not np.all(np.isfinite(jax.grad(f)(jnp.zeros(3))))
    np.testing.assert_array_equal(backward(f, jnp.zeros(3)), np.ones(3))
    assert forward(f, jnp.zeros(3)) == 3.0


def test_squares_that_underflow_keep_a_bounded_derivative():
    x = jnp.float32(1e-25)
    f = lambda x: jnp.sqrt(x**2)  # noqa: E731
    assert x**2 == 0 and abs(forward(f, x)) <= 1 and abs(backward(f, x)) <= 1


def test_leaves_that_are_no_arrays_stay_what_they_are():
    f = lambda x, n, name: jnp.sqrt(x * {"a": 2.0}[name]) * len(range(n))  # noqa: E731
    assert defined_at_zeros(f)(jnp.float32(2.0), 3, "a") == 6.0
