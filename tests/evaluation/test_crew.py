"""How calls are handed to actors and handed on when one is lost, with a Ray of a few lines in this process."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument, JhpoError, MissingExtra
from jhpo.evaluation.executors import clusters
from jhpo.evaluation.executors.clusters import Crew, start
from jhpo.version import __version__

pytestmark = pytest.mark.quick


class Lost(Exception):
    """An actor was lost."""


class Raised(Exception):
    """A call raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Reference:
    """A result that is computed when it is asked for."""

    def __init__(self, compute: Any) -> None:
        self.compute = compute


class Handle:
    """An actor: what is called on it gives references."""

    def __init__(self, ray: FakeRay, worker: Any) -> None:
        self._ray, self._worker = ray, worker

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Reference:
            def compute() -> Any:
                if name != "version":
                    self._ray.begun.append(arguments)
                    if self._ray.losses > 0:
                        self._ray.losses -= 1
                        raise Lost
                try:
                    return getattr(self._worker, name)(*arguments)
                except Exception as error:
                    raise Raised(error) from error

            return Reference(compute)

        return SimpleNamespace(remote=call)


class FakeRay:
    """As much of the module as a crew uses; `losses` calls lose their actor, `room` actors find a place."""

    exceptions = SimpleNamespace(RayError=(Lost, Raised), RayActorError=Lost, RayTaskError=Raised)

    def __init__(self, losses: int = 0, room: int = 99) -> None:
        self.losses, self.room = losses, room
        self.begun: list[Any] = []
        self.started = self.ended = 0

    def remote(self, worker: type) -> Any:
        def make(*arguments: Any) -> Handle:
            self.started += 1
            return Handle(self, worker(*arguments))

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=make))

    def wait(self, references: list[Reference], timeout: float) -> tuple[list[Reference], list[Reference]]:
        there = references[:1] if self.room else []
        return there, references[len(there) :]

    def get(self, reference: Reference) -> Any:
        return reference.compute()

    def kill(self, handle: Handle) -> None:
        self.ended += 1

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}


class Squares:
    def version(self) -> str:
        return __version__

    def square(self, x: int) -> int:
        return x * x

    def refuse(self, x: int) -> int:
        raise InvalidArgument(f"x: expected another one, got {x}")


def crew(ray: FakeRay, worker: type = Squares, workers: int = 2) -> Crew:
    return Crew(ray, "objective", workers, {}, lambda: start(ray, worker, {}))


def test_every_call_has_one_result_whatever_is_lost():
    ray = FakeRay(losses=3)
    some = crew(ray)
    assert some.each("square", [(x,) for x in range(7)]) == [x * x for x in range(7)]
    assert len(ray.begun) == 7 + 3 and {x for (x,) in ray.begun} == set(range(7))
    assert 4 <= ray.started <= 5  # the lost ones were replaced
    assert some.each("square", [(9,)]) == [81]  # by the actors that are there
    some.close()
    assert ray.ended >= 2


def test_a_call_that_loses_every_actor_is_given_up_and_the_others_are_ended():
    ray = FakeRay(losses=4)
    with pytest.raises(JhpoError, match="given up: the actor of some members was lost 4 times"):
        crew(ray, workers=1).each("square", [(1,), (2,)])
    assert ray.begun == [(1,)] * 4


def test_errors_say_what_to_do(monkeypatch):
    ray = FakeRay()
    with pytest.raises(InvalidArgument, match="x: expected another one, got 3"):
        crew(ray).each("refuse", [(3,)])
    assert ray.ended == ray.started  # nobody goes on for nobody
    with monkeypatch.context() as patch:
        patch.setattr(clusters, "START_SECONDS", 0.1)
        patch.setattr(clusters, "QUIET_SECONDS", 0.01)
        room = r"resources: expected what the cluster has room for \({'CPU': 2.0}\)"
        with pytest.raises(InvalidArgument, match=room), pytest.warns(UserWarning, match=room) as told:
            crew(FakeRay(room=0)).each("square", [(3,)])
        assert len(told) == 1

    class Older(Squares):
        def version(self) -> str:
            return "0.0.9"

    with pytest.raises(InvalidArgument, match=f"jhpo: expected version {__version__} on every machine"):
        crew(FakeRay(), Older).each("square", [(3,)])


def test_bad_input(monkeypatch):
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    bowl = lambda hp: hp["x"] ** 2  # noqa: E731
    with pytest.raises(InvalidArgument, match="workers: expected"):
        jhpo.RayActors(0)
    with pytest.raises(InvalidArgument, match="resources: expected options of a Ray actor"):
        jhpo.minimize(bowl, space, "random", budget=4, devices=jhpo.RayActors(2, "gpu"))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="chunk: expected an integer >= 1 or None on a Ray cluster"):
        jhpo.minimize(bowl, space, "random", budget=4, devices=jhpo.RayActors(2), chunk="measure")
    with pytest.raises(InvalidArgument, match="early_stop: expected None on a Ray cluster"):
        jhpo.minimize(bowl, space, "random", budget=4, devices=jhpo.RayActors(2), early_stop="median")
    with pytest.raises(InvalidArgument, match="devices: RayActors train members to their end"):
        jhpo.minimize(bowl, space, "successive-halving", budget=4, devices=jhpo.RayActors(2))

    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    for call in (
        lambda: jhpo.minimize(bowl, space, "random", budget=4, devices=jhpo.RayActors(2)),
        lambda: jhpo.host(np.sum, kind="ray"),
    ):
        with pytest.raises(MissingExtra, match=r"need Ray: pip install 'jhpo\[ray\]'"):
            call()
