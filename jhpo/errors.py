"""Public exceptions, and one-line checks of arguments that raise them."""

from __future__ import annotations

import math
import numbers
from typing import Any


class JhpoError(Exception):
    """Base class of all errors that jhpo raises on purpose."""


class InvalidArgument(JhpoError, ValueError):
    """An invalid argument; the message names it, what was expected and what it got."""


class InvalidSpace(InvalidArgument):
    """An invalid search space; the message names the parameter."""


class InvalidParameters(InvalidArgument):
    """Hyperparameter values that do not belong to the space; the message names the parameter."""


class SpaceExhausted(JhpoError):
    """Every distinct point of a finite space has been proposed."""


class ChangedSpace(JhpoError):
    """A stored study was opened with a different search space; the message lists the differences."""


class StorageError(JhpoError):
    """The storage cannot be read or written; the message says what to do."""


class TrialConflict(JhpoError):
    """A trial was told two different results, or was told by a worker that had lost it."""


class UnknownStrategy(InvalidArgument):
    """No strategy has that name; the message lists the names."""


class OutOfMemory(JhpoError, MemoryError):
    """A single member of a population does not fit into the device's memory."""


class UnusableGradient(JhpoError, ArithmeticError):
    """A hypergradient is not finite; the message says why and what to do instead."""


class MissingExtra(JhpoError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""


def invalid(name: str, expected: str, got: object, kind: type[InvalidArgument] = InvalidArgument) -> InvalidArgument:
    """An argument error in the standard form ``name: expected ..., got ...``.

    >>> str(invalid("budget", "an integer >= 1", 0))
    'budget: expected an integer >= 1, got 0'
    """
    return kind(f"{name}: expected {expected}, got {got!r}")


def is_concrete(value: object) -> bool:
    """Whether it is a Python or NumPy number, which can be compared during tracing."""
    return isinstance(value, numbers.Number) and not isinstance(value, complex)


def check_integer(name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """``value`` as an int within ``[low, high]``; raises `InvalidArgument` otherwise."""
    wanted = f"an integer >= {low}" if high is None else f"an integer in [{low}, {high}]"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise invalid(name, wanted, value)
    number = int(value)
    if number < low or (high is not None and number > high):
        raise invalid(name, wanted, value)
    return number


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    *,
    open_high: bool = False,
) -> None:
    """Raises `InvalidArgument` unless ``value`` is in ``[low, high]``, open where said; tracers are not checked."""
    if not is_concrete(value):
        return
    bad = (
        math.isnan(value) or value < low or value > high or (open_low and value == low) or (open_high and value == high)
    )
    if bad:
        raise invalid(name, f"a number in {'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}", value)
