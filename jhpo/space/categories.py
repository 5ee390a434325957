"""The choices that a traced index stands for: remembered while the number lives, so that a look-up can be checked."""

from __future__ import annotations

import weakref
from typing import Any

import jax

_choices: dict[int, tuple[weakref.ref[Any], tuple[Any, ...]]] = {}


def remember(index: jax.Array, choices: tuple[Any, ...]) -> None:
    """Note what an index, ``int32[]``, chooses from; forgotten with it."""
    at = id(index)
    _choices[at] = (weakref.ref(index, lambda _: _choices.pop(at, None)), choices)


def choices_of(index: object) -> tuple[Any, ...] | None:
    """What the index chooses from; None if it is another number, or one that came through another program."""
    found = _choices.get(id(index))
    return found[1] if found is not None and found[0]() is index else None
