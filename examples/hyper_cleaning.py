"""Data cleaning: a weight for each of 600 training examples, half of whose labels are noise, learned by hypergradients.

    python examples/hyper_cleaning.py [--seeds 5]

100 clean validation examples say which training examples help: the validation loss after 200 steps is differentiated
with respect to the 600 weights, in one backward pass, and 60 steps of Adam move them. Printed, over the seeds: accuracy
on about 1,100 test images when trained on everything, on the validation examples alone, on the weighted examples, on
these and the validation examples, and on the examples with right labels (an oracle); and how well low weights find the
wrong labels.
"""

from __future__ import annotations

import argparse
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jhpo
from jhpo.training.supervised import Supervised, cross_entropy, error_rate
from jhpo.training.trainable import train_and_evaluate

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
TRAIN, WRONG, VALID = 600, 300, 100
STEPS, OUTER = (20, 3) if FAST else (200, 60)

# softmax regression, as in the papers on data cleaning
model = (
    lambda key, x: {"w": jnp.zeros((64, 10)), "b": jnp.zeros((10,))},
    lambda p, x: x @ p["w"] + p["b"][None],
)


# functions defined once: trainables made with them share their compiled programs
optimiser = lambda hp: optax.sgd(0.1, momentum=0.9)  # noqa: E731
loss = jhpo.example_weights(cross_entropy, lambda hp: jax.nn.sigmoid(hp["logits"]))
error = lambda outputs, targets: error_rate(outputs, targets[..., 0])  # noqa: E731

Data = tuple[np.ndarray, np.ndarray]


def task(train: Data, valid: Data) -> Supervised:
    """Full-batch training in which example i has weight ``sigmoid(hp["logits"][i])``."""
    return jhpo.supervised(
        model,
        optimiser,
        loss,
        train=(train[0], jhpo.indexed(train[1])),
        valid=(valid[0], jhpo.indexed(valid[1], weighted=False)),
        batch_size=None,
        steps=STEPS,
        metrics={"error": error},
    )


@jax.jit
def test_error(trainable: Supervised, logits: jax.Array) -> jax.Array:
    """Error rate on the trainable's validation data after training with these weights."""
    return train_and_evaluate(trainable, {"logits": logits}, jax.random.key(0), metric="error").value


def accuracy(train: Data, test: Data, logits: jax.Array) -> float:
    """Accuracy on the test images."""
    return 1 - float(test_error(task(train, test), logits))


def run(seed: int) -> dict[str, float]:
    """One random split with random labels, cleaned and evaluated."""
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    images, labels = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
    parts = np.split(np.arange(len(labels)), [TRAIN, TRAIN + VALID])
    train, valid, test = ((images[rows], labels[rows]) for rows in parts)
    noisy = train[1].copy()
    noisy[:WRONG] = rng.integers(0, 10, WRONG)
    wrong = noisy != train[1]  # a tenth of the random labels are right

    cleaning = task((train[0], noisy), valid)
    hp = {"logits": jnp.zeros(TRAIN)}
    outer = optax.adam(0.3)
    memory = outer.init(hp)
    for i in range(OUTER):
        value, grad, diagnostics = jhpo.hypergrad(cleaning, hp, jax.random.key(seed), check=i == 0, method="reverse")
        if i == 0 and seed == 0:
            print(f"validation loss {float(value):.3f} at the start; {diagnostics}\n")
        moves, memory = outer.update(grad, memory)
        hp = optax.apply_updates(hp, moves)
    low = np.asarray(hp["logits"]) < 0
    found = 2 * np.sum(low & wrong) / (np.sum(low) + np.sum(wrong))
    full = jnp.full(TRAIN, 30.0)
    both = np.concatenate([train[0], valid[0]]), np.concatenate([noisy, valid[1]])
    return {
        "everything": accuracy((train[0], noisy), test, full),
        "validation only": accuracy(valid, test, full[:VALID]),
        "cleaned": accuracy((train[0], noisy), test, hp["logits"]),
        "and validation": accuracy(both, test, jnp.concatenate([hp["logits"], full[:VALID]])),
        "oracle": accuracy((train[0], noisy), test, jnp.where(wrong, -30.0, 30.0)),
        "detection F1": float(found),
    }


def main() -> None:
    """Mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    rows = [run(seed) for seed in range(parser.parse_args().seeds)]
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        print(f"{name:16} {values.mean():.3f} +- {values.std(ddof=1) if len(values) > 1 else 0:.3f}")


if __name__ == "__main__":
    main()
