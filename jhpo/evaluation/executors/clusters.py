"""What all uses of Ray share: the connection, the start of an actor, and actors that hand on what a lost one had."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jhpo.errors import InvalidArgument, JhpoError, MissingExtra, invalid, warn_caller
from jhpo.version import __version__

Resources = Mapping[str, Any]  # options of a Ray actor

# Limit for an actor to be placed and to import what it needs; an autoscaler starts machines meanwhile.
START_SECONDS = 600.0
QUIET_SECONDS = 20.0  # until a warning, as long as there is no actor at all
MOST_LOSSES = 3  # times that a call is begun again because its actor was lost
_POLL_SECONDS = 1.0


def import_ray() -> Any:
    """The module.

    Raises:
        MissingExtra: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("kind='ray' and jhpo.RayActors need Ray: pip install 'jhpo[ray]'") from error
    return ray


def check_resources(resources: object) -> None:
    """Raises unless these are options of an actor.

    Raises:
        InvalidArgument: they are not.
    """
    if not isinstance(resources, Mapping):
        raise invalid("resources", "options of a Ray actor, such as {'num_gpus': 1}", resources)


def connected() -> Any:
    """The module, connected to a cluster: that of the caller's ``ray.init``, or else by Ray's own rules.

    Raises:
        MissingExtra: Ray is not installed.
    """
    ray = import_ray()
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    return ray


def sent(ray: Any, what: str, value: object) -> Any:
    """A reference to a value that was sent to the cluster once.

    Raises:
        InvalidArgument: it cannot be sent.
    """
    try:
        return ray.put(value)
    except Exception as error:  # pickling may raise anything
        raise InvalidArgument(f"{what}: expected one that Ray can send to its workers, got {error}") from error


def start(ray: Any, worker: type, resources: Resources, *arguments: Any) -> tuple[Any, Any]:
    """A new actor of a class with a method ``version``, and the reference with which it says that it is there.

    Raises:
        InvalidArgument: Ray has no such options, or they have other values.
    """
    try:
        placed = ray.remote(worker).options(**{"num_cpus": 1, "max_restarts": 0, **resources})
    except (TypeError, ValueError) as error:
        raise invalid("resources", "options of a Ray actor", dict(resources), note=str(error)) from error
    handle = placed.remote(*arguments)
    return handle, handle.version.remote()


def arrived(ray: Any, reference: Any, what: str) -> bool:
    """Whether a started actor, whose reference is ready, lives; it may have been lost meanwhile.

    Raises:
        InvalidArgument: it could not make use of what it was sent, or has another version of jhpo.
    """
    try:
        found = ray.get(reference)
    except ray.exceptions.RayError as error:
        if isinstance(error, ray.exceptions.RayActorError) and "creation task" not in str(error):
            return False
        reason = str(error).strip().splitlines()[-1]
        raise InvalidArgument(f"{what}: expected one that a Ray worker can import; {reason}") from error
    if found != __version__:
        raise InvalidArgument(f"jhpo: expected version {__version__} on every machine of the cluster, got {found}")
    return True


def no_room(ray: Any, resources: Resources) -> InvalidArgument:
    """The error for an actor that finds no place."""
    wanted = {"num_cpus": 1, **resources}
    return InvalidArgument(
        f"resources: expected what the cluster has room for ({ray.cluster_resources()}), got {wanted}"
    )


def warn_of_no_room(ray: Any, resources: Resources) -> None:
    """Say what a search waits for whose actors have found no place so far."""
    room, limit = no_room(ray, resources), START_SECONDS / 60
    warn_caller(f"no worker has a place on the cluster yet; waiting for one, {limit:.0f} minutes; {room}")


def given_up(what: str) -> str:
    """The reason of a failure after too many losses."""
    return f"given up: {what} was lost {MOST_LOSSES + 1} times (out of memory, a crash, a lost machine)"


def end(ray: Any, handle: Any) -> None:
    """End an actor at once."""
    with contextlib.suppress(ray.exceptions.RayError):  # the cluster may be gone already
        ray.kill(handle)


class Crew:
    """Actors of one kind to which calls are handed; those of an actor that is lost are handed on to another.

    Args:
        ray: the module, connected.
        what: the actors make use of, for messages.
        workers: how many actors; those without a place on the cluster are not waited for.
        resources: of each.
        begin: starts an actor, see `start`.
    """

    def __init__(
        self, ray: Any, what: str, workers: int, resources: Resources, begin: Callable[[], tuple[Any, Any]]
    ) -> None:
        self._ray, self._what, self._workers, self._resources, self._begin = ray, what, workers, resources, begin
        self._starting: dict[Any, Any] = {}  # actors by the reference that says that they are there
        self._free: list[Any] = []
        self._busy: dict[Any, tuple[Any, int]] = {}  # actors and numbers of calls by the reference to the result

    def each(self, method: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The results of a method for the arguments of several calls, in their order.

        Raises:
            InvalidArgument: no actor finds a place, or none can make use of what it is sent.
            JhpoError: a call whose actor was lost too often; whatever a call raises.
        """
        results: list[Any] = [None] * len(calls)
        losses, waiting = [0] * len(calls), deque(range(len(calls)))
        try:
            since, warned = time.monotonic(), False
            while waiting or self._busy:
                self._fill()
                while waiting and self._free:
                    actor, number = self._free.pop(), waiting.popleft()
                    self._busy[getattr(actor, method).remote(*calls[number])] = (actor, number)
                ready, _ = self._ray.wait([*self._busy, *self._starting], timeout=_POLL_SECONDS)
                since = time.monotonic() if ready or self._busy else since
                if not warned and time.monotonic() - since > QUIET_SECONDS:
                    warned = True
                    warn_of_no_room(self._ray, self._resources)
                if time.monotonic() - since > START_SECONDS:
                    raise no_room(self._ray, self._resources)
                for reference in ready:
                    if reference in self._starting:
                        self._welcome(reference)
                        continue
                    actor, number = self._busy.pop(reference)
                    self._free.append(actor)
                    try:
                        results[number] = self._ray.get(reference)
                    except self._ray.exceptions.RayActorError as error:
                        self._free.remove(actor)
                        waiting.appendleft(number)
                        losses[number] += 1
                        if losses[number] > MOST_LOSSES:
                            raise JhpoError(given_up("the actor of some members")) from error
                    except self._ray.exceptions.RayTaskError as error:
                        raise error.cause from error
        except BaseException:
            self.close()  # what is still running is of no use to anybody
            raise
        return results

    def _fill(self) -> None:
        """Start actors in the place of those that are missing."""
        there = len(self._starting) + len(self._free) + len(self._busy)
        for _ in range(self._workers - there):
            handle, reference = self._begin()
            self._starting[reference] = handle

    def _welcome(self, reference: Any) -> None:
        handle = self._starting.pop(reference)
        if arrived(self._ray, reference, self._what):
            self._free.append(handle)

    def close(self) -> None:
        """End the actors; the next call starts others."""
        for handle in [*self._starting.values(), *self._free, *(actor for actor, _ in self._busy.values())]:
            end(self._ray, handle)
        self._starting, self._free, self._busy = {}, [], {}
