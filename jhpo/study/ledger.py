"""Bookkeeping of a study: transactions on the log, its fold, the strategy in step with it, who holds which trial."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import numpy as np

from jhpo.errors import StorageError, check_integer, invalid
from jhpo.process.interrupts import interruptible
from jhpo.search.driver import Driver
from jhpo.storage import Entry, EventLog
from jhpo.storage.worker import worker_name
from jhpo.study import events
from jhpo.study.bodies import body_of
from jhpo.study.events import Append, Event, Results
from jhpo.study.fold import Fold
from jhpo.study.follower import Follower, Mark
from jhpo.study.hands import Hands
from jhpo.study.rows import NextRows, handed, next_rows, points_left

SNAPSHOT_SECONDS = 10.0  # between two snapshots of the strategy's state
EXPIRED = "given up: its worker was lost {} times"


class Ledger:
    """The log, its fold and the strategy of a study; every change goes through `transaction`.

    Args:
        log: the event log.
        entries: its entries so far.
        follower: of the strategy, before the first generation.
        lease: seconds after which a silent worker's trial is handed out again; None for never.
        max_retry: how often a trial is handed out again before it counts as failed.
    """

    def __init__(
        self, log: EventLog, entries: Sequence[Entry], follower: Follower, lease: float | None, max_retry: int
    ) -> None:
        self._max_retry = check_integer("max_retry", max_retry, low=0)
        self._hands = Hands(log, lease)
        self.turns = threading.Lock()  # threads that evaluate whole generations take turns
        self.log, self._follower = log, follower
        self.lock = threading.RLock()
        self.worker = worker_name()
        self.left_behind: dict[int, int] = {}  # trial to attempt: this process gave them up and could not say so
        self._taken: dict[int, int] = {}  # likewise, of the transaction that is open
        self._stale = self._restored = False
        self._measured = False  # whether the strategy knows how many constraints are measured
        self._training: dict[str, Any] = {}  # what a strategy that pauses members was told of the training
        self._snapshot_time, self._snapshot_generation = time.monotonic(), 0
        self.storing = np.zeros(2)  # seconds of reading and writing: while no trial ran, and while some did
        self.history = Fold(follower.space.dim)
        for entry in entries:
            self.history.apply(entry)

    @contextmanager
    def transaction(self) -> Iterator[Append]:
        """Exclusive access to the up-to-date study; yields ``append(event)``. All events are stored, or none."""
        with interruptible(), self.lock:
            if self._hands.after_fork():
                self.worker = worker_name()
            mark, opened, appended = self._follower.mark(), self.history.opened, 0
            self._taken = {}
            begun, others = time.perf_counter(), 0.0  # others: seconds of the caller, the strategy and the fold

            def append(event: Event) -> None:
                nonlocal appended, others
                appended += 1
                body = body_of(event) if self.log.persistent else {}  # a log in memory keeps none
                writing = time.perf_counter()
                entry = self.log.append(event.kind, body)
                others -= time.perf_counter() - writing
                self.history.apply(entry, event)
                self._taken |= handed(self.history.table, event)  # before anything else can end the transaction

            try:
                with self.log.write():
                    self._sync()
                    others -= time.perf_counter()
                    yield append
                    others += time.perf_counter()
                if self.history.opened > opened and time.monotonic() - self._snapshot_time > SNAPSHOT_SECONDS:
                    self.checkpoint()
            except BaseException:
                self._hands.announced = False  # so it may be that nobody was told
                # a server may have stored the transaction and been unable to say so: nobody works on these trials
                self._hands.drop(self._taken)
                self.left_behind.update(self._taken)
                self._follower.step_back(self.history.opened)
                if appended and self.log.persistent:
                    # nothing was stored, or it says what was: the strategy steps back, and the log is folded again
                    self._follower.restore(mark)
                    self._stale = True
                    with suppress(StorageError):  # the first error is raised; reading is tried again later
                        self._sync()
                raise
            self.storing[int(bool(self.history.running))] += time.perf_counter() - begun - others

    def train_for(self, steps: int, members: int | None = None) -> None:
        """Store the length of the training, which a strategy that pauses members lays its rungs out for.

        Args:
            steps: of a whole training.
            members: for how many the strategy makes room, if it asks; fixed once a member was trained.

        Raises:
            InvalidArgument: it was another one when the study began, or is too short for the strategy.
        """
        with self.transaction() as append:
            stored = self.history.layouts.get("training", {})
            if stored.get("steps", steps) != steps:
                raise invalid("steps", f"the {stored['steps']} steps of training with which the study began", steps)
            self._follower.strategy.lasting(steps)
            training = {**stored, "steps": steps}
            if members is not None and not self.history.opened:
                training["members"] = members
            if training != stored:
                append(events.Layout("training", training))

    def measures(self, constraints: int) -> None:
        """Store how many constraints the objective measures, if the strategy learns them and has not begun yet."""
        with self.lock:
            if self._follower.strategy.measuring(constraints) is not self._follower.strategy:
                with self.transaction() as append:
                    if not (self.history.opened or "measured" in self.history.layouts):
                        append(events.Layout("measured", {"constraints": constraints}))
                self._tell_measured()

    def _tell_measured(self) -> None:
        """Tell the strategy how many constraints are measured, once, if that is stored."""
        if (stored := self.history.layouts.get("measured")) is not None and not self._measured:
            self._follower.measures(int(stored["constraints"]))
            self._measured = True

    @property
    def driver(self) -> Driver:
        """What runs the strategy."""
        return self._follower.driver

    def restore(self, mark: Mark) -> None:
        """Put the strategy back to a mark of `Follower.mark`."""
        self._follower.restore(mark)

    def _sync(self) -> None:
        """Apply what other processes appended."""
        history = self.history
        if self._stale:
            self.log.rewind()
            history = Fold(self._follower.space.dim)
        for entry in self.log.read():
            history.apply(entry)
        self.history, self._stale = history, False

    def refresh(self) -> None:
        """Apply what other processes appended since the last call."""
        with self.lock:
            self._sync()

    def follower(self) -> Follower:
        """The strategy, in step with the log; the first call restores the newest snapshot that fits."""
        self._tell_measured()
        training = self.history.layouts.get("training", {})
        if self._follower.strategy.continues and training != self._training:
            self._follower.last(int(training["steps"]), training.get("members"))
            self._training = training
        if not self._restored:
            self._restored = True
            for generation, data in self.log.load_snapshots():
                if generation <= self.history.opened:
                    try:
                        self._follower.resume(generation, data)
                    except StorageError as error:
                        # a snapshot is a cache: the log rebuilds the same state, only later
                        self.history.remarks.append(str(error))
                    else:
                        break
        self._follower.catch_up(self.history)
        return self._follower

    def checkpoint(self) -> None:
        """Store the strategy's state, so that the next start need not replay the log."""
        with self.lock:
            if not self.log.persistent or self.log.read_only or self._stale:
                return
            current = self._follower.generation
            if current and current == self.history.opened and current != self._snapshot_generation:
                self.log.save_snapshot(current, self._follower.snapshot())
                self._snapshot_time, self._snapshot_generation = time.monotonic(), current

    def attend(self, ids: Sequence[int], attended: bool) -> None:
        """Note that this object holds the trials, in the transaction that handed them out.

        Args:
            attended: whether `optimize` monitors them.
        """
        self._hands.take(self.history, ids, attended)

    def runs(self, trial_id: int, attempt: int) -> bool:
        """Whether a trial still runs with whom it was handed to, the given time that it was handed out."""
        with self.lock:
            return trial_id in self.history.running and int(self.history.table.attempt.array[trial_id]) == attempt

    def all_run(self, ids: Sequence[int], attempts: Sequence[int]) -> list[bool]:
        """`runs` of several trials."""
        with self.lock:
            running, now = self.history.running, self.history.table.attempt.array[np.asarray(ids, np.int64)].tolist()
            return [i in running and a == b for i, a, b in zip(ids, attempts, now)]

    def held(self) -> int:
        """Number of trials that are handed out and not finished."""
        with self.lock:
            return len(self.history.running)

    def others(self, mine: Collection[int] = ()) -> int:
        """Number of trials in flight without `mine`; see `Hands.others`."""
        with self.lock:
            return self._hands.others(self.history, mine)

    def close(self) -> None:
        """Checkpoint, release the trials held here, and close the storage."""
        with self.lock, closing(self.log), closing(self._hands):  # also where the disk is full
            self.checkpoint()

    def anything_waits(self) -> bool:
        """Whether there are trials for `claim`."""
        return bool(self.history.waiting or self.left_behind or self._hands.lost(self.history, time.time()))

    def claim(self, append: Append, n: int) -> list[int]:
        """Hand out up to `n` waiting trials: enqueued, or given back (see `give_back_lost`)."""
        ids = self.history.waiting[:n]
        if ids:
            append(events.Claim(ids, self.worker, time.time()))
        return list(ids)

    def give_back_left(self, append: Append) -> None:
        """Return the trials in `left_behind` to the queue, unless other workers hold them by now."""
        # kept until the log says so: this transaction may fail as well
        self.left_behind = self._hands.unclaimed(self.history, self.left_behind, self.worker)
        if self.left_behind:
            self.give_back(append, sorted(self.left_behind), lost=False)

    def give_back_lost(self, append: Append) -> None:
        """Return trials of lost workers to the queue, or fail those that were lost too often."""
        self.give_back_left(append)
        table, now = self.history.table, time.time()
        lost = self._hands.lost(self.history, now)
        again = [i for i in lost if table.lost.array[i] < self._max_retry]
        given_up = [i for i in lost if table.lost.array[i] >= self._max_retry]
        if again:
            self.give_back(append, again, lost=True)
        if given_up:
            reasons = {k: EXPIRED.format(int(table.lost.array[i]) + 1) for k, i in enumerate(given_up)}
            results = Results(np.full(len(given_up), np.nan), reasons)
            append(events.Tell(np.asarray(given_up), results, now))

    def give_back(self, append: Append, ids: Sequence[int], *, lost: bool) -> None:
        """Return running trials to the queue; results from their former workers are refused from now on."""
        self._hands.drop(ids)
        append(events.Requeue(list(ids), lost, time.time()))

    def hand_out(self, append: Append, n: int, some: bool) -> list[int]:
        """Up to `n` new trials of the open generation, or of the next if this one is used up; [] to stop here."""
        rows = self.next_rows(n, some)
        if not len(rows.units):
            return []
        append(
            events.Ask(
                rows.generation, rows.rows, rows.member, rows.id, rows.units,
                self.worker, time.time(), rows.streams, rows.horizon,
            )
        )  # fmt: skip
        return list(range(rows.id, rows.id + len(rows.units)))

    def next_rows(self, n: int, some: bool) -> NextRows:
        """Up to `n` rows to hand out next; opens a generation if need be.

        Args:
            n: how many are wanted.
            some: whether the caller got trials already; a generation with pending results then stays open.

        Raises:
            SpaceExhausted: a finite search has no point left.
        """
        if self._follower.strategy.continues:
            raise invalid(
                "strategy", "one that asks for every trial once (optimize pauses and continues members)",
                type(self._follower.strategy).__name__,
            )  # fmt: skip
        return next_rows(self.follower(), self.history, n, some)

    def points_left(self) -> int | None:
        """Points that a finite search has not handed out yet; None for an infinite one."""
        return points_left(self._follower, self.history)
