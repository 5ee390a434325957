"""A noisy objective and batches of 16: each point is evaluated four times, and the model gets mean and variance."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp

import jhpo

SPACE = jhpo.Space(
    {
        "lr": jhpo.Float(1e-4, 1.0, log=True),
        "momentum": jhpo.Float(0.0, 0.99),
        "schedule": jhpo.Choice(["constant", "cosine"]),
        "warmup": jhpo.Int(0, 20),
    }
)


def true_loss(hp: dict) -> jax.Array:
    """The loss without noise; its minimum is 0.1 at lr = 0.03, momentum = 0.8, cosine, warmup = 5."""
    distance = jnp.log10(hp["lr"] / 0.03) ** 2 + 4.0 * (hp["momentum"] - 0.8) ** 2
    return 0.1 + distance + 0.2 * (hp["schedule"] != 1) + 0.002 * (hp["warmup"] - 5.0) ** 2


def loss(hp: dict, key: jax.Array) -> jax.Array:
    """One noisy evaluation; the key is the random seed of the training."""
    return true_loss(hp) + 0.2 * jax.random.normal(key)


def main() -> None:
    budget = 48 if os.environ.get("JHPO_EXAMPLE_FAST") else 128
    strategy = jhpo.BayesOpt(batch=16, capacity=2 * budget)  # room for all of it: compiled once
    result = jhpo.minimize(loss, SPACE, strategy, budget=budget, replicates=4, seed=0)
    print(f"{budget} points, four measurements each: {result.seconds:.1f} s, {result.compile_seconds:.1f} s compiling")
    print("best measured:", result.best, f"mean of four {result.value:.3f}")
    # the lowest of many noisy means is too optimistic: compare it with the loss without noise
    unit = result.history.units[result.history.value.argmin()]
    print(f"without noise: {float(true_loss(SPACE.from_unit(unit))):.3f} (the least possible is 0.1)")


if __name__ == "__main__":
    main()
