"""Freeze-thaw on a Flax network: after every few steps the learning curves decide which networks are trained on.

    python examples/freeze_thaw.py
    jhpo tune examples/freeze_thaw.py --storage freeze_thaw.db --budget 64

Eight networks are trained side by side. The others wait, their states on the device, until their curves promise more
than those of the eight, or than new ones.
"""

from __future__ import annotations

import os

import jax
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

import jhpo

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
STEPS, MEMBERS = (8, 8) if FAST else (200, 64)


class MLP(nn.Module):
    """One hidden layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits ``[batch, 10]`` of images ``[batch, 64]``."""
        return nn.Dense(10)(nn.relu(nn.Dense(32)(x)))


images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(labels))
images, labels = (images[order] / 16.0).astype(np.float32), labels[order].astype(np.int32)

space = jhpo.Space(
    {
        "learning_rate": jhpo.Float(1e-5, 1.0, log=True),
        "b1": jhpo.Float(0.5, 0.99, scale="reverse_log"),
        "weight_decay": jhpo.Float(1e-6, 1.0, log=True),
    }
)
trainable = jhpo.supervised(
    lambda hp: MLP(),
    lambda hp: optax.adamw(hp["learning_rate"], b1=hp["b1"], weight_decay=hp["weight_decay"]),
    "classification",
    train=(images[:1100], labels[:1100]),
    valid=(images[1100:1450], labels[1100:1450]),
    batch_size=64,
    steps=STEPS,
)
strategy = jhpo.FreezeThaw(
    4 if FAST else 8, interval=STEPS // 4 if FAST else 10, capacity=MEMBERS, effort=0.5 if FAST else 0.25
)
tuning = jhpo.Tuning(trainable, space, strategy, budget=MEMBERS)


def main() -> None:
    """Tune, count what was trained how far, and test the best network."""
    result = tuning.run(seed=0)
    reached = (result.history.horizon * STEPS).round().astype(int)
    print(f"{len(reached)} networks in {result.steps} steps, where whole trainings would take {len(reached) * STEPS}")
    print("steps of each:", sorted(reached.tolist(), reverse=True))
    if result.best is None:
        print("none was trained to the end: raise effort")
        return
    (best,) = result.top(1)
    print(f"validation loss {best.value:.4f} with {best.params}")
    logits = trainable.predict(best.params, best.state, images[1450:])
    print(f"test error {np.mean(logits.argmax(-1) != labels[1450:]):.2%}")


if __name__ == "__main__":
    main()
