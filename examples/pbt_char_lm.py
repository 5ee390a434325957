"""The character language model of char_lm.py trained by a population: the schedules are found while it trains.

    python examples/pbt_char_lm.py
    jhpo tune examples/pbt_char_lm.py --storage pbt.db

Nothing about the learning rate is decided beforehand, neither a warm-up nor a decay: members that fall behind go on
from copies of the best, with hyperparameters nearby. Half of the population exchanges rarely, so that what pays off
later is not lost to what pays off at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import optax
from char_lm import FAST, codes, cut, task, windows

import jhpo

MEMBERS = 8 if FAST else 32


def optimiser(hp: dict[str, Any]) -> optax.GradientTransformation:
    """AdamW whose rates the population changes as it trains."""
    decayed = optax.adamw(hp["learning_rate"], b2=0.99, weight_decay=hp["weight_decay"])
    return optax.chain(optax.clip_by_global_norm(hp["clip"]), decayed)


space = jhpo.Space(
    {
        "learning_rate": jhpo.Float(1e-4, 1e-1, log=True),
        "weight_decay": jhpo.Float(1e-4, 1.0, log=True),
        "clip": jhpo.Float(0.1, 10.0, log=True),
    }
)
strategy = jhpo.PopulationBasedTraining(MEMBERS, exchange=2 if FAST else 15, intervals=(1, 2) if FAST else (1, 5))
tuning = jhpo.Tuning(task(optimiser), space, strategy, budget=MEMBERS)


def main() -> None:
    """Train the population, and print the schedule of its best member and what an ensemble gains."""
    result = tuning.run(seed=0)
    print(f"{result.value / np.log(2):.2f} bits a character after {result.steps} steps of all members together")
    schedule = result.schedule()
    for name in space.names:
        values = ", ".join(f"{value:.2g}" for value in schedule.of(name))
        print(f"{name} at steps {schedule.steps.tolist()}: {values}")
    text, following = windows(codes[cut:], 64 if FAST else 256)
    for members in (1, 4):
        odds = np.asarray(result.ensemble(members).predict(text))
        likely = np.take_along_axis(odds, following[..., None], axis=-1)
        print(f"ensemble of {members}: {-np.log2(likely).mean():.2f} bits a character")


if __name__ == "__main__":
    main()
