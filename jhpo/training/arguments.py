"""Checks of the arguments of `jhpo.supervised` (batch sizes, lengths) before anything is compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax

from jhpo.errors import check_integer, check_number, invalid
from jhpo.training.lengths import whole_steps
from jhpo.training.trainable import HP

OfHP = Callable[[HP], jax.Array]  # a number as a function of the hyperparameters


USUAL_BATCH = 64  # rows, where there are as many


# What people call the argument for the hyperparameters.
_HP = ("hp", "hps", "hparams", "hyperparameters")


def takes_third(function: Callable[..., Any], name: str) -> bool:
    """Whether a function of two arguments takes a third one: it is required, or called ``name``.

    Further options with defaults, as optax's losses have them, are left alone.

    >>> import optax
    >>> takes_third(optax.losses.huber_loss, "hp"), takes_third(lambda outputs, targets, hp=None: 0.0, "hp")
    (False, True)
    """
    third = [p for p in _positional(function) if name == "live" or p.name != "live"][2:3]  # a loss has live by its name
    return bool(third) and (third[0].default is inspect.Parameter.empty or third[0].name == name)


def takes_named(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of this name."""
    signature = signature_of(function)
    return signature is not None and name in signature.parameters


def takes_rate(function: Callable[..., Any]) -> bool:
    """Whether the first argument is a learning rate, as of optax's optimisers, where hyperparameters are expected."""
    return [p.name for p in _positional(function)[:1]] == ["learning_rate"]


def check_place_of_hp(argument: str, function: Callable[..., Any] | None, call: str, place: int | None) -> None:
    """Raises if a function's hyperparameters are by their name in another place than that of ``call``.

    Args:
        argument: that the function was given as. call: how it is called. place: of the hyperparameters, or None.
    """
    names = [p.name for p in _positional(function)]
    wrong = [name for i, name in enumerate(names) if name in _HP and i != place]
    if wrong:
        raise invalid(argument, f"a function {call}", f"({', '.join(names)})")


def signature_of(function: Callable[..., Any]) -> inspect.Signature | None:
    """The signature; None of a builtin function that has none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _positional(function: Callable[..., Any] | None) -> list[inspect.Parameter]:
    signature = None if function is None else signature_of(function)
    parameters = [] if signature is None else signature.parameters.values()
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def batch_sizes(batch_size: int | OfHP | str | None, most: int | None, n: int) -> tuple[int | OfHP, int]:
    """The checked batch size, an integer or a function, and the largest one."""
    if callable(batch_size):
        if most is None:
            raise invalid("max_batch_size", f"the largest batch size beside batch_size(hp), in [1, {n}]", most)
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
    known = whole_steps(epochs * (per_epoch or 0)) if epochs is not None else steps or 0
    if most is not None and most != known:
        raise invalid("max_steps", "None unless the number of steps depends on the hyperparameters", most)
    return steps, known
