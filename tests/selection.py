"""Which parameters of a test run in `make test`, and which with `make test-slow` only."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Any

import pytest


def slow_except(kept: Container[Any], values: Iterable[Any], id_of: Callable[[Any], str] | None = None) -> list[Any]:
    """Values for `pytest.mark.parametrize`, all marked slow but those in ``kept``.

    For promises that a strategy, a variant or a direction keeps in the same code as its neighbours: a few of them stand
    for all in the short suite.

    Args:
        kept: what runs in `make test`, compared by id if there is ``id_of``.
        values: all of them.
        id_of: the name of a value, for values that pytest cannot name.
    """
    chosen = []
    for value in values:
        name = None if id_of is None else id_of(value)
        marks = [] if (value if name is None else name) in kept else [pytest.mark.slow]
        chosen.append(pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=marks, id=name))
    return chosen
