"""The mixed-mode inner gradient equals jax.grad, and so do all its first derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.mixed import mixed_grad, mixed_value_and_grad


def loss(params, x, labels, decay):
    hidden = jnp.tanh(x @ params["a"]) @ params["b"]
    return -jnp.mean(jax.nn.log_softmax(hidden)[jnp.arange(x.shape[0]), labels]) + decay * jnp.sum(params["a"] ** 4)


@pytest.fixture
def problem(x64):
    k = jax.random.split(jax.random.key(0), 4)
    params = {"a": jax.random.normal(k[0], (5, 4)), "b": jax.random.normal(k[1], (4, 3))}
    return params, jax.random.normal(k[2], (7, 5)), jax.random.randint(k[3], (7,), 0, 3), jnp.float64(0.3)


def steps(grad, params, x, labels, decay):
    """Three steps in which decay and x are closed over and labels come from a carried index."""

    def body(carry, t):
        g = grad(lambda p: loss(p, x, jnp.roll(labels, t), decay))(carry)
        return jax.tree.map(lambda p, u: p - 0.3 * u, carry, g), None

    params, _ = jax.lax.scan(body, params, jnp.arange(3))
    return jnp.sum(params["a"] ** 2) + jnp.sum(jnp.sin(params["b"]))


def close(a, b, rtol=1e-12):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=1e-13), a, b)


@pytest.mark.parametrize("wrt", [(0,), (3,), (0, 1, 3)])
def test_reverse_and_forward_agree_with_plain_autodiff(problem, wrt):
    plain = jax.jit(jax.value_and_grad(lambda *a: steps(jax.grad, *a), wrt))(*problem)
    mixed = jax.jit(jax.value_and_grad(lambda *a: steps(mixed_grad, *a), wrt))(*problem)
    close(plain, mixed)
    tangents = jax.tree.map(jnp.ones_like, tuple(problem[i] for i in wrt))

    def restricted(grad):
        def f(*chosen):
            arguments = list(problem)
            for i, value in zip(wrt, chosen):
                arguments[i] = value
            return steps(grad, *arguments)

        return jax.jvp(f, tuple(problem[i] for i in wrt), tangents)

    close(restricted(jax.grad), restricted(mixed_grad))


def test_auxiliary_outputs_keep_their_derivatives(problem):
    params, x, labels, decay = problem

    def fun(p, scale):
        return loss(p, x, labels, decay) * scale, {"stats": jnp.mean(x @ p["a"], axis=0) * scale, "n": labels}

    def outer(value_and_grad, p, scale):
        (value, aux), grads = value_and_grad(fun, has_aux=True)(p, scale)
        return value**2 + jnp.sum(aux["stats"] ** 3) + jnp.sum(grads["a"] ** 2) + jnp.sum(grads["b"] ** 3)

    def both(value_and_grad):
        return jax.value_and_grad(lambda p, s: outer(value_and_grad, p, s), (0, 1))(params, jnp.float64(1.3))

    close(both(jax.value_and_grad), both(mixed_value_and_grad))
    grads, aux = mixed_grad(fun, has_aux=True)(params, jnp.float64(1.0))
    close(grads, jax.grad(lambda p: fun(p, jnp.float64(1.0))[0])(params))
    assert aux["n"].dtype == labels.dtype


def test_batches_under_vmap(problem):
    params, x, labels, _ = problem
    decays = jnp.array([0.1, 0.5, 0.9])

    def gradient(grad):
        return jax.vmap(jax.grad(lambda d: steps(grad, params, x, labels, d)))(decays)

    close(gradient(jax.grad), gradient(mixed_grad))


def test_second_derivatives_are_refused_not_wrong(problem):
    params, x, labels, decay = problem
    f = jax.grad(lambda d: steps(mixed_grad, params, x, labels, d))
    with pytest.raises(NotImplementedError, match="differentiable once"):
        jax.grad(f)(decay)


def test_works_in_float32():
    g = jax.grad(lambda w: jnp.sum(mixed_grad(lambda p: jnp.sum(p**3))(w)))(jnp.array([1.0, 2.0], jnp.float32))
    assert g.dtype == jnp.float32
    np.testing.assert_allclose(g, [6.0, 12.0], rtol=1e-6)
