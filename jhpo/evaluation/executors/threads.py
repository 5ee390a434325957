"""A pool of threads, for objectives that wait or release the GIL."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from jhpo.evaluation.executors.limits import repeated
from jhpo.evaluation.executors.tasks import Call, Task, call
from jhpo.evaluation.outcome import Outcome, failure
from jhpo.process.switches import as_in_this_thread
from jhpo.trial import Trial
from jhpo.values.pytrees import HP


class ThreadPool:
    """Daemon threads; a thread whose evaluation times out is abandoned and replaced."""

    def __init__(self, fn: Callable[..., Any], how: Call, workers: int, timeout: float | None) -> None:
        self.workers, self._fn, self._how, self._timeout = workers, fn, how, timeout
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._running: set[Task] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._worker = as_in_this_thread(self._work)
        for _ in range(workers):
            self._start(self._worker)
        if timeout is not None:
            self._start(self._watch)

    def _start(self, target: Callable[[], None]) -> None:
        threading.Thread(target=target, name="jhpo-worker", daemon=True).start()

    def submit(self, params: HP, seed: int, trial: Trial | None = None) -> Task:
        """Start an evaluation as soon as a thread is free."""
        task = Task(params, seed, trial)
        self._queue.put(task)
        return task

    def _work(self) -> None:
        once = self._evaluated if self._timeout is None else self._watched
        while (task := self._queue.get()) is not None and not self._closed.is_set():
            outcome = once(task)
            if outcome.reason and self._how.retries:
                outcome = repeated(outcome, functools.partial(once, task), self._how.retries, task.done)
            if not task.finish(outcome):
                return  # timed out: another thread has replaced this one

    def _evaluated(self, task: Task) -> Outcome:
        task.started = time.monotonic()
        return call(self._fn, self._how, task.params, task.seed, task.trial)

    def _watched(self, task: Task) -> Outcome:
        """The same, under the eyes of `_watch`."""
        with self._lock:
            self._running.add(task)
        outcome = self._evaluated(task)
        with self._lock:
            self._running.discard(task)
        return outcome

    def _watch(self) -> None:
        """Fail tasks that take too long."""
        assert self._timeout is not None
        while not self._closed.wait(min(0.05, self._timeout / 4)):
            now = time.monotonic()
            with self._lock:
                late = [t for t in self._running if t.started is not None and now - t.started > self._timeout]
                self._running.difference_update(late)
            for task in late:
                message = f"timeout: no result within {self._timeout:g} s (its thread cannot be killed and goes on)"
                if task.finish(failure(message)):
                    self._start(self._worker)

    def close(self) -> None:
        """Stop the threads; running evaluations are abandoned."""
        self._closed.set()
        for _ in range(self.workers):
            self._queue.put(None)
