"""Error against the number of parameters and inference time: small networks on handwritten digits, and their front.

    jhpo tune examples/digits_pareto.py     # a progress bar, then the front
    python examples/digits_pareto.py        # the same search from Python

Every network has two hidden layers of 1 to 64 units and trains 200 steps of AdamW; 128 of them are a generation. The
time that a network takes for an image is measured on this machine for a few sizes, before the search.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits_mlp import FAST, error, images, labels, log_loss

import jhpo

LARGEST = 64


def optimiser(hp: dict[str, jax.Array]) -> optax.GradientTransformation:
    """AdamW; every hyperparameter may differ between networks."""
    return optax.adamw(hp["learning_rate"], weight_decay=hp["weight_decay"])


def products(first: Any, second: Any) -> tuple[Any, ...]:
    """Multiplications of each layer, for 64 inputs and 10 outputs."""
    return 64 * first, first * second, second * 10


def nanoseconds(first: int, second: int, images_at_once: int = 4096, calls: int = 10) -> float:
    """Measured time per image of a network with these hidden units, the fastest of a few calls."""
    sizes = [64, first, second, 10]
    weights = [jnp.full((m, n), 0.1) for m, n in itertools.pairwise(sizes)]

    @jax.jit
    def answer(x: jax.Array) -> jax.Array:
        for w in weights[:-1]:
            x = jax.nn.relu(x @ w)
        return (x @ weights[-1]).argmax(axis=1)

    x = jnp.ones((images_at_once, 64))
    answer(x).block_until_ready()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        answer(x).block_until_ready()
        times.append(time.perf_counter() - start)
    return min(times) / images_at_once * 1e9


def cost_model(grid: tuple[int, ...]) -> np.ndarray:
    """``float32[4]``: a constant, and nanoseconds per multiplication of each layer, fitted to measured sizes."""
    sizes = list(itertools.product(grid, grid))
    rows = np.array([(1, *products(*size)) for size in sizes], np.float64)
    measured = np.array([nanoseconds(*size) for size in sizes])
    # relative errors count: small networks are measured in nanoseconds, large ones in microseconds
    return np.linalg.lstsq(rows / measured[:, None], np.ones(len(sizes)), rcond=None)[0].astype(np.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sized:
    """A trainable whose evaluation also tells the number of parameters and the time per image of a network."""

    inner: Any
    costs: np.ndarray

    @property
    def steps(self) -> int:
        """As long as the inner one's."""
        return self.inner.steps

    def init(self, hp: dict[str, jax.Array], key: jax.Array) -> Any:
        """The inner one's state."""
        return self.inner.init(hp, key)

    def step(self, hp: dict[str, jax.Array], state: Any, t: jax.Array) -> Any:
        """The inner one's step."""
        return self.inner.step(hp, state, t)

    def evaluate(self, hp: dict[str, jax.Array], state: Any) -> dict[str, jax.Array]:
        """Its metrics, all weights and biases, and nanoseconds per image."""
        first, second = (hp[name].astype(jnp.float32) for name in ("first", "second"))
        layers = products(first, second)
        time = self.costs[0] + sum(cost * size for cost, size in zip(self.costs[1:], layers))
        return {**self.inner.evaluate(hp, state), "params": sum(layers) + first + second + 10, "time": time}


space = jhpo.Space(
    {
        "first": jhpo.Int(1, LARGEST, log=True),
        "second": jhpo.Int(1, LARGEST, log=True),
        "learning_rate": jhpo.Float(1e-3, 1.0, log=True),
        "weight_decay": jhpo.Float(1e-6, 1.0, log=True),
    }
)
trainable = Sized(
    jhpo.supervised(
        jhpo.masked_mlp(["first", "second"], [LARGEST, LARGEST], outputs=10),
        optimiser,
        log_loss,
        train=(images[:1100], labels[:1100]),
        valid=(images[1100:], labels[1100:]),
        batch_size=64,
        steps=10 if FAST else 200,
        metrics={"error": error},
    ),
    cost_model((8, LARGEST) if FAST else (4, 16, LARGEST)),
)
tuning = jhpo.Tuning(
    trainable,
    space,
    jhpo.NSGA2(16 if FAST else 128),
    budget=32 if FAST else 1280,
    directions={"error": "minimize", "params": "minimize", "time": "minimize"},
)


def told(network: Any) -> str:
    """A line of its objectives."""
    error, params, time = (network.values[name] for name in ("error", "params", "time"))
    return f"error {error:6.2%}, {params:5.0f} parameters, {time:4.0f} ns an image"


def main() -> None:
    """Tune, and show the front."""
    result = tuning.run(seed=0)
    for network in result.pareto():
        print(told(network), network.params)
    print("knee:", told(result.knee()))
    print(f"{len(result.history.value)} networks in {result.seconds:.1f} s ({result.compile_seconds:.1f} s compiling)")


if __name__ == "__main__":
    main()
