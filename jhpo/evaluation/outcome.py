"""The outcome of an evaluation: a finite number, or a failure with a reason."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jhpo.errors import encodable
from jhpo.objectives import RESERVED, Objectives, Values, if_named, if_several
from jhpo.values.columns import violated_if_nan


@dataclass(frozen=True)
class Outcome:
    """The result of one trial: a finite `value`, or NaN and the `reason` of the failure.

    With several objectives, `values` are all of them, and `value` is the first, or NaN if any is not finite.
    """

    value: float
    reason: str = ""
    grad: np.ndarray | None = None  # float[d], with respect to the unit coordinates
    constraint: np.ndarray | None = None  # float[c], feasible where >= 0
    cost: float | None = None
    values: np.ndarray | None = None  # float[m], NaN where one is not finite
    names: tuple[str, ...] | None = None  # of the values
    pruned: bool = False  # it was stopped early: `value` is the last that was reported


def judge(value: object, objectives: Objectives | None = None) -> Outcome:
    """The outcome of whatever an objective returned; only finite real numbers, one per objective, are a success.

    >>> judge(0.5)
    Outcome(value=0.5, reason='', grad=None, constraint=None, cost=None, values=None, names=None, pruned=False)
    >>> judge("low").reason
    "expected a finite number, got 'low'"
    """
    if objectives is not None:
        return _judge_several(value, objectives)
    if type(value) is float and math.isfinite(value):  # mostly
        return Outcome(value)
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
            array = _as_array(value)
        except Exception as error:  # noqa: BLE001 the conversion of an unknown object may raise anything
            return failure(f"expected a finite number, got {type(value).__name__} ({type(error).__name__})")
        if array.shape not in ((), (1,)):
            got = f"{type(value).__name__} of shape {array.shape}{if_several(array.shape)}"
            return failure(f"expected a finite number, got {got}")
        # NumPy has no kind for bfloat16 and similar dtypes
        numeric = array.dtype.kind in "iuf" or array.dtype.name.startswith(("bfloat", "float"))
        if not numeric:
            return failure(f"expected a finite number, got {type(value).__name__} of {array.dtype}")
        number = float(array.reshape(()).astype(np.float64))
    if not math.isfinite(number):
        return failure(f"expected a finite number, got {number}")
    return Outcome(number)


def _as_array(value: Any) -> np.ndarray:
    """A NumPy array; also of a number that NumPy does not know, as a decimal or a tensor that has a gradient."""
    if hasattr(value, "detach"):  # PyTorch warns where such a tensor becomes a number
        value = value.detach()
    try:
        array = np.asarray(value)
    except Exception:  # noqa: BLE001 the conversion of an unknown object may raise anything, as may the next
        return np.asarray(float(value))
    return np.asarray(float(value)) if array.dtype == object and hasattr(value, "__float__") else array


def _numbers(values: object) -> np.ndarray:
    """``float64[c]`` of a list of numbers; masked entries become NaN."""
    array = np.atleast_1d(np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan))
    if np.asarray(values).dtype.kind in "USb" or array.ndim != 1:
        raise ValueError("no list of numbers")
    return array


def failure(reason: str) -> Outcome:
    """The outcome of a failed trial."""
    return Outcome(math.nan, encodable(reason) or "failed")


def stopped_early(value: float) -> Outcome:
    """The outcome of a trial that was stopped early, from the last value that it reported; NaN if there is none."""
    return Outcome(value, "" if math.isfinite(value) else "pruned before its first report", pruned=True)


def _judge_mapping(value: dict[str, Any]) -> Outcome:
    if "value" not in value:
        hint = if_named([str(name) for name in value])
        what = f"expected a number or a dict with 'value', got the keys {sorted(map(str, value))}"
        return failure(f"{what}{'; ' * bool(hint)}{hint}")
    outcome = judge(value["value"]) if not isinstance(value["value"], dict) else failure("'value' is a dict")
    if outcome.reason:
        return outcome
    if unknown := sorted(map(str, set(value) - set(RESERVED))):
        note = "trial.note(...) keeps what belongs to a trial beside its result"
        return failure(f"expected 'value', 'constraint', 'cost', got {unknown}; {note}")
    return _with_extras(outcome, value)


def _judge_several(value: object, objectives: Objectives) -> Outcome:
    """Several values, as a sequence or a dict, or either as the "value" of a dict of more."""
    found, names = value, objectives.names
    if isinstance(value, dict):
        own = {k: v for k, v in value.items() if k not in RESERVED}
        if "value" in value and own:
            return failure(f"expected the values or 'value', got both: {sorted(map(str, value))}")
        found = value.get("value", own)
    if isinstance(found, Values) and found.names is not None:
        found = dict(zip(found.names, found))  # those of a trial, which may have another order
    if isinstance(found, dict):
        names = tuple(map(str, found)) if names is None else names
        missing = [name for name in names if name not in found]
        if missing:
            return failure(f"expected the values {list(names)}, got {sorted(map(str, found))}")
        found = [found[name] for name in names]
    elif isinstance(found, (tuple, list)) or getattr(found, "ndim", 0) == 1:
        found = list(found)  # type: ignore[call-overload]
    else:
        return failure(f"expected {objectives.count} values, one for each direction, got {found!r}"[:300])
    if len(found) != objectives.count:
        return failure(f"expected {objectives.count} values, one for each direction, got {len(found)}")
    each = [
        judge(one) if not isinstance(one, dict) else failure("expected a finite number, got a dict") for one in found
    ]
    values = np.asarray([one.value for one in each])
    labels = objectives.labels if names is None else names
    reason = "; ".join(f"{name}: {one.reason}" for name, one in zip(labels, each) if one.reason)
    outcome = Outcome(math.nan if reason else float(values[0]), reason, values=values, names=names)
    return _with_extras(outcome, value) if isinstance(value, dict) else outcome


def _with_extras(outcome: Outcome, value: dict[str, Any]) -> Outcome:
    """The outcome with the constraints and the cost of a dict; a failure if they are not numbers."""
    constraint = cost = None
    if "constraint" in value:
        try:
            constraint = violated_if_nan(_numbers(value["constraint"]))
        except (TypeError, ValueError):
            return _failed(outcome, f"constraint: expected numbers, got {value['constraint']!r}"[:300])
    if "cost" in value:
        judged = judge(value["cost"])
        if judged.reason:
            return _failed(outcome, f"cost: {judged.reason}")
        cost = judged.value
    return dataclasses.replace(outcome, constraint=constraint, cost=cost)


def _failed(outcome: Outcome, reason: str) -> Outcome:
    """The outcome as a failure: none of its values counts."""
    values = None if outcome.values is None else np.full_like(outcome.values, np.nan)
    return dataclasses.replace(outcome, value=math.nan, reason=reason, constraint=None, values=values)


def mean_constraint(outcomes: Sequence[Outcome]) -> np.ndarray | None:
    """The constraints ``float[c]`` of a point, the mean of its replicates: NaN if one has none, None if all do.

    >>> mean_constraint([judge({"value": 1.0, "constraint": c}) for c in (0.5, -1.5)]).tolist()
    [-0.5]
    """
    found = [one.constraint for one in outcomes]
    there = next((c for c in found if c is not None), None)
    if there is None:
        return None
    return np.mean([np.full_like(there, np.nan) if c is None else c for c in found], axis=0)


def in_width(outcomes: Sequence[Outcome], width: int | None) -> tuple[list[Outcome], int | None]:
    """Outcomes with as many constraints as the first that had any; returns them and that number.

    An outcome with another number is a failure.

    >>> few, many = judge({"value": 1.0, "constraint": 0.5}), judge({"value": 1.0, "constraint": [0.5, 0.5]})
    >>> in_width([few, many], None)[0][1].reason
    'constraint: expected 1 as in the first result that had any, got 2'
    """
    told: list[Outcome] = []
    for one in outcomes:
        if one.constraint is not None:
            width = len(one.constraint) if width is None else width
            if len(one.constraint) != width:
                reason = f"constraint: expected {width} as in the first result that had any, got {len(one.constraint)}"
                one = _failed(one, one.reason or reason)
        told.append(one)
    return told, width
