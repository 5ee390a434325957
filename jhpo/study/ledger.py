"""The study's bookkeeping: transactions on the log, its fold, the strategy in step with it, who gets which trial."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jhpo.errors import SpaceExhausted, StorageError, check_integer
from jhpo.search.stopping import exhausted
from jhpo.storage.worker import worker_name
from jhpo.study.hands import Hands
from jhpo.study.history import History
from jhpo.study.searcher import Searcher

SNAPSHOT_SECONDS = 10.0  # between two snapshots of the strategy's state
EXPIRED = "given up: its worker was lost {} times"

Append = Callable[[str, dict[str, Any]], None]


class Ledger:
    """Everything that changes a study goes through `transaction`.

    Args:
        log: where the events are.
        events: those read so far, from the first on.
        searcher: the strategy, at its beginning.
        lease: seconds after which a silent worker's trial is handed out again; None for never.
        max_retry: how often a trial is handed out again before it counts as failed.
    """

    def __init__(
        self, log: Any, events: Sequence[Any], searcher: Searcher, lease: float | None, max_retry: int
    ) -> None:
        self._max_retry = check_integer("max_retry", max_retry, low=0)
        self._hands = Hands(log, lease)
        self.turns = threading.Lock()  # threads that evaluate whole generations take turns
        self.log, self._searcher = log, searcher
        self.lock = threading.RLock()
        self.worker = worker_name()
        self._stale = False
        self._restored = False
        self._snapshot_time = time.monotonic()
        self._snapshot_generation = 0
        self.history = History(searcher.space.dim)
        for event in events:
            self.history.apply(event)

    @contextmanager
    def transaction(self) -> Iterator[Append]:
        """Exclusive access to the up-to-date study; yields ``append(kind, body)``. All of it happens, or none."""
        with self.lock:
            if self._hands.after_fork():
                self.worker = worker_name()
            mark, opened, appended = self._searcher.mark(), self.history.opened, 0

            def append(kind: str, body: dict[str, Any]) -> None:
                nonlocal appended
                appended += 1
                self.history.apply(self.log.append(kind, body))

            try:
                with self.log.write():
                    self._sync()
                    yield append
            except BaseException:
                self._hands.announced = False  # so it may be that nobody was told
                if appended and self.log.persistent:
                    # what was planned never happened: the strategy steps back, the columns are read anew
                    self._searcher.restore(mark)
                    self._stale = True
                raise
            if self.history.opened > opened and time.monotonic() - self._snapshot_time > SNAPSHOT_SECONDS:
                self.checkpoint()

    def restore(self, mark: Any) -> None:
        """Put the strategy back to a mark of `Searcher.mark`."""
        self._searcher.restore(mark)

    def _sync(self) -> None:
        """Apply what other processes appended."""
        if self._stale:
            self.log.rewind()
            self.history = History(self._searcher.space.dim)
            self._stale = False
        for event in self.log.read():
            self.history.apply(event)

    def refresh(self) -> None:
        """See what other processes have done since."""
        with self.lock:
            self._sync()

    def searcher(self) -> Searcher:
        """The strategy, in step with the log; the first call restores the newest snapshot that fits."""
        if not self._restored:
            self._restored = True
            for generation, data in self.log.load_snapshots():
                if generation <= self.history.opened:
                    try:
                        self._searcher.resume(generation, data)
                    except StorageError as error:
                        # a snapshot is a cache: the log rebuilds the same state, only later
                        self.history.notes.append({"note": str(error)})
                    else:
                        break
        self._searcher.catch_up(self.history)
        return self._searcher

    def checkpoint(self) -> None:
        """Store the strategy's state, so that the next start need not fold the log."""
        with self.lock:
            if not self.log.persistent or self.log.read_only or self._stale:
                return
            current = self._searcher.generation
            if current and current == self.history.opened and current != self._snapshot_generation:
                self.log.save_snapshot(current, self._searcher.snapshot())
                self._snapshot_time, self._snapshot_generation = time.monotonic(), current

    def attend(self, ids: Sequence[int], attended: bool) -> None:
        """Note, in the transaction that handed them out, that trials are in this object's hands.

        Args:
            attended: `optimize` watches over them.
        """
        self._hands.take(self.history, ids, attended)

    def held(self) -> int:
        """Trials that are handed out and not finished."""
        with self.lock:
            return len(self.history.running)

    def others(self, mine: Collection[int] = ()) -> int:
        """Trials in flight elsewhere, beside `mine`; see `Hands.others`."""
        with self.lock:
            return self._hands.others(self.history, mine)

    def close(self) -> None:
        """Checkpoint, let go of what was handed out, and release the storage."""
        with self.lock:
            self.checkpoint()
            self._hands.close()
            self.log.close()

    def anything_waits(self) -> bool:
        """There are trials for `claim`."""
        return bool(self.history.waiting or self._hands.lost(self.history, time.time()))

    def claim(self, append: Append, n: int) -> list[int]:
        """Trials that wait: enqueued, or given back (see `give_back_lost`)."""
        ids = self.history.waiting[:n]
        if ids:
            append("claim", {"ids": ids, "worker": self.worker, "time": time.time()})
        return list(ids)

    def give_back_lost(self, append: Append) -> None:
        """Trials of lost workers return to the queue, or fail when that happened too often."""
        table, now = self.history.table, time.time()
        lost = self._hands.lost(self.history, now)
        again = [i for i in lost if table.lost.array[i] < self._max_retry]
        given_up = [i for i in lost if table.lost.array[i] >= self._max_retry]
        if again:
            self.give_back(append, again, lost=True)
        if given_up:
            reasons = {k: EXPIRED.format(int(table.lost.array[i]) + 1) for k, i in enumerate(given_up)}
            results = {"value": np.full(len(given_up), np.nan), "reasons": reasons}
            append("tell", {"ids": np.asarray(given_up), "results": results, "time": now})

    def give_back(self, append: Append, ids: Sequence[int], *, lost: bool) -> None:
        """Running trials return to the queue; results from those who had them are refused from now on."""
        self._hands.drop(ids)
        append("requeue", {"ids": list(ids), "lost": lost, "time": time.time()})

    def hand_out(self, append: Append, n: int, some: bool) -> list[int]:
        """Up to `n` new trials of the open generation, or of the next if this one is used up; [] to stop here."""
        generation, units, member, count = self.next_rows(n, some)
        if not count:
            return []
        first = self.history.table.size
        body = {
            "generation": generation, "rows": len(units), "member": member, "id": first,
            "units": units[member : member + count], "worker": self.worker, "time": time.time(),
        }  # fmt: skip
        append("ask", body | self.evaluation_note(first, member, count))
        return list(range(first, first + count))

    def evaluation_note(self, first: int, member: int, count: int) -> dict[str, Any]:
        """What an event says of how its rows are evaluated: horizon and streams, where they are not the usual ones."""
        searcher, note = self._searcher, dict[str, Any]()
        # ids of the generation's rows, had all of them been handed out in one go
        ids = np.arange(len(searcher.units)) + (first - member)
        streams = searcher.evaluation_ids(np.maximum(ids, 0))[member : member + count]
        if not np.array_equal(streams, first + np.arange(count)):
            note["streams"] = streams  # a strategy that fixes its members' randomness
        if searcher.request.horizon != 1.0:
            note["horizon"] = searcher.request.horizon
        return note

    def next_rows(self, n: int, some: bool) -> tuple[int, np.ndarray, int, int]:
        """``(generation, its units, first row, number of rows)`` to hand out next; opens a generation if need be."""
        history, searcher = self.history, self.searcher()
        limit = self._searcher.strategy.max_evaluations(self._searcher.space)
        asked = int((history.table.generation.array >= 0).sum()) if limit is not None else 0
        left = n if limit is None else min(n, limit - asked)
        if limit is not None and left <= 0:
            if not some:
                raise SpaceExhausted(exhausted(limit))
            return history.opened, searcher.units, 0, 0
        if history.handed < len(history.members):
            return history.opened - 1, searcher.units, history.handed, min(left, len(history.members) - history.handed)
        # with its results still out, a generation is closed only for a caller who would get nothing otherwise
        if some and not self._searcher.strategy.steady and not history.closing().told.all():
            return history.opened, searcher.units, 0, 0
        units = searcher.open(history)
        return history.opened, units, 0, min(left, len(units))
