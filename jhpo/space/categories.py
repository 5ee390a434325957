"""The choices that a traced index selects from, remembered while the tracer lives so that look-ups can be checked."""

from __future__ import annotations

import weakref
from typing import Any

import jax

_choices: dict[int, tuple[weakref.ref[Any], tuple[Any, ...]]] = {}


def remember(index: jax.Array, choices: tuple[Any, ...]) -> None:
    """Records the choices that an index ``int32[]`` selects from, until the index is collected."""
    at = id(index)
    _choices[at] = (weakref.ref(index, lambda _: _choices.pop(at, None)), choices)


def choices_of(index: object) -> tuple[Any, ...] | None:
    """The choices that the index selects from; None if it is not known, for example after a transformation."""
    found = _choices.get(id(index))
    return found[1] if found is not None and found[0]() is index else None
