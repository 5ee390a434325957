"""The fold over a study's log: events in, trials and closed generations out. Host code, no strategy in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from jhpo.curves import table as curves
from jhpo.errors import StorageError
from jhpo.report.trials import Call
from jhpo.storage.codec import Entry
from jhpo.study import events
from jhpo.study.bodies import body_of, read_event
from jhpo.study.closing import Closing
from jhpo.study.columns import extremes, reach, record, unit_rows
from jhpo.study.events import KINDS, Event, Results
from jhpo.trial import TrialState, TrialTable
from jhpo.values.notes import Notes, read_notes

_MAX_ROWS = 2**24  # no generation is larger; a damaged number must not allocate memory
_COMPLETE = int(TrialState.COMPLETE)
# of a malformed body
_FAULTS = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)


class Fold:
    """Trials and generations as the log describes them.

    A generation is open from the event that hands out its first member to the one that opens the next; which
    results count for it follows from the order of the log alone, so every reader folds to the same state.

    Args:
        dim: coordinates of a unit row.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.table = TrialTable(dim)
        self.header: dict[str, Any] = {}  # the body of the first event
        self.stops: list[str] = []  # why the calls of `optimize` ended, in log order
        self.calls: list[Call] = []  # how long they took
        self.remarks: list[str] = []  # repairs, and snapshots that could not be used
        self.layouts: dict[str, Any] = {}  # the last one of each name
        self.exact: dict[int, dict[str, Any]] = {}  # real numbers as users gave them, by trial and dotted name
        self.notes: Notes = {}  # of the study
        self.widths: list[int] = []  # chunk sizes of the population layouts, in log order
        self.opened = 0  # generations begun
        self.members = np.empty(0, np.int64)  # of the open generation: trial of each row, -1 before it is handed out
        self.handed = 0  # rows of the open generation that were handed out
        self.horizon = 1.0  # share of the training its members run
        self.step: Any = 0  # at which their training was paused; 0 where it was not; int64[n], one a row
        self.thawed = np.empty(0, np.int64)  # trials of the members that are frozen and thawed, as they began
        self.thawed_parts = 0  # that they were trained
        self.closings: deque[Closing] = deque()
        self.waiting: list[int] = []  # ids in the order in which they are to be handed out
        self.running: set[int] = set()
        self.finished = 0  # trials that were told, failed ones included
        self._extremes = {1.0: np.nan, -1.0: np.nan}  # see `lowest`
        self._others: list[np.ndarray] = []
        self._added: list[int] = []  # foreign trials since the last closing
        self._apply: dict[type[Event], Callable[[Any], None]] = {
            events.Begin: self._begin, events.Ask: self._ask, events.Batch: self._batch, events.Tell: self._tell,
            events.Enqueue: self._enqueue, events.Claim: self._claim, events.Attach: self._attach,
            events.Requeue: self._requeue, events.Layout: self._layout, events.Stop: self._stop,
            events.Repair: self._repair, events.Rung: self._rung, events.Report: self._report,
            events.Thaw: self._thaw, events.Note: self._note,
        }  # fmt: skip

    def apply(self, entry: Entry, event: Event | None = None) -> None:
        """Add one event.

        Args:
            entry: the stored event.
            event: the decoded event; None reads it from `entry`.

        Raises:
            StorageError: the event contradicts those before it, or is not of a known form.
        """
        if entry.kind not in KINDS:
            raise StorageError(f"log row {entry.seq}: unknown kind {entry.kind!r}; upgrade jhpo to read it")
        try:
            event = read_event(entry) if event is None else event
            self._apply[type(event)](event)
        except _FAULTS as error:
            message = f"log row {entry.seq} ({entry.kind}): not as expected ({type(error).__name__}: {error})"
            raise StorageError(message) from error

    def closing(self) -> Closing:
        """What closing the open generation now would tell the strategy (generation -1: before the first)."""
        told = np.zeros(len(self.members), np.bool_)
        there = self.members >= 0
        told[there] = self.table.done(self.members[there])
        others = np.concatenate(self._others) if self._others else np.empty(0, np.int64)
        mine = (self.table.generation.array[others] == self.opened - 1) & (self.table.member.array[others] >= 0)
        added = np.asarray(self._added, np.int64)
        expected = added[~self.table.done(added)]
        return Closing(self.opened - 1, self.members.copy(), told, others[~mine], expected, self.step)

    def lowest(self, sign: float) -> float:
        """Lowest ``sign * value`` of the feasible trials at full horizon, NaN if there is none."""
        return self._extremes[sign]

    def _open(self, rows: int) -> None:
        if not 0 < rows <= _MAX_ROWS:
            raise ValueError(f"a generation of {rows} rows")
        self.closings.append(self.closing())
        self._others, self._added = [], []
        self.opened += 1
        self.handed = self.step = 0
        self.members = np.full(rows, -1, np.int64)

    def _hand_out(self, rows: events.Ask | events.Batch) -> np.ndarray:
        """Add new trials to the open generation, or open the next with them; returns their ids."""
        units, member, count = unit_rows(rows.units, self.dim), rows.member, len(rows.units)
        if rows.id != self.table.size:
            raise ValueError(f"trial {rows.id} where {self.table.size} comes next")
        if rows.generation == self.opened:
            self._open(rows.rows)
        if rows.generation != self.opened - 1 or member != self.handed or member + count > len(self.members):
            raise ValueError(f"members {member}..{member + count - 1} of generation {rows.generation}")
        at, ids = self.table.add(count), np.arange(rows.id, rows.id + count)
        self.table.unit.array[at] = units
        self.table.generation.array[at] = rows.generation
        self.table.member.array[at] = np.arange(member, member + count)
        self.table.asked.array[at] = rows.time
        self.table.horizon.array[at] = self.horizon = float(rows.horizon)
        if rows.streams is not None:
            self.table.stream.array[at] = rows.streams
        self.members[member : member + count] = ids
        self.handed += count
        return ids

    def _ask(self, event: events.Ask) -> None:
        ids = self._hand_out(event)
        self.table.state.array[ids] = TrialState.RUNNING
        self.table.worker.update(dict.fromkeys(ids.tolist(), event.worker))
        self.running.update(ids.tolist())

    def _batch(self, event: events.Batch) -> None:
        ids = self._hand_out(event)
        self._finish(ids, event.results, event.end)
        if event.widths is not None:
            self._pause(ids, event)
        if event.evolve:
            self.table.take_over(ids, self.step, ids)

    def _rung(self, event: events.Rung) -> None:
        ids = np.asarray(event.ids, np.int64)
        if event.generation != self.opened or len(ids) > event.rows or len(set(ids.tolist())) < len(ids):
            raise ValueError(f"{len(ids)} members of generation {event.generation} where {self.opened} comes next")
        sources = ids if event.sources is None else np.asarray(event.sources, np.int64)
        good = self.table.state.array[sources] == _COMPLETE
        if not (np.isin([*ids, *sources], self.members).all() and good.all()):
            raise ValueError("members that were not in the generation before, or failed there")
        self._open(event.rows)
        if event.units is not None:
            self.table.unit.array[ids] = unit_rows(event.units, self.dim)
            for trial_id in ids.tolist():
                self.table.reason.pop(trial_id, None)  # of a failure that was replaced
        self.members[: len(ids)] = ids
        self.handed = len(ids)
        self.table.horizon.array[ids] = self.horizon = float(event.horizon)
        self._record(ids, event.results, event.end)
        self._pause(ids, event)
        if event.sources is not None:
            self.table.take_over(ids, self.step, sources)

    def _thaw(self, event: events.Thaw) -> None:
        units, ids = unit_rows(event.units, self.dim), np.asarray(event.ids, np.int64)
        rows, new = np.flatnonzero(ids >= 0), np.arange(event.id, event.id + len(units))
        trained, steps = ids[rows], np.asarray(event.steps, np.int64)
        old = trained[trained < event.id]
        if event.generation != self.opened or event.id != self.table.size or len(steps) != len(rows):
            raise ValueError(f"generation {event.generation} where {self.opened} comes next")
        if not np.array_equal(np.sort(trained[trained >= event.id]), new) or not np.isin(old, self.thawed).all():
            raise ValueError("members that never began")
        self._open(len(ids))
        at = self.table.add(len(units))
        self.table.unit.array[at] = units
        self.table.generation.array[at], self.table.asked.array[at] = event.generation, event.time
        numbers = len(self.thawed) + np.arange(len(units))
        self.table.stream.array[at] = np.where(numbers == new, -1, numbers)
        self.thawed = np.concatenate([self.thawed, new])
        self.thawed_parts += len(rows)
        self.members, self.handed = ids, len(ids)
        self.table.member.array[trained] = rows
        self.table.horizon.array[trained] = steps / event.length
        self._record(trained, event.results, event.end)
        self.finished += len(new)
        for step in np.unique(steps).tolist():
            reach(self.table, trained, step, event.results, np.full(len(trained), len(ids)), steps == step)
        self.horizon, self.step = 1.0, np.zeros(len(ids), np.int64)
        self.step[rows] = steps

    def _pause(self, ids: np.ndarray, event: events.Batch | events.Rung) -> None:
        """The members of the open generation were paused at a step."""
        self.step = int(event.step)
        reach(self.table, ids, self.step, event.results, np.asarray(event.widths, np.int64))

    def _report(self, event: events.Report) -> None:
        if event.id not in self.running:
            raise ValueError(f"trial {event.id} reports, but does not run")
        self.table.reports.add(event.id, curves.Report(event.step, event.value, event.more))

    def _note(self, event: events.Note) -> None:
        if not -1 <= event.id < self.table.size:
            raise ValueError(f"a note of trial {event.id}")
        read_notes(event.notes)  # raises where it cannot be read
        (self.notes if event.id < 0 else self.table.notes.setdefault(event.id, {})).update(event.notes)

    def _tell(self, event: events.Tell) -> None:
        ids = np.asarray(event.ids, np.int64)
        told, states = ids.tolist(), self.table.state.array[ids].tolist()
        if len(set(told)) != len(told) or min(told, default=0) < 0 or max(states, default=0) >= _COMPLETE:
            raise ValueError(f"trials {told[:5]} are told twice")
        self._finish(ids, event.results, event.time)

    def _record(self, ids: np.ndarray, results: Results, time: float) -> None:
        record(self.table, ids, results, time)
        self._compare(ids)

    def _finish(self, ids: np.ndarray, results: Results, time: float) -> None:
        """Trials that were not told before are."""
        self._record(ids, results, time)
        self.finished += len(ids)
        if self.running or self.waiting:
            finished = set(ids.tolist())
            if early := finished - self.running:  # otherwise none waits: a long queue is not copied for each result
                self.waiting = [i for i in self.waiting if i not in early]
            for trial_id in finished:
                self.table.worker.pop(trial_id, None)
            self.running -= finished
        self._others.append(ids)

    def _compare(self, ids: np.ndarray) -> None:
        """Update the extremes with trials that were told."""
        found = extremes(self.table, ids)
        if found is not None:
            for sign, lowest in ((1.0, found[0]), (-1.0, -found[1])):
                self._extremes[sign] = float(np.fmin(self._extremes[sign], lowest))

    def _add_foreign(self, event: events.Enqueue | events.Attach) -> np.ndarray:
        units = unit_rows(event.units, self.dim)
        if event.id != self.table.size:
            raise ValueError(f"trial {event.id} where {self.table.size} comes next")
        rows = self.table.add(len(units))
        self.table.unit.array[rows] = units
        self.table.asked.array[rows] = event.time
        self.table.horizon.array[rows] = event.horizon
        self.exact.update((rows.start + k, dict(values)) for k, values in enumerate(event.exact) if values)
        return np.arange(rows.start, rows.stop)

    def _enqueue(self, event: events.Enqueue) -> None:
        ids = self._add_foreign(event).tolist()
        self.waiting.extend(ids)
        self._added.extend(ids)

    def _attach(self, event: events.Attach) -> None:
        self._finish(self._add_foreign(event), event.results, event.time)

    def _claim(self, event: events.Claim) -> None:
        for trial_id in event.ids:
            self.waiting.remove(trial_id)
            self.running.add(trial_id)
            self.table.worker[trial_id] = event.worker
            self.table.state.array[trial_id] = TrialState.RUNNING
            self.table.asked.array[trial_id] = event.time

    def _requeue(self, event: events.Requeue) -> None:
        for trial_id in event.ids:
            self.running.remove(trial_id)
            self.table.worker.pop(trial_id)
            self.table.state.array[trial_id] = TrialState.WAITING
            self.table.attempt.array[trial_id] += 1
            self.table.lost.array[trial_id] += bool(event.lost)
            self.table.reports.drop(trial_id)  # it begins anew
        # the earliest trials first, so that a resumed search goes through them in their first order
        self.waiting = sorted(self.waiting + list(event.ids))

    def _begin(self, event: events.Begin) -> None:
        if self.header:
            raise ValueError("a second study in one storage")
        self.header, self.table.folds = body_of(event), event.folds if event.fold_by_fold else 0
        self.table.reports.sign = -1.0 if (event.directions or [event.direction])[0] == "maximize" else 1.0

    def _layout(self, event: events.Layout) -> None:
        self.layouts[str(event.name)] = event.layout
        if event.name == "population" and isinstance(event.layout.get("chunk"), int):
            self.widths.append(event.layout["chunk"])

    def _stop(self, event: events.Stop) -> None:
        self.stops.append(str(event.stopped))
        spent = (event.seconds, event.compile_seconds, event.time, event.compile_running)
        self.calls.append(Call(int(event.evaluations), *spent, event.store_seconds, event.store_running))

    def _repair(self, event: events.Repair) -> None:
        self.remarks.append(str(event.text))
