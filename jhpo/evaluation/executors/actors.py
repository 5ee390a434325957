"""A pool of Ray actors, for host objectives on the machines of a cluster."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from jhpo.errors import InvalidArgument
from jhpo.evaluation.executors.clusters import (
    MOST_LOSSES,
    QUIET_SECONDS,
    START_SECONDS,
    Resources,
    arrived,
    connected,
    end,
    given_up,
    no_room,
    sent,
    start,
    warn_of_no_room,
)
from jhpo.evaluation.executors.processes import ProcessPool
from jhpo.evaluation.executors.tasks import DONE, Call, Task, answered, call, with_reports
from jhpo.evaluation.outcome import Outcome, failure
from jhpo.process.switches import set_here
from jhpo.trial import Trial
from jhpo.values.pytrees import HP
from jhpo.version import __version__

_POLL_SECONDS = 1.0


class RayPool(ProcessPool):
    """One manager thread per actor; an actor that hangs is killed, and one that is lost is replaced.

    An evaluation whose actor is lost (its machine went away, its process was killed) is begun again by another actor;
    its result is told once. Actors are placed by Ray: jhpo schedules nothing.
    """

    def __init__(
        self, fn: Callable[..., Any], how: Call, workers: int, timeout: float | None, resources: Resources
    ) -> None:
        self._ray, self._resources = connected(), dict(resources)
        self._placed = threading.Event()  # some actor has its place
        self._told = threading.Event()  # there was a warning that none has
        self._function = sent(self._ray, "fn", fn)
        super().__init__(fn, how, workers, timeout)

    def _manage(self, worker: Any = None) -> None:
        """Wait for a place first: no evaluation waits with an actor that has none while others are free."""
        try:
            worker = self._spawn()
            self._placed.set()
        except Exception as error:  # noqa: BLE001 whoever waits would wait for ever
            if isinstance(error, InvalidArgument) and self._placed.is_set():
                return  # the cluster has room for fewer
        super()._manage(worker)  # without any place, the first evaluation says why

    def _make(self) -> Any:
        return _Actor(self._ray, (self._function, self._how, self._settings), self._resources, self._closed, self._wait)

    def _wait(self, there: Any) -> bool:
        """Whether an actor has its place in time; a warning if it takes long, and there is no other one."""
        if self._ray.wait([there], timeout=min(QUIET_SECONDS, START_SECONDS))[0]:
            return True
        if not (self._placed.is_set() or self._told.is_set() or self._closed.is_set()):
            self._told.set()
            warn_of_no_room(self._ray, self._resources)
        return bool(self._ray.wait([there], timeout=max(START_SECONDS - QUIET_SECONDS, 0.0))[0])


class _Worker:
    """What runs on the cluster.

    A function that reports has a thread of its own. Each call returns its next message: the name of a method of
    `Reports` and its arguments, which `go_on` answers, or the outcome.
    """

    def __init__(self, fn: Callable[..., Any], how: Call, settings: dict[str, Any]) -> None:
        set_here(settings)
        self._fn, self._how = fn, how
        self._messages: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def version(self) -> str:
        return __version__

    def begin(self, params: HP, seed: int, trial: Trial | None) -> tuple[str, Any]:
        if trial is None:
            return DONE, call(self._fn, self._how, params, seed)
        threading.Thread(target=self._call, args=(params, seed, with_reports(trial, self._ask)), daemon=True).start()
        return self._messages.get()

    def go_on(self, answer: Any) -> tuple[str, Any]:
        self._answers.put(answer)
        return self._messages.get()

    def _call(self, params: HP, seed: int, trial: Trial) -> None:
        self._messages.put((DONE, call(self._fn, self._how, params, seed, trial)))

    def _ask(self, method: str, *content: Any) -> Any:
        self._messages.put((method, content))
        return self._answers.get()


class _Actor:
    """One actor and the calls to it, with the methods of a worker process."""

    def __init__(
        self, ray: Any, arguments: tuple[Any, ...], resources: Resources, closed: threading.Event,
        wait: Callable[[Any], bool],
    ) -> None:  # fmt: skip
        self._ray, self._arguments, self._resources = ray, arguments, resources  # arguments: of `_Worker`
        self._closed, self._wait = closed, wait
        self._begin()

    def _begin(self) -> None:
        self._handle, self._there = start(self._ray, _Worker, self._resources, *self._arguments)

    def ready(self) -> None:
        """Wait until the actor has its place and the function.

        Raises:
            InvalidArgument: it did not start, or has another version of jhpo.
        """
        for _ in range(MOST_LOSSES + 1):
            if not self._wait(self._there):
                raise no_room(self._ray, self._resources)
            if arrived(self._ray, self._there, "fn"):
                return
            self._begin()
        raise InvalidArgument(f"fn: expected one that a Ray worker can import; {given_up('a worker that imports it')}")

    def evaluate(self, task: Task, timeout: float | None) -> tuple[Outcome, bool]:
        """The outcome, and whether the actor is still usable."""
        for losses in range(MOST_LOSSES + 1):
            try:
                return self._converse(task, timeout, again=losses > 0)
            except self._ray.exceptions.RayActorError:
                if losses < MOST_LOSSES and not self._closed.is_set():
                    self._begin()
                    self.ready()
        return failure(given_up("its worker")), False

    def _converse(self, task: Task, timeout: float | None, again: bool) -> tuple[Outcome, bool]:
        """One evaluation: answer its messages until it has an outcome."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        reference = self._handle.begin.remote(task.params, task.seed, task.trial)
        while self._ready(reference, deadline):
            method, content = self._ray.get(reference)
            if method == DONE:
                return content, True
            reference = self._handle.go_on.remote(answered(task, method, content, again))
        late = timeout is not None and not self._closed.is_set()
        return failure(f"timeout: no result within {timeout:g} s (its worker was killed)" if late else ""), False

    def _ready(self, reference: Any, deadline: float) -> bool:
        """Wait for a reference; False after the deadline, or when the pool was closed."""
        while not self._closed.is_set() and (left := deadline - time.monotonic()) > 0.0:
            if self._ray.wait([reference], timeout=min(_POLL_SECONDS, left))[0]:
                return True
        return False

    def kill(self) -> None:
        """End the actor at once."""
        end(self._ray, self._handle)
