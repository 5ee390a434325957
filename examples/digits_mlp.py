"""1,024 networks on handwritten digits: what `make tune` runs.

    jhpo tune examples/digits_mlp.py        # a progress bar, then the best hyperparameters
    python examples/digits_mlp.py           # the same search from Python; its five best networks vote

Every network has 64-32-10 units and trains 200 steps of AdamW on minibatches of 64; 256 of them are a generation.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jhpo

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, read from its file because importing scikit-learn takes longer than a generation."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise SystemExit("this example needs scikit-learn: pip install 'jhpo[examples]'")
    table = np.loadtxt(Path(spec.origin).parent / "datasets/data/digits.csv.gz", np.float32, delimiter=",")
    table = np.random.default_rng(0).permutation(table)
    return table[:, :64] / 16.0, table[:, 64].astype(np.int32)


def init(key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
    """Parameters of one network: He's initialisation."""
    first, second = jax.random.split(key)
    return {
        "w1": jax.random.normal(first, (64, 32)) * (2 / 64) ** 0.5,
        "b1": jnp.zeros((32,)),
        "w2": jax.random.normal(second, (32, 10)) * (2 / 32) ** 0.5,
        "b2": jnp.zeros((10,)),
    }


def apply(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Logits of a batch of images."""
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"][None])
    return hidden @ params["w2"] + params["b2"][None]


def optimiser(hp: dict[str, jax.Array]) -> optax.GradientTransformation:
    """AdamW; every hyperparameter may differ between networks."""
    return optax.adamw(hp["learning_rate"], b1=hp["momentum"], weight_decay=hp["weight_decay"])


def loss(logits: jax.Array, labels: jax.Array, hp: dict[str, jax.Array]) -> jax.Array:
    """Cross-entropy with smoothed labels."""
    smooth = optax.smooth_labels(jax.nn.one_hot(labels, 10), hp["label_smoothing"])
    return optax.softmax_cross_entropy(logits, smooth)


def error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 where the largest logit is not the label's."""
    return (logits.argmax(-1) != labels).astype(jnp.float32)


def log_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The validation loss, without label smoothing, which would change the loss of the same network."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


images, labels = load_digits()
space = jhpo.Space(
    {
        "learning_rate": jhpo.Float(1e-4, 1.0, log=True),
        "weight_decay": jhpo.Float(1e-6, 1.0, log=True),
        "momentum": jhpo.Float(0.5, 0.999, scale="reverse_log"),
        "label_smoothing": jhpo.Float(0.0, 0.3),
    }
)
trainable = jhpo.supervised(
    (init, apply),
    optimiser,
    loss,
    train=(images[:1100], labels[:1100]),
    valid=(images[1100:1450], labels[1100:1450]),
    batch_size=64,
    steps=20 if FAST else 200,
    metrics={"error": error, "log_loss": log_loss},
    metric="log_loss",
)
tuning = jhpo.Tuning(trainable, space, jhpo.PSO(32 if FAST else 256), budget=64 if FAST else 1024)


def main() -> None:
    """Tune, then let the best networks vote on held-out images."""
    result = tuning.run(seed=0)
    print(f"best validation loss {result.value:.4f} with {result.best}")
    best = result.top(5)
    test, truth = images[1450:], labels[1450:]
    logits = jnp.stack([apply(network.state.params, test) for network in best])
    print(f"test error of the best network {np.mean(logits[0].argmax(-1) != truth):.2%}")
    print(f"test error of the vote of five {np.mean(jax.nn.softmax(logits).mean(0).argmax(-1) != truth):.2%}")
    print(f"{len(result.history.value)} networks in {result.seconds:.1f} s")


if __name__ == "__main__":
    main()
