"""Columns that grow, and which rows of them succeeded."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from jhpo.words.markup import counted


class Column:
    """A growable NumPy array with amortised constant-time appends."""

    def __init__(self, dtype: DTypeLike, width: tuple[int, ...] = (), fill: float = 0) -> None:
        self._fill = fill
        self._data = np.full((64, *width), fill, dtype)
        self._size = 0

    def resize(self, size: int) -> None:
        """Make it at least `size` long; new entries hold the fill value."""
        if size > len(self._data):
            grown = np.full((max(size, 2 * len(self._data)), *self._data.shape[1:]), self._fill, self._data.dtype)
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._size = max(self._size, size)

    def copy(self, size: int) -> Column:
        """The first `size` entries in an array of their own."""
        made = copy.copy(self)
        made._data, made._size = self.array[:size].copy(), size
        return made

    @property
    def array(self) -> np.ndarray:
        """A view of the entries; do not keep it across `resize`."""
        return self._data[: self._size]


def feasible(constraint: np.ndarray) -> np.ndarray:
    """``bool[n]``: whether each row of constraint values ``float[n, c]`` is feasible.

    A row is infeasible if a value is negative, or if some but not all values are missing (NaN).

    >>> feasible(np.array([[0.0, 1.0], [-0.1, 1.0], [np.nan, 1.0], [np.nan, np.nan]])).tolist()
    [True, False, False, True]
    """
    missing = np.isnan(constraint)
    violated = (constraint < 0) | (missing & ~missing.all(axis=1, keepdims=True))
    return ~violated.any(axis=1)


def violated_if_nan(constraint: Any, xp: ModuleType = np) -> Any:
    """Constraint values as they count: NaN as -inf. A row that is NaN is one of which nothing is known.

    >>> violated_if_nan(np.array([0.5, np.nan])).tolist()
    [0.5, -inf]
    """
    return xp.where(xp.isnan(constraint), -xp.inf, constraint)


def successes(complete: np.ndarray, constraint: np.ndarray | None, horizon: np.ndarray) -> np.ndarray:
    """Row numbers of the successful trials, ascending.

    Args:
        complete: ``bool[n]``, whether the value is finite.
        constraint: ``float[n, c]``, or None without constraints.
        horizon: ``float[n]``, fraction of the training. Values after different fractions cannot be compared, so only
            the longest trainings count.
    """
    good = complete if constraint is None else complete & feasible(constraint)
    ids = np.flatnonzero(good)
    return ids[horizon[ids] == horizon[ids].max()] if len(ids) else ids


def best_first(ids: np.ndarray, value: np.ndarray) -> np.ndarray:
    """``ids`` sorted by value, lowest first; equal values in their order."""
    return ids[np.argsort(value[ids], kind="stable")]


def why_nothing(
    value: np.ndarray,
    pruned: np.ndarray | None,
    evaluations: int,
    wanted: str = "",
    reasons: Mapping[str, int] | None = None,
    example: object = None,
) -> str:
    """Why none of some evaluations is a success, and what to look at.

    Args:
        value: ``float[n]`` of those that are known, NaN where one failed.
        pruned: ``bool[n]``, whether they were stopped early; None where none was.
        evaluations: how many there were.
        wanted: what there is not therefore, "best" or "front".
        reasons: of failures, and how often each, where they are known.
        example: hyperparameters of one that failed.

    >>> why_nothing(np.array([np.nan, np.nan]), None, 2, "best", {"KeyError: 'x'": 2})
    "all 2 evaluations failed, so there is no best; 2 times: KeyError: 'x'"
    >>> why_nothing(np.array([0.5, np.nan]), None, 2)
    'none of 2 evaluations succeeded: some failed, some violate a constraint'
    """
    failed = ~np.isfinite(value)
    stopped = np.zeros_like(failed) if pruned is None else ~failed & pruned
    kinds = {"failed": failed, "were stopped early": stopped, "violate a constraint": ~failed & ~stopped}
    found = [words for words, which in kinds.items() if which.any()]
    every = "the only evaluation" if evaluations == 1 else f"all {evaluations} evaluations"
    values = "the only value is" if evaluations == 1 else f"all {evaluations} values are"
    if len(found) > 1:
        text = f"none of {evaluations} evaluations succeeded: {', '.join(f'some {words}' for words in found)}"
    elif stopped.any():
        text = f"{every} {'was' if evaluations == 1 else 'were'} stopped early"
    elif not failed.all():
        text = f"none of {counted(evaluations, 'evaluation')} meets the constraints"
    else:
        text = f"{every} failed" if reasons else f"{values} NaN or infinite"
    text += f", so there is no {wanted}" if wanted else ""
    if reasons:
        most = max(reasons, key=lambda reason: reasons[reason])
        return f"{text}; {reasons[most]} time{'s' * (reasons[most] > 1)}: {most}"
    return f"{text}; call the objective with {example} to see where" if failed.any() and example is not None else text
