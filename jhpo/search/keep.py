"""The option ``keep``: what a search in memory keeps of its trials."""

from __future__ import annotations

from typing import Literal, get_args

from jhpo.errors import invalid

# every trial; only the value of every trial; only the best trial of every generation
Keep = Literal["all", "values", "best"]


def check_keep(keep: object) -> Keep:
    """The argument ``keep`` of a search after checking it.

    Raises:
        InvalidArgument: not one of the three values.

    >>> check_keep("some")
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: keep: expected one of 'all', 'values', 'best', got 'some'
    """
    if keep not in get_args(Keep):
        raise invalid("keep", "one of " + ", ".join(map(repr, get_args(Keep))), keep)
    return keep  # type: ignore[return-value]
