"""Architecture search in one program: width, depth, normalisation, activation, batch size and optimiser at once.

    python examples/architecture_search.py
    jhpo tune examples/architecture_search.py --budget 256 --storage arch.db

A residual network on handwritten digits. Every member is computed at the largest size, and masks make it the smaller
network that its hyperparameters name: nothing is compiled for another width, depth or optimiser, which is asserted.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

import jhpo

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
WIDTH, DEPTH, BATCH, STEPS = (8, 2, 16, 5) if FAST else (64, 4, 128, 200)


class Residual(nn.Module):
    """Residual blocks; the numbers of units and blocks that exist may be traced."""

    hp: dict[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits ``[batch, 10]`` of images ``[batch, 64]``."""
        width = self.hp["width"]
        activation = jhpo.switch(self.hp["activation"], {"relu": nn.relu, "gelu": nn.gelu, "tanh": nn.tanh})
        x = jhpo.linen.Dense(WIDTH, live=width)(x)
        for number in range(DEPTH):
            h = jhpo.linen.LayerNorm(live=width)(x)
            h = jax.numpy.where(self.hp["norm"], h, x)
            h = activation(jhpo.linen.Dense(WIDTH, live=width, live_inputs=width)(h))
            h = jhpo.linen.Dense(WIDTH, live=width, live_inputs=width)(h)
            x = jhpo.mask_block(x, x + h, number, self.hp["depth"])
        return jhpo.linen.Dense(10, live_inputs=width)(x)


def optimiser(hp: dict[str, Any]) -> optax.GradientTransformation:
    """One of three, with its learning rate and weight decay."""
    rule = jhpo.switch(
        hp["optimiser"],
        {
            "sgd": optax.sgd(10.0 * hp["rate"], momentum=0.9, nesterov=True),
            "adam": optax.adam(hp["rate"]),
            "lion": optax.lion(0.1 * hp["rate"]),
        },
    )
    return optax.chain(optax.add_decayed_weights(hp["decay"]), rule)


digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
x, y = (digits.data[order] / 16.0).astype(np.float32), digits.target[order].astype(np.int32)
rows = 128 if FAST else 1100

space = jhpo.Space(
    {
        "width": jhpo.Int(4, WIDTH, log=True),
        "depth": jhpo.Int(0, DEPTH),
        "norm": jhpo.Choice([False, True]),
        "activation": jhpo.Choice(["relu", "gelu", "tanh"]),
        "optimiser": jhpo.Choice(["sgd", "adam", "lion"]),
        "batch": jhpo.Int(8, BATCH, log=True),
        "rate": jhpo.Float(1e-4, 1e-1, log=True),
        "decay": jhpo.Float(1e-6, 1e-2, log=True),
    }
)
trainable = jhpo.supervised(
    lambda hp: Residual(hp),
    optimiser,
    "classification",
    train=(x[:rows], y[:rows]),
    valid=(x[1100:1450], y[1100:1450]),
    batch_size=lambda hp: hp["batch"],
    max_batch_size=BATCH,
    steps=STEPS,
    metrics=["error"],
    metric="error",
)
tuning = jhpo.Tuning(trainable, space, jhpo.PSO(4 if FAST else 32), budget=8 if FAST else 128)


compilations: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: compilations.append(name) if name.endswith("backend_compile_duration") else None
)


def main() -> None:
    """Search, and say what was found; other architectures then compile nothing."""
    result = tuning.run(seed=0)
    before = len(compilations)
    tuning.run(seed=1, budget=tuning.strategy.population)
    assert len(compilations) == before, compilations[before:]
    tested = (x[1450:], y[1450:])
    found = result.ensemble(8).selected(rounds=20)
    alone = result.ensemble(1).predict(tested[0]).argmax(-1)
    together = found.predict(tested[0]).argmax(-1)
    print(f"{len(result.history.value)} architectures by one program, compiled in {result.compile_seconds:.1f} s")
    print(f"best: {result.best}")
    print(f"test error {np.mean(alone != tested[1]):.3f}, of an ensemble of {len(found)}: ", end="")
    print(f"{np.mean(together != tested[1]):.3f}")


if __name__ == "__main__":
    main()
