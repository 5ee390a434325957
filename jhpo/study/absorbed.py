"""Results that trials bring along, when another study absorbs them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence, Set, Sized
from typing import Any

import numpy as np

from jhpo.errors import invalid, warn_caller
from jhpo.evaluation.outcome import Outcome, failure, judge, stopped_early
from jhpo.objectives import Objectives
from jhpo.trial import TrialState, TrialTable


def given_results(
    points: Any, values: Any, directions: Sequence[str], objectives: Objectives | None
) -> tuple[Any, list[Outcome]]:
    """Points and their results; without values those that trials, or a study, bring along.

    Of these the ones that wait or run are left out, and those that were paused before the end of their training, as
    their values are of another length of it. Failures and measured constraints are kept.

    Args:
        points, values: as of `jhpo.Study.absorb`.
        directions: of the study that absorbs them. objectives: likewise.

    Raises:
        InvalidArgument: not as many values as points, no lists of them, or no values of points that bring none.
    """
    for name, given in (("params", points), ("values", () if values is None else values)):
        unordered = isinstance(given, (str, Mapping, Set)) or getattr(given, "ndim", None) == 0
        if not isinstance(given, Sized) or unordered:
            raise invalid(name, "a list, an entry for each result", given)
    if values is None:
        return _own_results(points, directions, objectives)
    if len(points) != len(values):
        raise invalid("values", f"as many as there are points ({len(points)})", len(values))
    return points, [judge(value, objectives) for value in values]


def warn_of_repeats(table: TrialTable, ids: Sequence[int]) -> None:
    """Warns if all of several trials that were just added, points and values, were there already.

    A strategy would take the second for a measurement of its own, and a budget counts them twice.
    """
    if len(ids) < 2:
        return
    both = np.column_stack([table.unit.array, table.value.array])
    rows = np.ascontiguousarray(both).view(np.dtype((np.void, both.itemsize * both.shape[1])))[:, 0]
    if np.isin(rows[ids[0] :], rows[: ids[0]]).all():
        warn_caller(
            f"the study holds these {len(ids)} results already, and now twice, and budget counts both; a program that "
            "is run again with resume=True absorbs them once with `if not len(study):` before it"
        )


def _own_results(
    given: Any, directions: Sequence[str], objectives: Objectives | None
) -> tuple[list[Any], list[Outcome]]:
    theirs: Any = getattr(given, "directions", None)
    names = None if objectives is None else objectives.names
    other = getattr(getattr(given, "objectives", None), "names", None)
    if names is not None and other is not None:  # in whatever order
        if (ours := dict(zip(names, directions))) != (got := dict(zip(other, theirs))):
            raise invalid("params", f"a study of the same directions, {ours}", got)
    elif theirs is not None and tuple(theirs) != tuple(directions):
        raise invalid("params", f"a study of the same directions, {', '.join(directions)}", ", ".join(theirs))
    found = list(given)
    if not all(hasattr(trial, "params") and hasattr(trial, "value") for trial in found):
        raise invalid("values", "a value for each point (trials, or a whole study, bring their own)", None)
    some = [t for t in found if _status(t) >= TrialState.COMPLETE and getattr(t, "horizon", 1.0) == 1.0]
    for trial in some:
        if _status(trial) == TrialState.COMPLETE and max(len(trial.values), 1) != len(directions):
            raise invalid("params", f"trials with {len(directions)} values", f"{len(trial.values)} in {trial!r}")
        if names is not None and trial.values.names is not None and set(trial.values.names) != set(names):
            raise invalid("params", f"trials with the values {list(names)}", trial)
    outcomes = [_outcome(trial, objectives) for trial in some]
    return some, outcomes if theirs is None else _with_limits(given, some, outcomes)


def _status(trial: Any) -> TrialState:
    """Those of ``result.top`` are complete, and have no status."""
    return getattr(trial, "status", TrialState.COMPLETE)


def _outcome(trial: Any, objectives: Objectives | None) -> Outcome:
    if _status(trial) == TrialState.COMPLETE:
        return judge(trial.value if objectives is None else trial.values, objectives)
    if trial.status == TrialState.FAILED:
        return failure(trial.reason)
    return stopped_early(trial.value if objectives is None else math.nan)


def _with_limits(study: Any, trials: Sequence[Any], outcomes: list[Outcome]) -> list[Outcome]:
    """With the constraints that the study's objective measured, beside those of its space."""
    column, own = study.history.table.extra.get("constraint"), study.space.num_constraints
    if not study.history.table.measured(own):
        return outcomes
    rows = np.asarray(column.array[[t.id for t in trials], own:], np.float64)
    return [
        one if one.reason or np.isnan(row).all() else dataclasses.replace(one, constraint=row)
        for one, row in zip(outcomes, rows)
    ]
