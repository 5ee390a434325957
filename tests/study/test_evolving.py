"""Studies of populations that evolve: stored, resumed bit for bit wherever they were killed, schedules in the log."""

from __future__ import annotations

import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Float, PopulationBasedTraining, Space, Study
from tests.study.paused import Descent, Killed, assert_same, columns

SPACE = Space(
    {"lr": Float(1e-3, 3.0, log=True), "bad": Float(0.0, 1.0)}, constraints=[lambda hp: 2.0 - hp["lr"] - hp["bad"]]
)
PBT = PopulationBasedTraining(8, exchange=2)  # four parts


DESCENT = Descent(0.8)


@pytest.fixture(scope="module")
def whole():
    study = Study(SPACE, PBT, seed=3)
    study.optimize(DESCENT, budget=13)
    return study, columns(study)


def test_a_study_is_the_search_in_memory(whole) -> None:
    study, table = whole
    result = jhpo.minimize(DESCENT, SPACE, PBT, budget=13, seed=3)
    np.testing.assert_array_equal(table["value"], result.history.value)
    assert study.best.value == result.value and len(study) == study.evaluations == 13
    for trial in range(13):
        assert study[trial].curve == pytest.approx(result.curves.of(trial))
        mine, other = study.schedule(trial), result.schedule(trial)
        np.testing.assert_array_equal(mine.units, other.units)
        assert mine.members.tolist() == other.members.tolist() and mine.steps.tolist() == [2, 4, 6, 8]
    assert study.schedule().params[-1] == study.best.params
    replaced = np.isnan(table["curve at 4"]) & np.isfinite(table["curve at 6"])
    assert replaced.any()
    for trial in np.flatnonzero(replaced).tolist():
        assert study[trial].reason == ""


@pytest.mark.parametrize("generation", [0, 1, 2, 5])
def test_a_study_that_was_killed_at_any_exchange_goes_on_bit_for_bit(whole, tmp_path: Path, generation: int) -> None:
    path = tmp_path / "study.db"

    def kill(update) -> None:
        if update.generation == generation + 1:
            raise Killed

    study = Study(SPACE, PBT, path, seed=3)
    with pytest.raises(Killed):
        study.optimize(DESCENT, budget=13, callback=kill)
    study.ledger.log.close()  # without a checkpoint, as after a kill
    with Study.load(path, space=SPACE) as again, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again.optimize(DESCENT, budget=13)
        assert_same(columns(again), whole[1])
        if generation == 1:
            states = again.states(DESCENT, [again.best, 9])
            assert float(jnp.sum(states[0]["w"] ** 2)) == pytest.approx(again.best.value, rel=1e-5)


def test_two_processes_take_turns(whole, tmp_path: Path) -> None:
    first = Study(SPACE, PBT, tmp_path / "study.db", seed=3)
    second = Study.load(tmp_path / "study.db", space=SPACE)
    for generation in range(1, 9):
        (first, second)[generation % 2].optimize(DESCENT, budget=13, generations=generation)
    second.refresh()
    assert_same(columns(second), whole[1])
    for study in (first, second):
        study.close()


def test_a_trial_without_a_schedule_says_so(whole) -> None:
    study = Study(SPACE, PBT, seed=3)
    study.optimize(DESCENT, budget=8, generations=1)
    study.enqueue({"lr": 0.5, "bad": 0.0})
    with pytest.raises(jhpo.InvalidArgument, match="trial: expected a member of the population, got 8"):
        study.schedule(8)
    with pytest.raises(jhpo.JhpoError, match="keep their hyperparameters"):
        Study(SPACE, "random").schedule()


@pytest.mark.slow
def test_sub_populations_that_explore_by_a_model_are_resumed(tmp_path: Path) -> None:
    strategy = PopulationBasedTraining(8, exchange=2, intervals=(1, 2), explore="bandit")
    alone = jhpo.minimize(DESCENT, SPACE, strategy, budget=16, seed=3)
    with Study(SPACE, strategy, tmp_path / "study.db", seed=3) as study:
        study.optimize(DESCENT, budget=16, generations=3)
    with Study.load(tmp_path / "study.db", space=SPACE) as study:
        study.optimize(DESCENT, budget=16)
        np.testing.assert_array_equal(columns(study)["value"], alone.history.value)
        assert study.schedule(5).params == alone.schedule(5).params
