"""Strategies that other tools can drive: those that learn from the values of whole trainings."""

from __future__ import annotations

from jhpo.errors import invalid
from jhpo.strategies import as_strategy
from jhpo.strategies.base import Strategy
from jhpo.strategies.chain import Chain


def values_only(strategy: Strategy | str) -> Strategy:
    """The strategy as an instance.

    Raises:
        InvalidArgument: no strategy, or one that needs gradients or shorter trainings.

    >>> values_only("random").population
    64
    """
    made = as_strategy(strategy)
    if made.needs_grad or made.continues or (isinstance(made, Chain) and made.horizon != 1.0):
        raise invalid("strategy", "one that learns from values of whole trainings alone", strategy)
    if isinstance(made, Chain):
        for part in (made.search, made.polish):
            values_only(part)
    return made
