"""Host functions in `Study.optimize`: workers are kept busy, and results are stored as they come."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence

import numpy as np

from jhpo.errors import SpaceExhausted, invalid
from jhpo.evaluation.executors import HostObjective
from jhpo.evaluation.executors.generations import check_request
from jhpo.evaluation.executors.tasks import Pool, Task
from jhpo.search.stopping import StopRules
from jhpo.strategies.blind import learns
from jhpo.study.batch import give_back
from jhpo.study.book import Book
from jhpo.study.fold import Fold
from jhpo.study.found import Handed
from jhpo.study.referee import Referee
from jhpo.study.watch import POLL_SECONDS, Watch
from jhpo.trial import Trial

_AHEAD_SECONDS = 0.02  # of evaluations that wait for a worker, where nothing speaks against it
_MOST_AHEAD = 256


def on_host(study: Book, objective: HostObjective, watch: Watch, referee: Referee) -> str:
    """Keep the workers busy until a stop rule holds; returns why.

    Raises:
        SpaceExhausted: a finite search has no point left.
        InvalidArgument: replicates or folds.
    """
    for name in ("replicates", "folds"):
        if getattr(study, name) != 1:
            raise invalid(name, "1 with a host objective", getattr(study, name))
    pool, reports = objective.pool(study.space), objective.roles.trial
    ahead = _Ahead(pool.workers if unnoticed(study, watch) and not reports else 0)
    hands = _Hands(study, pool, watch, referee if reports else None, ahead)
    try:
        while True:
            hands.fill()
            if not hands.held:  # other workers hold the rest, or did when it was looked for
                stopped = watch.wait()
            elif told := hands.tell():
                stopped = watch.check(_ended(study.history, told))
            else:
                stopped = watch.check_time()
            if stopped is not None:
                return stopped
    finally:
        pool.close()
        if hands.held:
            # interrupted trials return to the queue; a resumed study begins with them
            give_back(study, hands.held)


def _ended(history: Fold, told: Sequence[int]) -> bool:
    """Whether a generation ended with trials that were told: none of it runs, waits or is still to be handed out."""
    generation = history.table.generation.array
    left = {-1, *generation[np.asarray([*history.running, *history.waiting], np.int64)].tolist()}
    if history.handed < len(history.members):
        left.add(history.opened - 1)
    return not left.issuperset(generation[np.asarray(told, np.int64)].tolist())


def unnoticed(study: Book, watch: Watch) -> bool:
    """Whether nothing depends on when trials are handed out and told: no strategy, stop rule or callback of the user.

    Only the budget and the time may end the search; other rules would hold a few trials later than one by one.
    """
    rules = watch.rules
    others = StopRules(evaluations=rules.evaluations, seconds=rules.seconds)
    return not learns(study.strategy) and rules == others and not watch.heard


class _Ahead:
    """How many trials are handed out beyond the workers, so that quick ones are stored in groups.

    As many as are evaluated within `_AHEAD_SECONDS`, if they take as long as the last ones: whoever waits for one of
    them hardly waits longer.

    Args:
        workers: that evaluate at once; 0 for no trials ahead.
    """

    def __init__(self, workers: int) -> None:
        self.count, self._workers = 0, workers

    def ended(self, tasks: Sequence[Task]) -> None:
        """Some evaluations have ended."""
        if self._workers:
            each = sum(task.seconds for task in tasks) / len(tasks)
            self.count = min(int(self._workers * _AHEAD_SECONDS / max(each, 1e-9)), _MOST_AHEAD)


class _Hands:
    """The trials that are evaluated here.

    Args:
        study: whose trials they are.
        pool: evaluates them.
        watch: knows the budget.
        referee: of the reports, if the function makes any.
        ahead: trials beyond the workers.
    """

    def __init__(self, study: Book, pool: Pool, watch: Watch, referee: Referee | None, ahead: _Ahead) -> None:
        self.held: dict[int, int] = {}  # trials to their attempts
        self._tasks: dict[Task, Trial | Handed] = {}
        self._study, self._pool, self._watch, self._referee, self._ahead = study, pool, watch, referee, ahead
        self._ended: deque[Task] = deque()
        self._enough = 1  # evaluations that have ended are worth waking for
        self._bell = threading.Lock()  # held until there are
        self._bell.acquire()

    def fill(self) -> None:
        """Submit trials: a steady strategy fills every free worker, a generational one waits for its generation.

        Raises:
            SpaceExhausted: a finite search has no point left.
        """
        study, held, workers = self._study, self.held, self._pool.workers
        free = workers - len(held) if study.strategy.steady else (0 if held else study.strategy.population)
        room = free + self._ahead.count
        if free < 1 and (study.history.waiting or 2 * room < workers + self._ahead.count):
            return  # at least half of them at once

        def allowed() -> int:
            # what a lost worker had may have been its end, and not that of its neighbours: one by one again
            some = max(free, 0) if study.history.waiting else room
            left = self._watch.left(held)
            return some if left is None else min(some, left - len(held))

        trials: Sequence[Trial | Handed]
        try:
            if self._referee is None:
                trials = study.take_plain(room, allowed, held)
            else:
                trials = study.take(room, allowed, self._referee, attended=True, held=held)
        except SpaceExhausted:
            if not held and not study.ledger.others():
                raise
            return
        check_request(study.ledger.follower().request)
        for trial in trials:
            task = self._pool.submit(trial.params, trial.seed, trial if isinstance(trial, Trial) else None)
            self._tasks[task] = trial
            task.call(self._hear)

    def _hear(self, task: Task) -> None:
        """An evaluation has ended, says its thread: where trials are handed out ahead, only groups wake who stores."""
        self._ended.append(task)
        if len(self._ended) >= self._enough and self._bell.locked():
            with contextlib.suppress(RuntimeError):  # another thread was first
                self._bell.release()

    def tell(self) -> list[int]:
        """Store the results that have come; the trials that were told, none if none came for a while."""
        ahead = self._ahead.count
        self._enough = max(min((self._pool.workers + ahead) // 2, len(self._tasks)), 1) if ahead else 1
        if len(self._ended) < self._enough:
            self._bell.acquire(timeout=_AHEAD_SECONDS if ahead else POLL_SECONDS)
        done = [self._ended.popleft() for _ in range(len(self._ended))]
        if not done:
            return []
        self._study.tell_outcomes([self._tasks[task] for task in done], [task.result() for task in done])
        told = [self._tasks.pop(task).id for task in done]
        for trial_id in told:  # stored by now; else they would go back to the queue
            del self.held[trial_id]
        self._ahead.ended(done)
        return told
