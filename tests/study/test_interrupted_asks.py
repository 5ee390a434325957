"""A Ctrl-C while the strategy is asked leaves the open study as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

import jhpo

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})


class Task:
    """A training of four steps."""

    steps = 4

    def init(self, hp: Any, key: jax.Array) -> jax.Array:
        return hp["x"]

    def step(self, hp: Any, w: jax.Array, t: jax.Array) -> jax.Array:
        return 0.5 * w

    def evaluate(self, hp: Any, w: jax.Array) -> jax.Array:
        return w + hp["y"]


def one_by_one(study: jhpo.Study) -> None:
    for trial in study.ask(4):
        study.tell(trial, trial.params["x"] ** 2 + trial.params["y"])


def optimized(objective: Any) -> Callable[[jhpo.Study], object]:
    return lambda study: study.optimize(objective, budget=len(study) + 4)


def enqueued(study: jhpo.Study) -> None:
    study.enqueue({"x": 0.5})
    one_by_one(study)


PSO = jhpo.PSO(4)
KINDS: dict[str, tuple[Any, Callable[[jhpo.Study], object]]] = {
    "ask": (PSO, one_by_one),
    "single": (jhpo.RandomSearch(1), one_by_one),
    "batch": (PSO, optimized(Task())),
    "host": (PSO, optimized(jhpo.host(lambda hp: hp["x"] + hp["y"]))),
    "rungs": (jhpo.SuccessiveHalving(4, eta=2, min_steps=1), optimized(Task())),
    "enqueue": (PSO, enqueued),
}


def interrupted(monkeypatch: pytest.MonkeyPatch, where: str, call: Callable[[], object]) -> None:
    """A call in which Ctrl-C comes where something of jhpo is called."""

    def interrupt(*_: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, interrupt)
        with pytest.raises(KeyboardInterrupt):
            call()


@pytest.mark.parametrize("storage", ["memory", "file"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_study_goes_on_as_if_nobody_had_interrupted(
    kind: str, storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, further = KINDS[kind]
    found = []
    for name in ("interrupted", "whole"):
        path = None if storage == "memory" else tmp_path / f"{name}.db"
        with jhpo.Study(SPACE, strategy, path) as study:
            further(study)
            if name == "interrupted":
                interrupted(monkeypatch, "jhpo.search.driver.Driver._rows", lambda: further(study))
            further(study)
            further(study)
            found.append([(t.params, t.value) for t in study if t.value is not None][-4:])
    assert found[0] == found[1]


@pytest.mark.parametrize("storage", ["memory", "file"])
def test_the_next_generation_is_forgotten_if_it_was_not_stored(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name in ("interrupted", "whole"):
        path = None if storage == "memory" else tmp_path / f"{name}.db"
        with jhpo.Study(SPACE, PSO, path) as study:
            one_by_one(study)
            if name == "interrupted":
                interrupted(monkeypatch, "jhpo.study.events.Ask", lambda: study.ask(4))
            study.absorb([{"x": 0.1, "y": 0.1}], [0.11])
            found.append([t.params for t in study.ask(4)])
    assert found[0] == found[1]


@pytest.mark.parametrize("storage", ["memory", "file"])
def test_what_waited_in_the_queue_is_handed_out_by_the_next_ask(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jhpo.Study(SPACE, PSO, None if storage == "memory" else tmp_path / "study.db") as study:
        first = study.enqueue({"x": 0.5, "y": 0.5})
        interrupted(monkeypatch, "jhpo.search.driver.Driver._rows", lambda: study.ask(3))
        assert study.ask(3)[0].id == first


def test_trials_of_an_ask_that_ends_while_the_state_is_stored_are_handed_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jhpo.study.ledger.SNAPSHOT_SECONDS", -1.0)
    with jhpo.Study(SPACE, PSO, tmp_path / "study.db") as study:
        interrupted(monkeypatch, "jhpo.storage.sql.SqlLog.save_snapshot", lambda: study.ask(3))
        assert [trial.id for trial in study.ask(3)] == [0, 1, 2]
        for trial in study.ask(1):
            study.tell(trial, 0.5)
        assert study[3].value == 0.5


def test_a_study_is_closed_where_its_state_cannot_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = jhpo.Study(SPACE, PSO, tmp_path / "study.db")
    one_by_one(study)
    interrupted(monkeypatch, "jhpo.storage.sql.SqlLog.save_snapshot", study.close)
    assert {path.name for path in tmp_path.iterdir()} == {"study.db"}, "the log is closed, so nothing is beside it"
