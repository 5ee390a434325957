"""When a search ends whose members are frozen and thawed, in memory and in a study.

A strategy that ``thaws`` has these attributes beside its methods, once it knows the length of the training (`lasting`):
``interval``, the steps of a part; ``parts`` of a whole training; ``capacity``, the members there may be; and ``most``,
the parts that are trained in all. The last two are None where the strategy has no bound of its own.
"""

from __future__ import annotations

from typing import Any

from jhpo.errors import invalid


def check_capacity(thaws: Any, budget: int | None) -> None:
    """Raises InvalidArgument if a strategy that thaws may begin more members than the budget has, where it needs them.

    Args:
        thaws: the strategy.
        budget: members that may begin; None if that is not bounded.
    """
    if thaws.most is not None and budget is not None and budget < thaws.capacity:
        raise invalid("budget", f"at least the {thaws.capacity} members of the strategy's capacity", budget)


def effort_spent(thaws: Any, parts: int, steps: int) -> str | None:
    """Why a search ends after so many parts of trainings, of so many steps together, or None."""
    if thaws.most is None or parts + thaws.population <= thaws.most:
        return None
    return f"effort: {steps} steps taken"


def nothing_left(thaws: Any, begun: int, budget: int | None) -> str:
    """Why a search ends that has no member to train on.

    Args:
        thaws: the strategy.
        begun: members so far.
        budget: members that may begin; None if that is not bounded.
    """
    if thaws.most is None and budget is not None and begun >= budget:
        return f"evaluations: {begun} of {budget} done"
    return "exhausted: every member was trained to its end, or failed"
