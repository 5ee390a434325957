"""A Flax convolutional network on handwritten digits, with dropout, batch normalisation and a tuned architecture.

    jhpo tune examples/digits_cnn.py --budget 128 --storage cnn.db
    python examples/digits_cnn.py

The number of channels is a `static` choice, because it changes the shapes of the arrays: the members of a generation
are grouped by it, and each group is one compiled program. Everything else varies within a program.
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
STEPS = 10 if FAST else 150


class CNN(nn.Module):
    """Two convolutions and a linear layer; the dropout rate may be traced."""

    channels: int
    dropout: jax.Array | float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits ``[batch, 10]`` of images ``[batch, 8, 8, 1]``."""
        for stride in (1, 2):
            x = nn.Conv(self.channels, (3, 3), (stride, stride), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = x.reshape(len(x), -1)
        keep = 1.0 - self.dropout
        if train:  # nn.Dropout needs a Python number as rate, but this one is traced
            x = jnp.where(jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape), x / keep, 0.0)
        return nn.Dense(10)(x)


def network(hp: dict) -> CNN:
    """The network for some hyperparameters."""
    return CNN(hp["channels"], hp["dropout"])


def optimiser(hp: dict) -> optax.GradientTransformation:
    """SGD with Nesterov momentum and a cosine learning rate schedule with warm-up."""
    shape = optax.warmup_cosine_decay_schedule(0.0, 1.0, STEPS // 10, STEPS)
    rule = optax.sgd(lambda t: hp["learning_rate"] * shape(t), hp["momentum"], nesterov=True)
    return optax.chain(optax.add_decayed_weights(hp["weight_decay"]), rule)


digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
images = (digits.images[order, :, :, None] / 16.0).astype(np.float32)
labels = digits.target[order].astype(np.int32)
rows = 256 if FAST else 1100

space = jhpo.Space(
    {
        "channels": jhpo.Choice([4, 8] if FAST else [4, 8, 16], static=True),
        "learning_rate": jhpo.Float(1e-3, 1.0, log=True),
        "momentum": jhpo.Float(0.5, 0.99, scale="reverse_log"),
        "weight_decay": jhpo.Float(1e-6, 1e-1, log=True),
        "dropout": jhpo.Float(0.0, 0.7),
    }
)
trainable = jhpo.supervised(
    network,
    optimiser,
    "classification",
    train=(images[:rows], labels[:rows]),
    valid=(images[1100:1450], labels[1100:1450]),
    batch_size=64,
    steps=STEPS,
)
tuning = jhpo.Tuning(trainable, space, jhpo.PSO(8 if FAST else 24), budget=8 if FAST else 96)


def main() -> None:
    """Tune in a study, then take the best trained network."""
    study = jhpo.Study(space, tuning.strategy, seed=0)
    summary = study.optimize(trainable, tuning.budget)
    print(f"{summary.evaluations} networks in {summary.seconds:.0f} s ({summary.stopped})")
    best = study.best
    print(f"validation loss {best.value:.4f} with {best.params}")
    (state,) = study.states(trainable, [best])
    logits = trainable.predict(best.params, state, jnp.asarray(images[1450:]))
    print(f"test error {np.mean(logits.argmax(-1) != labels[1450:]):.2%}")


if __name__ == "__main__":
    main()
