"""Ownership of running trials by workers, and whether those workers are alive."""

from __future__ import annotations

import numbers
import os
import time
import weakref
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from jhpo.errors import invalid
from jhpo.storage import EventLog
from jhpo.storage.worker import is_dead, on_this_host, worker_name
from jhpo.study.fold import Fold
from jhpo.study.pulse import MISSED, Pulse, beat_seconds

_OPEN: weakref.WeakSet[Hands] = weakref.WeakSet()  # of this process


class Hands:
    """The running trials of one open study object, and its view of those of other workers.

    A trial belongs to its worker as long as that is alive: the study object that handed it out is open in this process,
    or the worker's process runs on this machine and has not closed the study, or its heartbeat arrives from another
    machine. A trial is lost at once if its process on this machine has ended, and after the lease if nothing is known
    of its worker.

    Args:
        log: for heartbeats.
        lease: seconds, or None to wait for silent workers without limit.
    """

    def __init__(self, log: EventLog, lease: float | None) -> None:
        number = isinstance(lease, numbers.Real) and not isinstance(lease, bool)
        if lease is not None and not (number and lease > 0):
            raise invalid("lease", "seconds > 0 or None", lease)
        self._log, self._lease = log, lease
        self._begin()

    def _begin(self) -> None:
        self.pid, self.process = os.getpid(), worker_name()
        self._mine: dict[int, int] = {}  # trial to the attempt that was handed out by this object
        self._attended: set[int] = set()  # those of `_mine` that a running `optimize` watches over
        self._pulse: Pulse | None = None
        self._history: Fold | None = None  # as it was seen last
        self.announced = False
        if self._log.persistent:
            _OPEN.add(self)

    def after_fork(self) -> bool:
        """Whether this is a forked child of the process that opened the study; it starts without trials."""
        if os.getpid() == self.pid:
            return False
        self._begin()
        return True

    def take(self, history: Fold, ids: Sequence[int], attended: bool) -> None:
        """Adds trials that were just handed out; called within the same transaction."""
        self._history, running = history, history.running
        known = [*self._mine, *ids]
        attempts = history.table.attempt.array[np.asarray(known, np.int64)].tolist()
        before = [*self._mine.values(), *attempts[len(self._mine) :]]
        self._mine = {i: a for i, a, was in zip(known, attempts, before) if i in running and a == was}
        self._attended.intersection_update(self._mine)
        self._attended.difference_update(ids)
        if attended:
            self._attended.update(ids)
        if ids and self._log.persistent:
            seconds = beat_seconds(self._lease)
            if not self.announced:
                self._log.announce(self.process, seconds)
                self.announced = True
            if seconds and self._pulse is None:
                self._pulse = Pulse(self, self._log, self.process, seconds)

    def unclaimed(self, history: Fold, attempts: Mapping[int, int], worker: str) -> dict[int, int]:
        """Of trials and their attempts, those that run under this worker's name and in no other object's hands."""
        attempt, peers = history.table.attempt.array, self._peers()
        return {
            i: a
            for i, a in attempts.items()
            if i in history.running and attempt[i] == a and history.table.worker[i] == worker
            and not any(h._is_mine(history, i) for h in peers)
        }  # fmt: skip

    def drop(self, ids: Collection[int]) -> None:
        """Removes trials that were told or given back."""
        for i in ids:
            self._mine.pop(i, None)
            self._attended.discard(i)

    def holding(self) -> bool:
        """Whether any trial is running here."""
        return self._history is not None and any(i in self._history.running for i in tuple(self._mine))

    def lost(self, history: Fold, now: float) -> list[int]:
        """Running trials whose worker is lost: its process has ended, or it is silent and its lease has expired."""
        if not history.running:
            return []
        table, seen, peers = history.table, self._seen(history, now), self._peers()
        overdue = float("inf") if self._lease is None else self._lease

        def lost(i: int) -> bool:
            if self._held_here(history, i, peers):
                return False
            life = seen[table.worker[i]]
            return life is None or max(float(table.asked.array[i]), life[0]) + max(overdue, life[1]) < now

        return [i for i in sorted(history.running) if lost(i)]

    def others(self, history: Fold, mine: Collection[int]) -> int:
        """Number of trials that run elsewhere: with living workers, or in another `optimize` of this object.

        Trials from `ask` of this object do not count, as they may never be told.
        """
        there = history.running - set(mine)
        if not there:
            return 0
        now, count, peers = time.time(), 0, self._peers()
        seen, lost = self._seen(history, now), set(self.lost(history, now))
        for i in there - lost:
            if self._is_mine(history, i):
                count += i in self._attended
            else:
                life = seen[history.table.worker[i]]
                count += self._held_here(history, i, peers) or (life is not None and life[0] > 0)
        return count

    def _seen(self, history: Fold, now: float) -> dict[str, tuple[float, float] | None]:
        """By worker, time of the last sign of life (0 for none) and allowed silence in seconds; None if it is dead."""
        workers = {history.table.worker[i] for i in history.running}
        foreign = workers - {self.process}
        pulses = self._log.pulses() if foreign and self._log.persistent else {}

        def look(worker: str) -> tuple[float, float] | None:
            if worker == self.process:
                return 0.0, 0.0
            if is_dead(worker):
                return None
            beat, period = pulses.get(worker, (0.0, 0.0))
            return (now if beat and on_this_host(worker) else beat), MISSED * period

        return {worker: look(worker) for worker in workers}

    def _is_mine(self, history: Fold, trial_id: int) -> bool:
        return self._mine.get(trial_id) == int(history.table.attempt.array[trial_id])

    def _peers(self) -> list[Hands]:
        """Other open study objects of this process with the same storage."""
        same = (h for h in list(_OPEN) if h is not self and h.pid == self.pid)
        return [h for h in same if h._log.identity == self._log.identity]

    def _held_here(self, history: Fold, trial_id: int, peers: Sequence[Hands]) -> bool:
        """Whether the trial belongs to this object or to another one of this process."""
        if self._is_mine(history, trial_id):
            return True
        if history.table.worker[trial_id] != self.process:
            return False
        return any(h._is_mine(history, trial_id) for h in peers)

    def close(self) -> None:
        """Gives up all trials and unregisters the worker."""
        _OPEN.discard(self)
        if self._pulse is not None:
            self._pulse.stop()
        if self.announced and not self._peers() and not self._log.read_only:
            self._log.withdraw(self.process)
        self._mine, self._attended, self.announced = {}, set(), False
