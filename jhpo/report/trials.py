"""The data of a study for frames, figures and pages."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, overload

import numpy as np

from jhpo.objectives import Objectives, front
from jhpo.space.space import Space
from jhpo.trial import Trial, TrialState, TrialTable
from jhpo.values.columns import Column, why_nothing


class Call(NamedTuple):
    """A call of `optimize` that ended."""

    evaluations: int  # finished in it
    seconds: float  # wall time
    compile_seconds: float  # the part of it spent tracing and compiling
    ended: float  # seconds since the epoch
    compile_running: float | None = None  # the part of compile_seconds in which some trial was running, if known
    store_seconds: float | None = None  # spent reading and writing the log, if known
    store_running: float | None = None  # the part of store_seconds in which some trial was running, if known


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Trials:
    """The trials of one study as columns, and one by one as a study has them; `Study.trials` makes one."""

    space: Space
    table: TrialTable  # one row per trial
    direction: str  # "minimize" or "maximize"; "several" with several objectives
    header: dict[str, Any]  # the study's first event: seed, strategy, versions
    stops: list[str]  # why the calls of `optimize` ended, in the order of the log
    made: Callable[[Sequence[int]], list[Trial]]  # of ids
    objectives: Objectives | None = None  # None with one objective
    calls: Sequence[Call] = ()  # of `optimize` that ended
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of the study
    # real numbers as users gave them, by trial and dotted name
    exact: Mapping[int, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return self.table.size

    def __iter__(self) -> Iterator[Trial]:
        return (self.made([i])[0] for i in range(len(self)))

    @overload
    def __getitem__(self, at: int) -> Trial: ...
    @overload
    def __getitem__(self, at: slice) -> list[Trial]: ...
    def __getitem__(self, at: int | slice) -> Trial | list[Trial]:
        ids = range(len(self))[at]
        return self.made([ids])[0] if isinstance(ids, int) else self.made(ids)

    def __repr__(self) -> str:
        """How many, and of what."""
        return f"Trials({self.table.size} of {self.space!r}, {', '.join(self.directions)})"

    def still(self) -> Trials:
        """The same trials as they are now, whatever other threads that use the study add to it meanwhile."""
        table, n = copy.copy(self.table), self.table.size
        for name, value in vars(table).items():
            if isinstance(value, Column):
                setattr(table, name, value.copy(n))
            elif isinstance(value, dict):
                several = list(value.items())
                setattr(table, name, {k: v.copy(n) if isinstance(v, Column) else copy.copy(v) for k, v in several})
        table.size, table.reports = n, self.table.reports.copy()
        exact = {i: values for i, values in list(self.exact.items()) if i < n}
        return dataclasses.replace(self, table=table, calls=list(self.calls), exact=exact)

    @property
    def directions(self) -> tuple[str, ...]:
        """The direction of each objective."""
        return (self.direction,) if self.objectives is None else self.objectives.directions

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each objective; "value" with one."""
        return ("value",) if self.objectives is None else self.objectives.labels

    @property
    def sign(self) -> float:
        """+1 to minimise, -1 to maximise."""
        return 1.0 if self.direction == "minimize" else -1.0

    def front(self) -> np.ndarray:
        """``int64[k]``: ids of the feasible trials that no other dominates, sorted by their first value."""
        ids = self.table.successes()
        return np.asarray(ids[front(self.minimised(ids))])

    def why_nothing(self, wanted: str = "", reasons: bool = True) -> str:
        """Why none of the finished trials is a success, see `jhpo.values.columns.why_nothing`.

        Args:
            wanted: what there is not therefore.
            reasons: whether failures are told by the most frequent reason, rather than by an example.
        """
        table = self.table
        done = np.flatnonzero(table.done())
        failed, pruned = (table.state.array[done] == s for s in (TrialState.FAILED, TrialState.PRUNED))
        value, tally, example = np.where(failed, np.nan, table.value.array[done]), None, None
        if failed.any() and reasons:
            tally = Counter(table.reason.get(i, "?") for i in done[failed].tolist())
        elif failed.any():
            example = self.space.decode(table.unit.array[done[failed][0]])
        return why_nothing(value, pruned, len(done), wanted, tally, example)

    def why_beside_failures(self) -> str:
        """`why_nothing` after a colon, where it is not for failures alone, which are told by themselves; else ""."""
        others = self.table.done().sum() - len(self.table.in_state(TrialState.FAILED))
        return f": {self.why_nothing()}" if others else ""

    def minimised(self, ids: np.ndarray) -> np.ndarray:
        """``float64[k, m]``: values of the trials `ids`, with the signs of minimisation."""
        if self.objectives is None or "values" not in self.table.extra:
            count = 1 if self.objectives is None else self.objectives.count
            return np.repeat(self.sign * self.table.value.array[ids, None], count, axis=1)
        return self.objectives.minimised(self.table.extra["values"].array[ids])


def best_so_far(trials: Trials) -> np.ndarray:
    """``float64[trials]``: the best value up to each trial, of those that may be the best; NaN before the first."""
    table, good = trials.table, trials.table.successes()
    best = np.full(table.size, np.inf)
    best[good] = trials.sign * table.value.array[good]
    best = np.minimum.accumulate(best)
    return trials.sign * np.where(np.isinf(best), np.nan, best)


def measured(trials: Trials) -> tuple[np.ndarray, np.ndarray]:
    """Steps at which trainings were measured, ``int64[k]``, and the values there, ``float64[trials, k]``, or NaN."""
    table = trials.table
    curves = [table.curve_of(i) for i in range(table.size)] if len(table.reports) or table.curve else []
    steps = np.asarray(sorted({step for curve in curves for step in curve}), np.int64)
    value = np.full((table.size, len(steps)), np.nan)
    for i, curve in enumerate(curves):
        value[i, np.searchsorted(steps, np.fromiter(curve, np.int64, len(curve)))] = list(curve.values())
    return steps, value
