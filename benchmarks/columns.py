"""What matrices by columns (`kernels/columns.py`) do to the training of several models on a CPU.

    python benchmarks/columns.py                # all models, about ten minutes of a core
    python benchmarks/columns.py "MLP 64-32-10" # one of them

Every model is trained on the digits by `jhpo.Population` in one chunk, by rows and by columns in turn, in one process.
Printed are the least and the median of the processor time of some turns, in microseconds a member and step, how many
times less the columns take, the largest difference of a validation loss, and seconds to compile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx
from sklearn.datasets import load_digits

import jhpo
from jhpo.evaluation import batching

digits = load_digits()
X, Y = (digits.data / 16.0).astype(np.float32), digits.target.astype(np.int32)
SPACE = jhpo.Space({"lr": jhpo.Float(1e-4, 1e-2, log=True)})
TRAIN = 1280


def supervised(
    model: Any, y: np.ndarray = Y, loss: Any = "classification", tx: Any = optax.adam, **options: Any
) -> Any:
    """The task of training a model on the digits."""
    sets = {"train": (X[:TRAIN], y[:TRAIN]), "valid": (X[TRAIN:], y[TRAIN:])}
    return jhpo.supervised(model, lambda hp: tx(hp["lr"]), loss, **sets, **({"steps": 30} | options))


def plain(*sizes: int) -> tuple[Callable[..., Any], Callable[..., jax.Array]]:
    """A network of linear layers and ReLU in JAX alone."""

    def init(key: jax.Array, x: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        keys, inputs = jax.random.split(key, len(sizes)), (x.shape[1], *sizes)
        scaled = [(2 / n) ** 0.5 * jax.random.normal(k, (n, m)) for k, n, m in zip(keys, inputs, sizes)]
        return [(w, jnp.zeros(w.shape[1])) for w in scaled]

    def apply(layers: list[tuple[jax.Array, jax.Array]], x: jax.Array) -> jax.Array:
        for w, b in layers[:-1]:
            x = jax.nn.relu(x @ w + b)
        return x @ layers[-1][0] + layers[-1][1]

    return init, apply


class Normalised(nn.Module):
    """Linear layers with normalisation and dropout."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        for size in (64, 32):
            x = nn.Dropout(0.2, deterministic=not train)(nn.relu(nn.LayerNorm()(nn.Dense(size)(x))))
        return nn.Dense(10)(x)


class Convolutions(nn.Module):
    """Two convolutions with batch normalisation and two linear layers."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        x = x.reshape(-1, 8, 8, 1)
        for stride in (1, 2):
            x = nn.Conv(8, (3, 3), (stride, stride), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x.reshape(len(x), -1))))


class Recurrent(nn.Module):
    """A GRU over the rows of an image."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        return nn.Dense(10)(nn.RNN(nn.GRUCell(32))(x.reshape(len(x), 8, 8))[:, -1])


class Attention(nn.Module):
    """A block of a transformer over the rows of an image."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        x = nn.Dense(32)(x.reshape(len(x), 8, 8))
        x = x + nn.SelfAttention(2)(nn.LayerNorm()(x))
        x = x + nn.Dense(32)(nn.gelu(nn.Dense(64)(nn.LayerNorm()(x))))
        return nn.Dense(10)(x.mean(1))


class Perceptron(nnx.Module):
    """Three linear layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first, self.second = nnx.Linear(64, 128, rngs=rngs), nnx.Linear(128, 64, rngs=rngs)
        self.last = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        return self.last(jnp.tanh(self.second(nnx.gelu(self.first(x)))))


def one_output(params: Any, x: jax.Array) -> jax.Array:
    """A prediction a row."""
    return plain(64, 64, 1)[1](params, x)[:, 0]


MODELS: dict[str, tuple[Callable[[], Any], int]] = {  # task, members
    "MLP 64-32-10": (lambda: supervised(plain(32, 10), steps=100), 32),
    "the same, own minibatches": (lambda: supervised(plain(32, 10), independent_batches=True), 32),
    "the same, batches of 16": (lambda: supervised(plain(32, 10), batch_size=16), 32),
    "MLP 64-256-256-10": (lambda: supervised(plain(256, 256, 10), steps=15), 16),
    "the same, batches of 256": (lambda: supervised(plain(256, 256, 10), steps=8, batch_size=256), 16),
    "MLP 64-64-64-10, SGD": (lambda: supervised(plain(64, 64, 10), tx=optax.sgd), 32),
    "MLP 64-64-64-1, regression": (lambda: supervised((plain(64, 64, 1)[0], one_output), X[:, 20], "regression"), 32),
    "nnx, 64-128-64-10": (lambda: supervised(Perceptron), 32),
    "linen, dropout, LayerNorm": (lambda: supervised(Normalised()), 32),
    "linen, CNN": (lambda: supervised(Convolutions(), steps=6), 16),
    "linen, GRU": (lambda: supervised(Recurrent(), steps=6), 16),
    "linen, attention": (lambda: supervised(Attention(), steps=6), 16),
}


def compiled(task: Any, members: int, by_columns: bool) -> tuple[Callable[[], np.ndarray], float]:
    """The losses of a population, in one program, and the processor time of its first evaluation."""
    kept = batching.by_columns
    if not by_columns:
        batching.by_columns = lambda f: f
    population = jhpo.Population(task, SPACE, chunk=members)
    units, ids = np.random.default_rng(1).random((members, 1)), np.arange(members)

    def losses() -> np.ndarray:
        return np.asarray(population.evaluate(units, ids, jax.random.key(0)).value)

    begin = time.process_time()
    losses()
    batching.by_columns = kept
    return losses, time.process_time() - begin


def main() -> None:
    """Print a line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[[], *MODELS], default=[])
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    for name in options.models or MODELS:
        make, members = MODELS[name]
        tasks = make(), make()  # of different functions: each has a program of its own
        ways = [compiled(task, members, by_columns) for task, by_columns in zip(tasks, (False, True))]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(options.turns):
            for (losses, _), each in zip(ways, times):
                begin = time.process_time()
                losses()
                each.append((time.process_time() - begin) / members / tasks[0].max_steps * 1e6)
        rows, columns = times
        difference = np.abs(ways[0][0]() - ways[1][0]()).max()
        print(
            f"{name:28s} rows {min(rows):8.1f} {np.median(rows):8.1f}"
            f"  columns {min(columns):8.1f} {np.median(columns):8.1f}"
            f"  {min(rows) / min(columns):.2f} {np.median(rows) / np.median(columns):.2f} times"
            f"  differ {difference:.0e}  compiled in {ways[0][1]:.1f}, {ways[1][1]:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
