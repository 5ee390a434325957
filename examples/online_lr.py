"""Online tuning of learning rate and momentum, from initial values that are far too small or far too large.

    python examples/online_lr.py

Every second step, the loss of one validation batch is differentiated through the last two steps, and Adam moves the
hyperparameters in the space's own scales. One training costs about two; no search is needed. The rates recover from a
bad start, but being greedy they end lower than what a search over whole trainings would choose.
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jhpo
from jhpo.training.supervised import SupervisedState
from jhpo.training.trainable import train_and_evaluate

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
STEPS = 40 if FAST else 400


def init(key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
    """Parameters of a 64-32-10 network."""
    first, second = jax.random.split(key)
    a, c = jax.random.normal(first, (64, 32)) / 8, jax.random.normal(second, (32, 10)) / 6
    return {"a": a, "b": jnp.zeros((32,)), "c": c, "d": jnp.zeros((10,))}


def apply(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Logits of a batch of images."""
    return jnp.tanh(x @ p["a"] + p["b"][None]) @ p["c"] + p["d"][None]


images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(labels))
x, y = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)

space = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True), "momentum": jhpo.Float(0.5, 0.99, scale="reverse_log")})
trainable = jhpo.supervised(
    (init, apply),
    lambda hp: optax.sgd(hp["lr"], momentum=hp["momentum"]),
    train=(x[:1200], y[:1200]),
    valid=(x[1200:], y[1200:]),
    batch_size=64,
    steps=STEPS,
)


def batch_loss(hp: dict[str, jax.Array], state: SupervisedState, t: jax.Array) -> jax.Array:
    """Loss on 128 validation images, different ones in each window."""
    rows = jax.random.randint(jax.random.fold_in(jax.random.key(1), t), (128,), 0, 597)
    logits = apply(state.params, trainable.valid[0][rows])
    return optax.softmax_cross_entropy_with_integer_labels(logits, trainable.valid[1][rows]).mean()


def main() -> None:
    """Compare tuned with fixed hyperparameters, from three initial values."""
    key = jax.random.key(0)
    fixed = jax.jit(lambda hp: train_and_evaluate(trainable, hp, key).value)
    for lr in (0.001, 0.03, 0.9):
        hp = {"lr": jnp.float32(lr), "momentum": jnp.float32(0.9)}
        run = jhpo.online_tune(trainable, hp, key, optax.adam(0.03), space=space, window=2, loss=batch_loss)
        path = ", ".join(f"{float(run.path['lr'][i]):.3g}" for i in np.linspace(0, STEPS // 2 - 1, 6).astype(int))
        print(f"start {lr}: validation loss {float(run.value):.4f} adapted, {float(fixed(hp)):.4f} fixed; rates {path}")


if __name__ == "__main__":
    main()
