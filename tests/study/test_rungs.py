"""Studies whose members are paused and continued: stored, resumed bit for bit wherever they were killed, shown."""

from __future__ import annotations

import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Float, Hyperband, InvalidArgument, Space, Study, SuccessiveHalving
from jhpo.study import events
from tests.study.paused import Descent, Killed, assert_same, columns

SPACE = Space({"lr": Float(1e-3, 3.0, log=True), "bad": Float(0.0, 1.0)})
HALVING = SuccessiveHalving(12, eta=2, min_steps=2, proposer=jhpo.PSO(8))  # rungs at 2, 4 and 8


DESCENT = Descent(0.9)


@pytest.fixture(scope="module")
def whole():
    study = Study(SPACE, HALVING, seed=3)
    summary = study.optimize(DESCENT, budget=30)
    return study, summary, columns(study)


def test_a_study_is_the_search_in_memory(whole) -> None:
    study, summary, table = whole
    result = jhpo.minimize(DESCENT, SPACE, HALVING, budget=30, seed=3)
    np.testing.assert_array_equal(table["value"], result.history.value)
    assert study.best.value == result.value and study.best.horizon == 1.0
    assert summary.stopped == "evaluations: 30 of 30 done" and len(study) == study.evaluations == 30
    for row in range(30):
        assert study[row].curve == pytest.approx(result.curves.of(row))


@pytest.mark.parametrize("rung", range(9))
def test_a_study_that_was_killed_at_any_rung_goes_on_bit_for_bit(whole, tmp_path: Path, rung: int) -> None:
    path = tmp_path / "study.db"

    def kill(update) -> None:
        if update.generation == rung + 1:
            raise Killed

    study = Study(SPACE, HALVING, path, seed=3)
    if rung < 8:
        with pytest.raises(Killed):
            study.optimize(DESCENT, budget=30, callback=kill)
    else:
        study.optimize(DESCENT, budget=30)
    study.ledger.log.close()  # without a checkpoint, as after a kill
    with Study.load(path) as again:
        assert again.optimize(DESCENT, budget=30).evaluations == 30 - min(12 * (1 + rung // 3), 30)
        assert_same(columns(again), whole[2])
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            states = again.states(DESCENT, again.top(2) + [again[0]])
        assert float(jnp.sum(states[0]["w"] ** 2)) == pytest.approx(again.best.value, rel=1e-5)


def test_snapshots_and_calls_in_pieces_change_nothing(whole, tmp_path: Path) -> None:
    with Study(SPACE, HALVING, tmp_path / "study.db", seed=3) as study:
        study.optimize(DESCENT, budget=30, generations=2)
    for generations in (5, 7):
        with Study.load(tmp_path / "study.db") as study:
            assert study.optimize(DESCENT, budget=30, generations=generations).stopped.startswith("generations")
    with Study(SPACE, HALVING, tmp_path / "study.db", seed=3, resume=True) as study:
        study.optimize(DESCENT, budget=30)
        assert_same(columns(study), whole[2])
        assert study.optimize(DESCENT, budget=30).evaluations == 0


def test_two_processes_train_every_rung_once(whole, tmp_path: Path) -> None:
    first = Study(SPACE, HALVING, tmp_path / "study.db", seed=3)
    second = Study.load(tmp_path / "study.db")
    for generation in range(1, 10):
        one = (first, second)[generation % 2]
        one.optimize(DESCENT, budget=30, generations=generation)
    assert_same(columns(second), whole[2])
    for study in (first, second):
        study.close()


def test_queued_points_are_trained_to_their_end_beside_the_brackets() -> None:
    study = Study(SPACE, Hyperband(8, eta=2, min_steps=2), seed=1)
    study.optimize(DESCENT, budget=10, generations=1)
    study.enqueue({"lr": 0.5, "bad": 0.0})
    study.optimize(DESCENT, budget=12)
    queued = study[8]
    assert queued.generation == -1 and queued.horizon == 1.0 and queued.curve == {}
    assert study.evaluations == 12 and study.states(DESCENT, [8, 0])[0]["w"].shape == (2,)


def test_curves_in_frames_and_in_the_events(whole) -> None:
    study = whole[0]
    frame = study.to_frame()
    assert {"value_at_2", "value_at_4", "value_at_8"} <= set(frame.columns)
    np.testing.assert_array_equal(frame["value_at_2"], whole[2]["curve at 2"])
    assert events.KINDS["rung"] is events.Rung


def test_a_maximisation() -> None:
    class Score(Descent):
        def evaluate(self, hp, state):
            return -jnp.sum(state["w"] ** 2)

    study = Study(SPACE, HALVING, direction="maximize", seed=3)
    study.optimize(Score(0.9), budget=12)
    final = study.history.table.curve[8].array
    assert study.best.value == np.nanmax(final)


class Longer(Descent):
    steps = 16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda study: study.ask(), "strategy: expected one that asks for every trial once"),
        (lambda study: study.optimize(lambda hp: hp["lr"], budget=12), "whose training can be paused"),
        (lambda study: study.optimize(jhpo.host(lambda p: 1.0), budget=12), "objective: expected a trainable"),
        (lambda study: [study.optimize(d, budget=24) for d in (DESCENT, Longer(0.9))], "steps: .* the 8 steps"),
    ],
)
def test_bad_input_says_what_to_change(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call(Study(SPACE, HALVING, seed=3))
