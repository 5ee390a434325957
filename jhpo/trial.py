"""A trial, and the columns that hold all trials of a study."""

from __future__ import annotations

import enum
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from jhpo.curves.reports import REPORTS_ONLY, Reports
from jhpo.curves.table import CurveTable, Report
from jhpo.errors import JhpoError
from jhpo.objectives import NO_VALUES, Values
from jhpo.values.columns import Column, best_first, successes
from jhpo.values.notes import Notes, noted, read_notes
from jhpo.values.pytrees import HP, same
from jhpo.words.attributes import Advising
from jhpo.words.markup import named, table


class TrialState(enum.IntEnum):
    """Status of a trial."""

    WAITING = 0  # in the queue: enqueued, or given back after its worker was lost
    RUNNING = 1  # handed out to a worker
    COMPLETE = 2  # told a finite value
    FAILED = 3  # told a failure with its reason
    PRUNED = 4  # stopped early: its value is the last that was reported, and never the best


@dataclass(frozen=True, repr=False, eq=False)
class Trial(Advising):
    """One evaluation of the objective, a copy made when it was asked for or looked up.

    `params` are host values: strings and numbers in the space's tree, inactive parameters absent. While it is being
    evaluated, `report`, `should_stop` and `note` work.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Int(2, 5)}), jhpo.GridSearch())
    >>> [trial] = study.ask(1)
    >>> study.tell(trial, 0.5)
    >>> study.best
    Trial(0, COMPLETE, value=0.5, params={'x': 2})
    """

    id: int
    params: HP
    status: TrialState
    value: float  # as told, in the study's direction; NaN unless complete; of several objectives the first
    reason: str  # why it failed; empty otherwise
    generation: int  # of the strategy; -1 for enqueued and absorbed trials
    attempt: int  # number of earlier attempts
    seed: int  # 64-bit seed, different for each trial unless the strategy fixes its members' randomness
    horizon: float  # fraction of the training to run: below 1 in the first phase of a chain
    unit: np.ndarray = field(compare=False)  # float64[d], the point of the unit cube
    values: Values = NO_VALUES  # of all objectives, by index or name; a failed trial has NaN where one is missing
    curve: dict[int, float] = field(default_factory=dict)  # values by step, reported or where the training was paused
    curves: dict[str, dict[int, float]] = field(default_factory=dict)  # other measurements that were reported, by name
    reporting: Reports | None = field(default=None, compare=False)  # of a trial that is being evaluated
    folds: str = ""  # "3 of 5", on which it was run, where that is one after the other
    notes: dict[str, Any] = field(default_factory=dict)  # plain values by name, see `note`

    def __repr__(self) -> str:
        many = len(self.values) > 1
        found = {"values": self.values} if many else {} if math.isnan(self.value) else {"value": self.value}
        said = {name: text for name, text in (("folds", self.folds), ("reason", self.reason)) if text}
        more = {**found, **said, "params": self.params}
        return f"Trial({self.id}, {self.status.name}, {', '.join(f'{name}={value!r}' for name, value in more.items())})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trial):
            return NotImplemented
        return all(same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self) if f.compare)

    def __hash__(self) -> int:
        return hash((self.id, self.seed))

    def _repr_html_(self) -> str:
        names = [f"value {n}" for n in self.values.names or range(len(self.values))]
        values = list(zip(names if len(names) > 1 else ["value"], self.values))
        said = [(name, text) for name, text in (("folds", self.folds), ("reason", self.reason)) if text]
        notes = [(f"note {name}", value) for name, value in self.notes.items()]
        rows = [("status", self.status.name), *values, *said, *named(self.params), *notes]
        return table(("", f"trial {self.id}"), rows)

    @property
    def state(self) -> TrialState:
        """Deprecated name of `status`; trained states are in `Study.states` and `Result.top`."""
        warnings.warn("Trial.state is called Trial.status now", DeprecationWarning, stacklevel=2)
        return self.status

    def report(self, step: int, value: float, **more: float) -> None:
        """Store an intermediate value; it is kept when this returns.

        Args:
            step: of the training, an integer >= 0 that grows from one report to the next.
            value: of the objective at that step, in the study's direction; a finite number.
            more: other measurements, by name: ``trial.report(3, loss, accuracy=0.9)``.

        Raises:
            InvalidArgument: a step that goes back, or a value that is not a finite number.
            JhpoError: this trial is not being evaluated.
            TrialConflict: it was finished, or handed to another worker, meanwhile.
        """
        self._reporting("report").report(Report(step, value, more))

    def should_stop(self) -> bool:
        """Whether the evaluation is to end now, as ``early_stop=`` or the strategy (`jhpo.ASHA`) says.

        After True the trial counts as pruned, whatever the objective returns: its value is the last that it reported.

        Raises:
            JhpoError: this trial is not being evaluated.
        """
        return self._reporting("should_stop").should_stop()

    def note(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Keep plain values by name with the trial, in place of earlier ones of these names; stored when this returns.

        For what belongs to the trial beside its value: a file with its weights, a version, a count. A trial that is
        begun again after its worker was lost has the notes of its earlier attempts, the last checkpoint for example.
        `Study.note` adds notes to any trial, finished ones too.

        Args:
            values: by name.
            more: likewise, as named arguments: ``trial.note(weights="runs/3.npz", epochs=12)``.

        Raises:
            InvalidArgument: a value that is not JSON (None, bool, number, text, list, dict by text; arrays become
                lists), or of more than 64 KiB.
            JhpoError: this trial is not being evaluated.
            TrialConflict: it was finished, or handed to another worker, meanwhile.

        >>> import jhpo
        >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Int(2, 5)}), jhpo.GridSearch())
        >>> [trial] = study.ask(1)
        >>> trial.note({"git:commit": "5f3a"}, epochs=12)
        >>> study[0].notes
        {'git:commit': '5f3a', 'epochs': 12}
        """
        found = noted(values, more)
        self._reporting("note").note(found)
        self.notes.update(read_notes(found))

    def _reporting(self, method: str) -> Reports:
        if self.reporting is None:
            raise JhpoError(f"trial.{method}: {REPORTS_ONLY}")
        return self.reporting

    def __getstate__(self) -> dict[str, object]:
        """A copy elsewhere is a record."""
        return self.__dict__ | {"reporting": None}


class TrialTable:
    """All trials of a study in columns; trial ids are the row numbers."""

    def __init__(self, dim: int) -> None:
        self.size = 0
        self.unit = Column(np.float64, (dim,))
        self.value = Column(np.float64, fill=np.nan)
        self.state = Column(np.uint8)
        self.generation = Column(np.int32, fill=-1)
        self.member = Column(np.int32, fill=-1)
        self.attempt = Column(np.uint16)  # number of earlier attempts
        self.stream = Column(np.int64, fill=-1)  # id from which its evaluation key is derived, -1 for its own
        self.horizon = Column(np.float64, fill=1.0)  # fraction of the training
        self.lost = Column(np.uint16)  # number of times its worker was lost
        self.asked = Column(np.float64, fill=np.nan)  # seconds since the epoch
        self.told = Column(np.float64, fill=np.nan)
        self.reason: dict[int, str] = {}
        self.worker: dict[int, str] = {}  # of running trials
        self.extra: dict[str, Column] = {}  # "grad" [d], "constraint" [c], "cost", "variance", "values" [m]
        self.reports = CurveTable()  # values that were reported while trials ran
        self.folds = 0  # of a cross-validation, where they are run one after the other: steps are folds
        self.notes: dict[int, Notes] = {}
        self.curve: dict[int, Column] = {}  # values by the step at which they were measured, NaN where they were not
        self.limits: dict[int, Column] = {}  # [c], constraint values likewise
        self.width: dict[int, Column] = {}  # of the programs that trained a member to a step, 0 where none did
        # of members that take over from one another, by the step at the end of each part of the training:
        self.source: dict[int, Column] = {}  # trial whose training was continued, -1 where there was no such part
        self.steered: dict[int, Column] = {}  # [d], the point of the unit cube in it

    def columns(self) -> list[Column]:
        """All columns."""
        fixed = [self.unit, self.value, self.state, self.generation, self.member, self.attempt, self.stream]
        several = (self.extra, self.curve, self.limits, self.width, self.source, self.steered)
        return [*fixed, self.horizon, self.lost, self.asked, self.told, *(c for by in several for c in by.values())]

    def add(self, count: int) -> slice:
        """Adds rows for `count` new trials; returns them."""
        rows = slice(self.size, self.size + count)
        for column in self.columns():
            column.resize(rows.stop)
        self.size = rows.stop  # last, as other threads read meanwhile
        return rows

    def set_extra(self, name: str, ids: np.ndarray, values: np.ndarray) -> None:
        """Stores further results (float[k] or float[k, m]) of the trials `ids`."""
        width, before = values.shape[1:], self.extra.get(name)
        if before is None or before.array.shape[1:] < width:  # constraints are measured, of which failures had none
            wider = Column(np.float64, width, fill=np.nan)
            wider.resize(self.size)
            if before is not None:
                wider.array[: len(before.array), : before.array.shape[1]] = before.array
            self.extra[name] = wider
        there: tuple[Any, ...] = (ids, *map(slice, width))
        self.extra[name].array[there] = values

    def measured(self, own: int) -> int | None:
        """Number of constraints beside those of the space; None where none was measured so far."""
        return (self.extra["constraint"].array.shape[1] - own if "constraint" in self.extra else 0) or None

    def reach(
        self, ids: np.ndarray, step: int, value: np.ndarray, constraint: np.ndarray | None, width: np.ndarray
    ) -> None:
        """Trials were trained to a step: their results there, and the widths of the programs."""
        self._at_step(self.curve, step, ids, value)
        if constraint is not None:
            self._at_step(self.limits, step, ids, constraint)
        self.passed(ids, step, width)

    def passed(self, ids: np.ndarray, step: int, width: np.ndarray) -> None:
        """Trials were trained to a step in programs of these widths."""
        self._at_step(self.width, step, ids, width, 0)

    def take_over(self, ids: np.ndarray, step: int, sources: np.ndarray) -> None:
        """Trials of members that evolve were trained to a step: whose training each one continued."""
        self._at_step(self.source, step, ids, sources, -1)
        self._at_step(self.steered, step, ids, self.unit.array[ids])

    def _at_step(
        self, columns: dict[int, Column], step: int, ids: np.ndarray, values: np.ndarray, fill: float = np.nan
    ) -> None:
        if step not in columns:
            column = Column(values.dtype, values.shape[1:], fill=fill)
            column.resize(self.size)
            columns[step] = column
        columns[step].array[ids] = values

    def done(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """``bool[k]``: whether each of the trials `ids` is complete or failed."""
        return self.state.array[ids] >= TrialState.COMPLETE

    def in_state(self, state: TrialState) -> np.ndarray:
        """Ids of the trials in `state`, ascending."""
        return np.flatnonzero(self.state.array == state)

    def successes(self) -> np.ndarray:
        """Ids of complete and feasible trials, of those with the longest horizon only."""
        n, limits = self.size, self.extra.get("constraint")  # other threads may add trials meanwhile
        constraint = None if limits is None else limits.array[:n]
        return successes(self.state.array[:n] == TrialState.COMPLETE, constraint, self.horizon.array)

    def streams(self, ids: np.ndarray) -> np.ndarray:
        """``int64[k]``: the ids from which the trials' keys are derived."""
        return np.where(self.stream.array[ids] >= 0, self.stream.array[ids], ids)

    def ranked(self, sign: float) -> np.ndarray:
        """`successes`, best first; of equal values the earlier trial first. `sign` is -1 to maximise."""
        return best_first(self.successes(), sign * self.value.array)

    def curve_of(self, trial_id: int) -> dict[int, float]:
        """Intermediate values of a trial by step, reported ones and those at which its training was paused."""
        paused = {step: float(column.array[trial_id]) for step, column in sorted(self.curve.items())}
        return {k: v for k, v in paused.items() if np.isfinite(v)} | self.reports.points(trial_id)

    def folds_of(self, trial_id: int) -> str:
        """On how many of the folds a trial was run, "3 of 5"; empty where all are run side by side."""
        return f"{max(self.curve_of(trial_id), default=0)} of {self.folds}" if self.folds else ""

    def trials(
        self,
        ids: Sequence[int],
        params: Sequence[HP],
        seeds: Sequence[int],
        names: tuple[str, ...] | None = None,
        reports: Sequence[Reports | None] | None = None,
    ) -> list[Trial]:
        """The current state of some trials, whose parameters are decoded, as `Trial` objects."""
        rows = np.asarray(ids, np.int64)
        values = self.extra["values"].array[rows] if "values" in self.extra else self.value.array[rows, None]
        several = (self.value, self.state, self.generation, self.attempt, self.horizon)
        columns = zip(*(column.array[rows].tolist() for column in several))
        units, curves, states = self.unit.array[rows], bool(self.curve or len(self.reports)), list(TrialState)
        return [
            Trial(
                number, point, states[state], value, self.reason.get(number, ""), generation, attempt, seed, horizon,
                unit.copy(), Values(each, names), self.curve_of(number) if curves else {},
                self.reports.named(number) if curves else {}, reporting, self.folds_of(number),
                read_notes(self.notes[number]) if number in self.notes else {},
            )
            for number, point, seed, unit, each, reporting, (value, state, generation, attempt, horizon) in zip(
                ids, params, seeds, units, values.tolist(), [None] * len(rows) if reports is None else reports, columns
            )
        ]  # fmt: skip
