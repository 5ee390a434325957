"""Which trials a search in memory keeps."""

from __future__ import annotations

from typing import Literal, get_args

from jhpo.errors import invalid

# every trial; of every trial the value alone; of every generation the best trial alone
Keep = Literal["all", "values", "best"]


def check_keep(keep: object) -> Keep:
    """The argument ``keep`` of a search.

    Raises:
        InvalidArgument: none of the three.

    >>> check_keep("some")
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: keep: expected one of 'all', 'values', 'best', got 'some'
    """
    if keep not in get_args(Keep):
        raise invalid("keep", "one of " + ", ".join(map(repr, get_args(Keep))), keep)
    return keep  # type: ignore[return-value]
