"""From told values to stored results: outcomes, conflicts and constraint values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jhpo.errors import TrialConflict, check_flag, check_integer, in_words, invalid
from jhpo.evaluation.outcome import Outcome, failure, judge, stopped_early
from jhpo.objectives import Objectives
from jhpo.strategies.base import Evaluation
from jhpo.study.events import Append, Layout, Results
from jhpo.trial import Trial, TrialState, TrialTable


@dataclasses.dataclass(frozen=True)
class Finished:
    """One trial's outcome on its way into the log."""

    id: int
    outcome: Outcome


def collect(
    table: TrialTable,
    dim: int,
    trial: Any,
    value: Any,
    error: str | BaseException | None,
    grad: Any,
    objectives: Objectives | None = None,
    pruned: bool = False,
) -> list[Finished]:
    """Check a `tell` against the table: new outcomes only; equal repetitions are dropped.

    Trials that were `pruned`, or told to stop, get the last value that they reported.

    Raises:
        InvalidArgument: unknown or never handed out trials, sequences of different lengths, a value beside a reason.
        TrialConflict: another result was told before, or the trial belongs to another worker by now.
    """
    check_flag("pruned", pruned)
    if error is not None and not isinstance(error, (str, BaseException)):
        raise invalid("error", "why the trial failed: a text, or an exception", error)
    if error is not None and pruned:
        raise invalid("pruned", "False beside error=, as a trial either failed or was stopped early", pruned)
    if (error is not None or pruned) and _any_of(value):
        raise invalid("value", _STOPPED if error is None else "None beside error=, as a failed trial has none", value)
    if isinstance(trial, (Trial, int, np.integer)):
        trials, values, grads = [trial], [value], [grad]
    elif isinstance(trial, Sequence) and not isinstance(trial, str):
        trials = list(trial)
        if not (in_order(value) or (value is None and (error is not None or pruned))):
            raise invalid("value", f"a list of values, one for each of the {len(trials)} trials", value)
        if not (grad is None or in_order(grad)):
            raise invalid("grad", f"a list of gradients, one for each of the {len(trials)} trials", grad)
        values = [None] * len(trials) if value is None else list(value)
        grads = [None] * len(trials) if grad is None else list(grad)
        for name, told in (("value", values), ("grad", grads)):
            if len(told) != len(trials):
                raise invalid(name, f"as many {name}s as trials ({len(trials)})", len(told))
    else:
        raise invalid("trial", "a trial, its id, or a sequence of them", trial)
    fresh: dict[int, Finished] = {}
    for one, result, slope in zip(trials, values, grads):
        trial_id = number_of("trial", one, table.size)
        stopped = isinstance(one, Trial) and one.reporting is not None and one.reporting.stopped
        if error is not None:
            outcome = failure(error if isinstance(error, str) else in_words(error))
        elif pruned or stopped:
            outcome = stopped_early(table.reports.last(trial_id))
        else:
            outcome = judge(result, objectives)
        if slope is not None:
            outcome = _with_grad(outcome, slope, dim)
        if not _repeats(table, trial_id, outcome, one):
            if trial_id in fresh:
                raise invalid("trial", "every trial once", trial_id)
            fresh[trial_id] = Finished(trial_id, outcome)
    return list(fresh.values())


def in_order(values: object) -> bool:
    """Whether it may be one result after the other: a list, an array or the like; no dict, and no set.

    >>> in_order([0.5]), in_order({"value": [0.5]}), in_order({0.5})
    (True, False, False)
    """
    return isinstance(values, Collection) and not isinstance(values, (str, Mapping, Set))


def number_of(name: str, trial: object, count: int) -> int:
    """The id of one of a study's `count` trials, which is given as such or as the trial.

    Raises:
        InvalidArgument: there is no such trial.

    >>> number_of("trial", 0, 0)
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: trial: expected one of the study's trials, of which there is none yet, got 0
    """
    given = trial.id if isinstance(trial, Trial) else trial
    if not count:
        raise invalid(name, "one of the study's trials, of which there is none yet", given)
    return check_integer(name, given, 0, count - 1)


def numbers_of(trials: object) -> list[int]:
    """Distinct ids of trials, each a trial or its id, in their order.

    Raises:
        InvalidArgument: something else.

    >>> numbers_of([2, 0, 2])
    [0, 2]
    """
    if not isinstance(trials, Collection) or isinstance(trials, (str, Mapping)):
        raise invalid("ids", "a list of trials, or of their ids", trials)
    return sorted({check_integer("ids", one.id if isinstance(one, Trial) else one, 0) for one in trials})


_STOPPED = "None beside pruned=True, as the last value that was reported counts (trial.report)"


def _any_of(value: Any) -> bool:
    """Whether a value is told, of one trial or of any of several."""
    return any(v is not None for v in value) if isinstance(value, (list, tuple)) else value is not None


def _with_grad(outcome: Outcome, grad: ArrayLike, dim: int) -> Outcome:
    try:
        array = np.ma.filled(np.ma.asarray(grad, np.float64), np.nan)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid("grad", f"an array of shape ({dim},)", grad) from error
    if array.shape != (dim,):
        raise invalid("grad", f"an array of shape ({dim},)", array.shape)
    return dataclasses.replace(outcome, grad=array)


def _repeats(table: TrialTable, trial_id: int, outcome: Outcome, told_by: object) -> bool:
    """True if this very result is there already; raises where it contradicts what is."""
    state = TrialState(int(table.state.array[trial_id]))
    if state in (TrialState.COMPLETE, TrialState.FAILED, TrialState.PRUNED):
        same = table.value.array[trial_id] == outcome.value or (
            math.isnan(outcome.value) and table.reason.get(trial_id, "") == outcome.reason
        )
        if outcome.values is not None and "values" in table.extra:
            same = same and np.array_equal(table.extra["values"].array[trial_id], outcome.values, equal_nan=True)
        other = "" if not same or outcome.reason else _differs(table, trial_id, outcome)
        if same and not other:
            return True
        was = table.reason.get(trial_id) or float(table.value.array[trial_id])
        now = f"{outcome.reason or outcome.value}{other}"
        raise TrialConflict(f"trial {trial_id} was finished before ({was}); refused: {now}")
    if state is TrialState.WAITING:
        raise TrialConflict(f"trial {trial_id} is in the queue: ask for it before telling its result")
    if isinstance(told_by, Trial) and told_by.attempt != int(table.attempt.array[trial_id]):
        raise TrialConflict(f"trial {trial_id} was handed to another worker since; this late result is refused")
    return False


def _differs(table: TrialTable, trial_id: int, outcome: Outcome) -> str:
    """What is told beside the value, and is not as it is stored; "" if all of it is."""
    if outcome.pruned != (table.state.array[trial_id] == TrialState.PRUNED):
        return ", stopped early" if outcome.pruned else ", not stopped early"
    for name in ("constraint", "cost", "grad"):
        told = getattr(outcome, name)
        if told is None:
            continue
        # those of the space are the first constraints
        stored = table.extra[name].array[trial_id] if name in table.extra else np.nan
        if not np.array_equal(np.ravel(stored)[-np.size(told) :], np.ravel(told), equal_nan=True):
            return f" with another {name}"
    return ""


def with_names(
    outcomes: Sequence[Outcome], names: tuple[str, ...] | None
) -> tuple[list[Outcome], tuple[str, ...] | None]:
    """Sort the values of several objectives by name; returns the outcomes and the names.

    Without known `names`, those of the first named outcome hold. An outcome with other names is a failure.
    """
    told: list[Outcome] = []
    for one in outcomes:
        names = names or one.names
        if names is None or one.names is None or one.names == names:
            told.append(one)
        elif set(one.names) != set(names) or one.values is None:
            told.append(failure(f"expected the values {list(names)}, got {list(one.names)}"))
        else:
            values = one.values[[one.names.index(name) for name in names]]
            first = math.nan if one.reason else float(values[0])
            told.append(dataclasses.replace(one, value=first, values=values, names=names))
    return told, names


def keep_names(names: Sequence[str] | None, append: Append) -> None:
    """Store the names of several objectives, taken from the first result."""
    if names is not None:
        append(Layout("objectives", {"names": list(names)}))


def pack_results(
    outcomes: Sequence[Outcome], space_constraint: np.ndarray | None, dim: int, objectives: int = 1
) -> Results:
    """Outcomes as the results of an event."""
    constraint, grad, cost = [] if space_constraint is None else [space_constraint], None, None
    own = [o.constraint for o in outcomes if o.constraint is not None]
    if own:
        blank = np.full(len(own[0]), np.nan)
        constraint.append(np.stack([blank if o.constraint is None else o.constraint for o in outcomes]))
    if any(o.grad is not None for o in outcomes):
        grad = np.stack([np.full(dim, np.nan) if o.grad is None else o.grad for o in outcomes])
    if any(o.cost is not None for o in outcomes):
        cost = np.asarray([np.nan if o.cost is None else o.cost for o in outcomes])
    values = None
    if objectives > 1:
        blank = np.full(objectives, np.nan)
        values = np.stack([blank if o.values is None else o.values for o in outcomes])
    return Results(
        value=np.asarray([o.value for o in outcomes], np.float64),
        reasons={k: o.reason for k, o in enumerate(outcomes) if o.reason},
        grad=grad,
        constraint=np.concatenate(constraint, axis=1) if constraint else None,
        cost=cost,
        values=values,
        pruned=[k for k, o in enumerate(outcomes) if o.pruned],
    )


def with_curves(results: Results, curves: Sequence[Mapping[int, float]]) -> Results:
    """The results with learning curves from elsewhere, values by step; what is not finite is left out."""
    points = [sorted((step, value) for step, value in c.items() if math.isfinite(value)) for c in curves]
    most = max(map(len, points))
    steps, curve = np.full((len(points), most), -1, np.int64), np.full((len(points), most), np.nan)
    for row, known in enumerate(points):
        for place, (step, value) in enumerate(known):
            steps[row, place], curve[row, place] = step, value
    return dataclasses.replace(results, steps=steps, curve=curve)


def pack_evaluation(result: Evaluation) -> Results:
    """An `Evaluation` in the user's own sign as the results of an event."""
    value = np.asarray(result.value, np.float64)
    bad = np.flatnonzero(~np.isfinite(value))
    extras = {name: getattr(result, name) for name in Results.EXTRAS}
    given = value if result.values is None else np.asarray(result.values, np.float64)
    if result.stages is not None and result.stages.width is not None:
        extras |= {"steps": result.stages.step, "curve": result.stages.value, "widths": result.stages.width}
    return Results(
        value,
        {int(k): f"the objective returned {given[k]}" for k in bad},
        pruned=[] if result.stages is None else np.flatnonzero(result.stages.pruned).tolist(),
        **{name: None if column is None else np.asarray(column) for name, column in extras.items()},
    )
