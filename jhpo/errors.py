"""Errors a user can meet, and the one-line checks that raise them before anything is compiled."""

from __future__ import annotations

import math
import numbers
from typing import Any


class JhpoError(Exception):
    """Base class of every error jhpo raises on purpose."""


class InvalidArgument(JhpoError, ValueError):
    """An argument has a value that cannot work; the message names it, what was expected and what came."""


class InvalidSpace(InvalidArgument):
    """A search space that cannot be searched; the message names the parameter."""


class InvalidParameters(InvalidArgument):
    """Hyperparameter values that do not belong to the space; the message names the parameter."""


class SpaceExhausted(JhpoError):
    """Every distinct point of a finite space has been handed out."""


class ChangedSpace(JhpoError):
    """A stored study was opened with another search space; the message lists the differences."""


class StorageError(JhpoError):
    """The storage cannot be read or written; the message says what to do."""


class TrialConflict(JhpoError):
    """A trial was told twice with different results, or by a worker that had lost it."""


class UnknownStrategy(InvalidArgument):
    """No strategy of that name; the message lists those there are."""


class OutOfMemory(JhpoError, MemoryError):
    """A single member of a population does not fit into the device's memory."""


class UnusableGradient(JhpoError, ArithmeticError):
    """A hypergradient came out as no number, or cannot mean anything; the message says why and what to do instead."""


class MissingExtra(JhpoError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""


def invalid(name: str, expected: str, got: object, kind: type[InvalidArgument] = InvalidArgument) -> InvalidArgument:
    """The one form of an argument error: ``name: expected ..., got ...``.

    >>> str(invalid("budget", "an integer >= 1", 0))
    'budget: expected an integer >= 1, got 0'
    """
    return kind(f"{name}: expected {expected}, got {got!r}")


def is_concrete(value: object) -> bool:
    """True for a Python or NumPy number: something that can be compared before tracing."""
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


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> None:
    """Check a coefficient that may be a tracer: only concrete numbers are compared."""
    if not is_concrete(value):
        return
    bad = math.isnan(value) or value < low or value > high or (open_low and value == low)
    if bad:
        raise invalid(name, f"a number in {'(' if open_low else '['}{low}, {high}]", value)
