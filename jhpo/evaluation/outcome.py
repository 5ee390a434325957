"""The outcome of an evaluation: a finite number, or a failure with a reason."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """The result of one trial: a finite `value`, or NaN and the `reason` of the failure."""

    value: float
    reason: str = ""
    grad: np.ndarray | None = None  # float[d], with respect to the unit coordinates
    constraint: np.ndarray | None = None  # float[c], feasible where >= 0
    cost: float | None = None


def judge(value: object) -> Outcome:
    """The outcome of whatever an objective returned; only one finite real number, or a dict with it, is a success.

    >>> judge(0.5)
    Outcome(value=0.5, reason='', grad=None, constraint=None, cost=None)
    >>> judge("low").reason
    "expected a finite number, got 'low'"
    """
    if isinstance(value, dict):
        return _judge_mapping(value)
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is None or np.ma.is_masked(value):
        return failure(f"expected a finite number, got {value!r}"[:300])
    if isinstance(value, numbers.Real):
        try:
            number = float(value)
        except OverflowError:
            return failure("expected a finite number, got an integer too large for a float")
    else:
        try:
            array = np.asarray(value)
        except Exception as error:  # noqa: BLE001 the conversion of an unknown object may raise anything
            return failure(f"expected a finite number, got {type(value).__name__} ({type(error).__name__})")
        if array.shape not in ((), (1,)):
            return failure(f"expected a finite number, got {type(value).__name__} of shape {array.shape}")
        # NumPy has no kind for bfloat16 and similar dtypes
        numeric = array.dtype.kind in "iuf" or array.dtype.name.startswith(("bfloat", "float"))
        if not numeric:
            return failure(f"expected a finite number, got {type(value).__name__} of {array.dtype}")
        number = float(array.reshape(()).astype(np.float64))
    if not math.isfinite(number):
        return failure(f"expected a finite number, got {number}")
    return Outcome(number)


def _numbers(values: object) -> np.ndarray:
    """``float64[c]`` of a list of numbers; masked entries become NaN."""
    array = np.atleast_1d(np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan))
    if np.asarray(values).dtype.kind in "USb" or array.ndim != 1:
        raise ValueError("no list of numbers")
    return array


def failure(reason: str) -> Outcome:
    """The outcome of a failed trial."""
    return Outcome(math.nan, reason or "failed")


def _judge_mapping(value: dict[str, Any]) -> Outcome:
    if "value" not in value:
        return failure(f"expected a number or a dict with 'value', got the keys {sorted(map(str, value))}")
    outcome = judge(value["value"]) if not isinstance(value["value"], dict) else failure("'value' is a dict")
    unknown = sorted(set(value) - {"value", "constraint", "cost"})
    if outcome.reason or unknown:
        return outcome if outcome.reason else failure(f"expected 'value', 'constraint', 'cost', got {unknown}")
    constraint = cost = None
    if "constraint" in value:
        try:
            constraint = _numbers(value["constraint"])
        except (TypeError, ValueError):
            return failure(f"constraint: expected numbers, got {value['constraint']!r}"[:300])
    if "cost" in value:
        judged = judge(value["cost"])
        if judged.reason:
            return failure(f"cost: {judged.reason}")
        cost = judged.value
    return Outcome(outcome.value, constraint=constraint, cost=cost)
