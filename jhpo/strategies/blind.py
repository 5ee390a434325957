"""Strategies that do not look at values, and a mark to tell them by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from jhpo.strategies.base import Strategy

F = TypeVar("F", bound=Callable[..., Any])


def ignores_values(method: F) -> F:
    """Mark a `tell` that keeps the state as it is, so that the next points do not depend on what is told."""
    method.ignores_values = True  # type: ignore[attr-defined]
    return method


def learns(strategy: Strategy) -> bool:
    """Whether what a strategy asks for may depend on results: not if its `tell` is marked and nothing else takes them.

    >>> import jhpo
    >>> learns(jhpo.RandomSearch()), learns(jhpo.PSO())
    (False, True)
    """
    cls = type(strategy)
    others = cls.absorb is not Strategy.absorb or cls.expect is not Strategy.expect
    marked = getattr(cls.tell, "ignores_values", False)
    return not marked or others or strategy.continues or strategy.early_stop is not None
