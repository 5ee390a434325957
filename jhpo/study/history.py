"""The fold over a study's log: events in, trials and closed generations out. Host code, no strategy in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jhpo.errors import StorageError
from jhpo.storage.codec import Event
from jhpo.trial import TrialState, TrialTable

_MAX_ROWS = 2**24  # no generation is larger; a damaged number must not allocate memory
_EXTRAS = ("grad", "constraint", "cost", "variance")


class Closing(NamedTuple):
    """What the strategy is told at the end of a generation."""

    generation: int
    members: np.ndarray  # int64[n], trial of each row; -1 where the row was not handed out
    told: np.ndarray  # bool[n], the row's trial was finished before the generation was closed
    others: np.ndarray  # int64[k], trials of earlier generations or foreign ones told since the last closing


class History:
    """Trials and generations as the log describes them.

    A generation is open from the event that hands out its first member to the one that opens the next; which
    results count for it follows from the order of the log alone, so every reader folds to the same state.

    Args:
        dim: coordinates of a unit row.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.table = TrialTable(dim)
        self.header: dict[str, Any] = {}
        self.notes: list[dict[str, Any]] = []  # stops, layouts, repairs: in log order
        self.layouts: dict[str, Any] = {}  # the last one of each name
        self.exact: dict[int, dict[str, Any]] = {}  # real numbers as users gave them, by trial and dotted name
        self.widths: list[int] = []  # chunk sizes of the population layouts, in log order
        self.opened = 0  # generations begun
        self.members = np.empty(0, np.int64)  # of the open generation: trial of each row, -1 before it is handed out
        self.handed = 0  # rows of the open generation that were handed out
        self.horizon = 1.0  # share of the training its members run
        self.closings: deque[Closing] = deque()
        self.waiting: list[int] = []  # ids in the order in which they are to be handed out
        self.running: set[int] = set()
        self._others: list[np.ndarray] = []
        self._apply: dict[str, Callable[[dict[str, Any]], None]] = {
            "study": self._study, "ask": self._ask, "batch": self._batch, "tell": self._tell,
            "enqueue": self._enqueue, "claim": self._claim, "attach": self._attach, "requeue": self._requeue,
            "layout": self._layout, "stop": self._note, "repair": self._note,
        }  # fmt: skip

    def apply(self, event: Event) -> None:
        """Add one event.

        Raises:
            StorageError: the event contradicts those before it, or is not of a known form.
        """
        try:
            handler = self._apply[event.kind]
        except KeyError as error:
            raise StorageError(f"log row {event.seq}: unknown kind {event.kind!r}") from error
        try:
            handler(event.body)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            message = f"log row {event.seq} ({event.kind}): not as expected ({type(error).__name__}: {error})"
            raise StorageError(message) from error

    def closing(self) -> Closing:
        """What closing the open generation now would tell the strategy (generation -1: before the first)."""
        told = np.zeros(len(self.members), np.bool_)
        there = self.members >= 0
        told[there] = self.table.done()[self.members[there]]
        others = np.concatenate(self._others) if self._others else np.empty(0, np.int64)
        mine = (self.table.generation.array[others] == self.opened - 1) & (self.table.member.array[others] >= 0)
        return Closing(self.opened - 1, self.members.copy(), told, others[~mine])

    def _open(self, rows: int) -> None:
        if not 0 < rows <= _MAX_ROWS:
            raise ValueError(f"a generation of {rows} rows")
        self.closings.append(self.closing())
        self._others = []
        self.opened += 1
        self.handed = 0
        self.members = np.full(rows, -1, np.int64)

    def _hand_out(self, body: dict[str, Any]) -> np.ndarray:
        units = _units(body["units"], self.dim)
        first, generation, member, count = body["id"], body["generation"], body["member"], len(units)
        if first != self.table.size:
            raise ValueError(f"trial {first} where {self.table.size} comes next")
        if generation == self.opened:
            self._open(body["rows"])
        if generation != self.opened - 1 or member != self.handed or member + count > len(self.members):
            raise ValueError(f"members {member}..{member + count - 1} of generation {generation}")
        rows, ids = self.table.add(count), np.arange(first, first + count)
        self.table.unit.array[rows] = units
        self.table.generation.array[rows] = generation
        self.table.member.array[rows] = np.arange(member, member + count)
        self.table.asked.array[rows] = body["time"]
        self.horizon = float(body.get("horizon", 1.0))
        self.table.horizon.array[rows] = self.horizon
        if "streams" in body:
            self.table.stream.array[rows] = body["streams"]
        self.members[member : member + count] = ids
        self.handed += count
        return ids

    def _ask(self, body: dict[str, Any]) -> None:
        ids = self._hand_out(body)
        self.table.state.array[ids] = TrialState.RUNNING
        self.table.worker.update(dict.fromkeys(ids.tolist(), body["worker"]))
        self.running.update(ids.tolist())

    def _batch(self, body: dict[str, Any]) -> None:
        ids = self._hand_out(body)
        self._finish(ids, body["results"], body["end"])

    def _tell(self, body: dict[str, Any]) -> None:
        ids = np.asarray(body["ids"], np.int64)
        states = self.table.state.array[ids]
        if len(set(ids.tolist())) != len(ids) or (ids < 0).any() or (states >= TrialState.COMPLETE).any():
            raise ValueError(f"trials {ids.tolist()[:5]} are told twice")
        self._finish(ids, body["results"], body["time"])

    def _finish(self, ids: np.ndarray, results: dict[str, Any], time: float) -> None:
        table, value = self.table, np.asarray(results["value"], np.float64)
        if value.shape != ids.shape:
            raise ValueError(f"{value.shape} values for {len(ids)} trials")
        good = np.isfinite(value)
        table.value.array[ids] = np.where(good, value, np.nan)
        table.state.array[ids] = np.where(good, TrialState.COMPLETE, TrialState.FAILED)
        table.told.array[ids] = time
        for index, reason in results["reasons"].items():
            table.reason[int(ids[int(index)])] = str(reason)
        for name in _EXTRAS:
            if name in results:
                extra = np.asarray(results[name], np.float64)
                if len(extra) != len(ids):
                    raise ValueError(f"{extra.shape} of {name} for {len(ids)} trials")
                table.set_extra(name, ids, extra)
        if self.running or self.waiting:
            finished = set(ids.tolist())
            self.running -= finished
            self.waiting = [i for i in self.waiting if i not in finished]
            for trial_id in finished:
                table.worker.pop(trial_id, None)
        self._others.append(ids)

    def _add_foreign(self, body: dict[str, Any]) -> np.ndarray:
        units = _units(body["units"], self.dim)
        if body["id"] != self.table.size:
            raise ValueError(f"trial {body['id']} where {self.table.size} comes next")
        rows = self.table.add(len(units))
        self.table.unit.array[rows] = units
        self.table.asked.array[rows] = body["time"]
        self.table.horizon.array[rows] = body.get("horizon", 1.0)
        self.exact.update((rows.start + k, dict(values)) for k, values in enumerate(body.get("exact", ())) if values)
        return np.arange(rows.start, rows.stop)

    def _enqueue(self, body: dict[str, Any]) -> None:
        self.waiting.extend(self._add_foreign(body).tolist())

    def _attach(self, body: dict[str, Any]) -> None:
        self._finish(self._add_foreign(body), body["results"], body["time"])

    def _claim(self, body: dict[str, Any]) -> None:
        for trial_id in body["ids"]:
            self.waiting.remove(trial_id)
            self.running.add(trial_id)
            self.table.worker[trial_id] = body["worker"]
            self.table.state.array[trial_id] = TrialState.RUNNING
            self.table.asked.array[trial_id] = body["time"]

    def _requeue(self, body: dict[str, Any]) -> None:
        for trial_id in body["ids"]:
            self.running.remove(trial_id)
            self.table.worker.pop(trial_id)
            self.table.state.array[trial_id] = TrialState.WAITING
            self.table.attempt.array[trial_id] += 1
            self.table.lost.array[trial_id] += bool(body["lost"])
        # the earliest trials first, so that a resumed search goes through them in their first order
        self.waiting = sorted(self.waiting + list(body["ids"]))

    def _study(self, body: dict[str, Any]) -> None:
        if self.header:
            raise ValueError("a second study in one storage")
        self.header = body

    def _layout(self, body: dict[str, Any]) -> None:
        self.layouts[str(body["name"])] = layout = body["layout"]
        if body["name"] == "population" and isinstance(layout.get("chunk"), int):
            self.widths.append(layout["chunk"])

    def _note(self, body: dict[str, Any]) -> None:
        self.notes.append(body)


def _units(units: Any, dim: int) -> np.ndarray:
    if not isinstance(units, np.ndarray) or units.ndim != 2 or units.shape[1] != dim:
        raise ValueError(f"unit rows of {dim} coordinates, got {getattr(units, 'shape', type(units).__name__)}")
    if not ((units >= 0) & (units <= 1)).all():
        raise ValueError("unit rows outside [0, 1]")
    return units
