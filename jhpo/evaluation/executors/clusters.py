"""A pool of Ray actors, for host objectives on the machines of a cluster."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from jhpo.errors import InvalidArgument, MissingExtra
from jhpo.evaluation.executors.processes import ProcessPool
from jhpo.evaluation.executors.tasks import Call, Task, call
from jhpo.evaluation.outcome import Outcome, failure
from jhpo.pytrees import HP
from jhpo.version import __version__

# Limit for an actor to be placed and to import the function; an autoscaler starts machines meanwhile.
_START_SECONDS = 600.0
_POLL_SECONDS = 1.0
_MOST_LOSSES = 3  # times that an evaluation is begun again because its actor was lost


def import_ray() -> Any:
    """The module.

    Raises:
        MissingExtra: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("kind='ray' needs Ray: pip install 'jhpo[ray]'") from error
    return ray


class RayPool(ProcessPool):
    """One manager thread per actor; an actor that hangs is killed, and one that is lost is replaced.

    An evaluation whose actor is lost (its machine went away, its process was killed) is begun again by another actor;
    its result is told once. Actors are placed by Ray: jhpo schedules nothing. Without ``ray.init`` by the caller, Ray's
    own rules apply (``RAY_ADDRESS``, or else a cluster on this machine).
    """

    def __init__(
        self, fn: Callable[..., Any], how: Call, workers: int, timeout: float | None, options: Mapping[str, Any]
    ) -> None:
        self._ray, self._options = import_ray(), dict(options)
        self._placed = threading.Event()  # some actor has its place
        if not self._ray.is_initialized():
            self._ray.init(log_to_driver=False)
        try:
            self._function = self._ray.put(fn)
        except Exception as error:  # pickling may raise anything
            raise InvalidArgument(f"fn: expected a function that Ray can send to its workers, got {error}") from error
        super().__init__(fn, how, workers, timeout)

    def _manage(self, worker: Any = None) -> None:
        """Wait for a place first: no evaluation waits with an actor that has none while others are free."""
        try:
            worker = self._spawn()
            self._placed.set()
        except InvalidArgument:
            if self._placed.is_set():
                return  # the cluster has room for fewer
        super()._manage(worker)  # without any place, the first evaluation says why

    def _make(self) -> Any:
        return _Actor(self._ray, self._function, self._how, self._options, self._closed)


class _Worker:
    """What runs on the cluster."""

    def __init__(self, fn: Callable[..., Any], how: Call) -> None:
        self._fn, self._how = fn, how

    def version(self) -> str:
        return __version__

    def evaluate(self, params: HP, seed: int) -> Outcome:
        return call(self._fn, self._how, params, seed)


class _Actor:
    """One actor and the calls to it, with the methods of a worker process."""

    def __init__(self, ray: Any, function: Any, how: Call, options: Mapping[str, Any], closed: threading.Event) -> None:
        self._ray, self._function, self._how, self._options = ray, function, how, options
        self._closed = closed
        self._begin()

    def _begin(self) -> None:
        made = self._ray.remote(_Worker).options(**{"num_cpus": 1, "max_restarts": 0, **self._options})
        self._handle = made.remote(self._function, self._how)

    def ready(self) -> None:
        """Wait until the actor has its place and the function.

        Raises:
            InvalidArgument: it did not start, or has another version of jhpo.
        """
        reference = self._handle.version.remote()
        there, _ = self._ray.wait([reference], timeout=_START_SECONDS)
        if not there:
            has = self._ray.cluster_resources()
            wanted = {"num_cpus": 1, **self._options}
            raise InvalidArgument(f"resources: expected what the cluster has room for ({has}), got {wanted}")
        try:
            found = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise InvalidArgument(f"fn: expected a function that a Ray worker can import; {reason}") from error
        if found != __version__:
            raise InvalidArgument(f"jhpo: expected version {__version__} on every machine of the cluster, got {found}")

    def evaluate(self, task: Task, timeout: float | None) -> tuple[Outcome, bool]:
        """The outcome, and whether the actor is still usable."""
        for losses in range(_MOST_LOSSES + 1):
            reference = self._handle.evaluate.remote(task.params, task.seed)
            if not self._there(reference, timeout):
                late = timeout is not None and not self._closed.is_set()
                return failure(
                    f"timeout: no result within {timeout:g} s (its worker was killed)" if late else ""
                ), False
            try:
                return self._ray.get(reference), True
            except self._ray.exceptions.RayActorError:
                if losses < _MOST_LOSSES and not self._closed.is_set():
                    self._begin()
                    self.ready()
        times = f"{_MOST_LOSSES + 1} times"
        return failure(f"given up: its worker was lost {times} (out of memory, a crash, a lost machine)"), False

    def _there(self, reference: Any, timeout: float | None) -> bool:
        waited = 0.0
        while not self._closed.is_set() and (timeout is None or waited < timeout):
            step = _POLL_SECONDS if timeout is None else min(_POLL_SECONDS, timeout - waited)
            if self._ray.wait([reference], timeout=step)[0]:
                return True
            waited += step
        return False

    def kill(self) -> None:
        """End the actor at once."""
        with contextlib.suppress(self._ray.exceptions.RayError):  # the cluster may be gone already
            self._ray.kill(self._handle)
