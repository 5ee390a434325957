"""Small trainings shared by the hypergradient tests: a quadratic, a least-squares problem and the digits network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jhpo.kernels.mixed import mixed_grad


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images float32[n, 64] in [0, 1] and labels int32[n], shuffled once."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return (data.data[order] / 16).astype(np.float32), data.target[order].astype(np.int32)


def mlp_init(key: jax.Array, hidden: int = 32) -> dict[str, jax.Array]:
    k1, k2 = jax.random.split(key)
    return {
        "a": jax.random.normal(k1, (64, hidden)) / 8,
        "b": jnp.zeros((hidden,)),
        "c": jax.random.normal(k2, (hidden, 10)) / jnp.sqrt(jnp.float32(hidden)),
        "d": jnp.zeros((10,)),
    }


def mlp_loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    hidden = jnp.tanh(x @ params["a"] + params["b"][None])
    logits = hidden @ params["c"] + params["d"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def digits_training(
    tx: Callable[[Any], optax.GradientTransformation], batch: int = 64, grad: Callable[..., Any] = mixed_grad
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """``(init, step, evaluate)`` of a digits network under an optax transform built from hp inside the step."""
    x, y = digits()
    train, valid = (x[:1000], y[:1000]), (x[1000:1400], y[1000:1400])

    def init(hp: Any) -> Any:
        params = mlp_init(jax.random.key(0))
        return params, tx(hp).init(params)

    def step(hp: Any, state: Any, t: jax.Array) -> Any:
        params, memory = state
        rows = jax.random.randint(jax.random.fold_in(jax.random.key(1), t), (batch,), 0, 1000)
        grads = grad(mlp_loss)(params, jnp.asarray(train[0])[rows], jnp.asarray(train[1])[rows])
        updates, memory = tx(hp).update(grads, memory, params)
        return optax.apply_updates(params, updates), memory

    def evaluate(hp: Any, state: Any) -> jax.Array:
        return mlp_loss(state[0], jnp.asarray(valid[0]), jnp.asarray(valid[1]))

    return init, step, evaluate


def descent(h: jax.Array | float) -> Callable[..., jax.Array]:
    """Gradient descent on h w^2 / 2 with one rate per step, or one rate."""

    def step(hp: jax.Array, w: jax.Array, t: jax.Array) -> jax.Array:
        rate = hp[t] if hp.ndim else hp
        return w - rate * mixed_grad(lambda p: jnp.sum(jnp.asarray(h, p.dtype) * p**2) / 2)(w)

    return step
