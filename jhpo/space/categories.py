"""What a traced hyperparameter can be, remembered while the tracer lives so that its uses can be checked."""

from __future__ import annotations

import weakref
from typing import Any

import jax

from jhpo.errors import invalid, is_concrete

# the choices, of which numbers are the values themselves and others are selected by an index; a range for an integer
Known = tuple[Any, ...] | range

_known: dict[int, tuple[weakref.ref[Any], Known]] = {}


def remember(value: jax.Array, known: Known) -> None:
    """Records what a hyperparameter's value can be, until it is collected."""
    at = id(value)
    _known[at] = (weakref.ref(value, lambda _: _known.pop(at, None)), known)


def choices_of(value: object) -> Known | None:
    """What the value can be; None if it is not known, for example after a transformation."""
    found = _known.get(id(value))
    return found[1] if found is not None and found[0]() is value else None


def check_at_most(name: str, value: object, most: int, what: str) -> None:
    """Raises if a hyperparameter, traced or not, may exceed what there is room for, and so would be cut silently.

    Raises:
      InvalidArgument: it does, with ``what`` the bound is.
    """
    known = choices_of(value)
    if known is None:
        known = (value,) if is_concrete(value) else ()
    numbers = [known[0], known[-1]] if isinstance(known, range) else [k for k in known if is_concrete(k)]
    if numbers and max(numbers) > most:
        raise invalid(name, f"at most {most}, {what}", max(numbers))
