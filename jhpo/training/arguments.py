"""Checks of the arguments of `jhpo.supervised` (batch sizes, lengths) before anything is compiled."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax

from jhpo.errors import check_integer, check_number, invalid
from jhpo.training.trainable import HP

OfHP = Callable[[HP], jax.Array]  # a number as a function of the hyperparameters


USUAL_BATCH = 64  # rows, where there are as many


def batch_sizes(batch_size: int | OfHP | str | None, most: int | None, n: int) -> tuple[int | OfHP, int]:
    """The checked batch size, an integer or a function, and the largest one."""
    if callable(batch_size):
        return batch_size, check_integer("max_batch_size", most, high=n)
    if most is not None:
        raise invalid("max_batch_size", "None unless batch_size is a function of the hyperparameters", most)
    if isinstance(batch_size, str):
        if batch_size != "auto":
            raise invalid("batch_size", "an integer, a function of the hyperparameters, 'auto' or None", batch_size)
        return min(USUAL_BATCH, n), min(USUAL_BATCH, n)
    size = n if batch_size is None else check_integer("batch_size", batch_size, high=n)
    return size, size


def lengths(
    steps: int | OfHP | None, epochs: float | OfHP | None, most: int | None, per_epoch: int | None
) -> tuple[int | OfHP | None, int]:
    """The checked number of steps (None with epochs) and the largest one; ``per_epoch`` is None if it varies."""
    if epochs is not None and steps is not None:
        raise invalid("epochs", "None beside steps", epochs)
    if epochs is None:
        steps = 200 if steps is None else steps
        if not callable(steps):
            steps = check_integer("steps", steps, low=0)
    elif not callable(epochs):
        check_number("epochs", epochs, 0.0)
    if callable(steps) or callable(epochs) or (epochs is not None and per_epoch is None):
        return steps, check_integer("max_steps", most)
    known = math.ceil(epochs * (per_epoch or 0)) if epochs is not None else steps or 0
    if most is not None and most != known:
        raise invalid("max_steps", "None unless the number of steps depends on the hyperparameters", most)
    return steps, known
