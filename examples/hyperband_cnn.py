"""Hyperband on a Flax convolutional network: most networks are stopped early, the survivors alone are trained on.

    python examples/hyperband_cnn.py
    jhpo tune examples/hyperband_cnn.py --storage hyperband.db

Rungs lie at a ninth and a third of the training. The first bracket compares its networks at the first rung, the next at
the second, and the last one trains all of its networks to the end, in case early losses mislead.
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

import jhpo

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
STEPS = 9 if FAST else 180


class CNN(nn.Module):
    """Two convolutions, dropout at a rate that differs from member to member, a linear layer."""

    dropout: jax.Array | float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits ``[batch, 10]`` of images ``[batch, 8, 8, 1]``."""
        for channels, stride in ((4, 1), (8, 2)):
            x = nn.relu(nn.Conv(channels, (3, 3), (stride, stride))(x))
        x = jhpo.linen.Dropout(self.dropout, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(10)(x)


digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images = (digits.images[order, :, :, None] / 16.0).astype(np.float32)
labels = digits.target[order].astype(np.int32)
rows = 256 if FAST else 1100

space = jhpo.Space(
    {
        "learning_rate": jhpo.Float(1e-4, 1e-1, log=True),
        "momentum": jhpo.Float(0.5, 0.99, scale="reverse_log"),
        "dropout": jhpo.Float(0.0, 0.7),
    }
)
trainable = jhpo.supervised(
    lambda hp: CNN(hp["dropout"]),
    lambda hp: optax.adam(hp["learning_rate"], b1=hp["momentum"]),
    "classification",
    train=(images[:rows], labels[:rows]),
    valid=(images[1100:1450], labels[1100:1450]),
    batch_size=64,
    steps=STEPS,
)
strategy = jhpo.Hyperband(9 if FAST else 54, eta=3, min_steps=STEPS // 9)
tuning = jhpo.Tuning(trainable, space, strategy, budget=17 if FAST else 216)


def main() -> None:
    """Tune, show the best network's way, and test it."""
    result = tuning.run(seed=0)
    whole = tuning.budget * STEPS
    print(
        f"{tuning.budget} networks in {result.steps} steps instead of {whole}: {whole / result.steps:.1f} times fewer"
    )
    (best,) = result.top(1)
    print(f"validation loss {best.value:.4f} with {best.params}")
    print("on its way:", {step: round(value, 3) for step, value in result.curves.of(best.id).items()})
    logits = trainable.predict(best.params, best.state, jnp.asarray(images[1450:]))
    print(f"test error {np.mean(logits.argmax(-1) != labels[1450:]):.2%}")


if __name__ == "__main__":
    main()
