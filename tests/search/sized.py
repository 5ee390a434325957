"""Trainings whose states have shapes that follow from a static hyperparameter."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


class Sized:
    """Mixed into a trainable with a dict as its state: adds an array of ``size`` numbers that halve in every step."""

    def init(self, hp: dict, key: jax.Array) -> Any:
        return super().init(hp, key) | {"extra": jnp.ones(hp["size"])}  # type: ignore[misc]

    def step(self, hp: dict, state: Any, t: jax.Array) -> Any:
        return super().step(hp, state, t) | {"extra": state["extra"] * 0.5}  # type: ignore[misc]
