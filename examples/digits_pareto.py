"""Error against the number of parameters: small networks on handwritten digits, and the front of the two.

    jhpo tune examples/digits_pareto.py     # a progress bar, then the front
    python examples/digits_pareto.py        # the same search from Python

Every network has one hidden layer of 1 to 64 units and trains 200 steps of AdamW; 128 of them are a generation.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax
from digits_mlp import FAST, error, images, labels, log_loss

import jhpo

LARGEST = 64


def optimiser(hp: dict[str, jax.Array]) -> optax.GradientTransformation:
    """AdamW; every hyperparameter may differ between networks."""
    return optax.adamw(hp["learning_rate"], weight_decay=hp["weight_decay"])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sized:
    """A trainable whose evaluation also tells how many parameters a network of its width has."""

    inner: Any

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
        """Its metrics, and the parameters of 64 inputs, some hidden units and 10 outputs."""
        return {**self.inner.evaluate(hp, state), "params": hp["width"] * (64 + 1 + 10) + 10}


space = jhpo.Space(
    {
        "width": jhpo.Int(1, LARGEST, log=True),
        "learning_rate": jhpo.Float(1e-3, 1.0, log=True),
        "weight_decay": jhpo.Float(1e-6, 1.0, log=True),
    }
)
trainable = Sized(
    jhpo.supervised(
        jhpo.masked_mlp(["width"], [LARGEST], outputs=10),
        optimiser,
        log_loss,
        train=(images[:1100], labels[:1100]),
        valid=(images[1100:], labels[1100:]),
        batch_size=64,
        steps=10 if FAST else 200,
        metrics={"error": error},
    )
)
tuning = jhpo.Tuning(
    trainable,
    space,
    jhpo.NSGA2(16 if FAST else 128),
    budget=32 if FAST else 1280,
    directions={"error": "minimize", "params": "minimize"},
)


def main() -> None:
    """Tune, and show the front."""
    result = tuning.run(seed=0)
    for network in result.pareto():
        print(f"{network.values['params']:6.0f} parameters: error {network.values['error']:.2%}, {network.params}")
    knee = result.knee()
    print(f"knee: {knee.values['params']:.0f} parameters, error {knee.values['error']:.2%}")
    print(f"{len(result.history.value)} networks in {result.seconds:.1f} s ({result.compile_seconds:.1f} s compiling)")


if __name__ == "__main__":
    main()
