"""Freeze-thaw: the same search in memory and stored, resumed bit for bit wherever it was killed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Float, FreezeThaw, InvalidArgument, Space, Study
from jhpo.evaluation.evaluators import make_evaluator
from jhpo.evaluation.thawing import empty_pool
from jhpo.study.thaws import Thaws
from tests.study.paused import Descent, assert_goes_on_after_kills, columns

SPACE = Space({"lr": Float(1e-3, 3.0, log=True), "bad": Float(0.0, 1.0)})
DESCENT = Descent(0.9)  # 8 steps; beyond 0.9 a member fails at the fourth
THAW = FreezeThaw(4, interval=2, capacity=16, effort=0.5, proposer="sobol(population=3)")


@pytest.fixture(scope="module")
def result():
    return jhpo.minimize(DESCENT, SPACE, THAW, budget=16, seed=3)


def test_a_search_in_memory(result) -> None:
    assert result.stopped == f"effort: {result.steps} steps taken" and 56 < result.steps <= 64
    ends = np.asarray([max(result.curves.of(i), default=0) for i in range(len(result.history.value))])
    assert result.curves.steps.tolist() == [2, 4, 6, 8] and (ends == 8).any() and (ends < 8).any()
    whole = result.curves.value[ends == 8, -1]
    assert result.value == np.nanmin(whole)
    np.testing.assert_array_equal(result.history.horizon * 8 >= ends, True)
    (top,) = result.top(1)
    assert float(jnp.sum(top.state["w"] ** 2)) == pytest.approx(top.value, rel=1e-6)
    # what was thawed is what is good: those that reached the end beat those that were left, where all are measured
    left = result.curves.value[(ends < 8) & np.isfinite(result.curves.value[:, 0]), 0]
    assert np.median(result.curves.value[ends == 8, 0]) < np.median(left)


def test_a_stored_study_killed_at_any_generation_goes_on_bit_for_bit(result, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    assert_goes_on_after_kills(result, Study(SPACE, THAW, path, seed=3), DESCENT, path, 16, (2, 3, 7))


def test_without_a_capacity_the_first_budget_bounds_the_members(result, tmp_path: Path) -> None:
    path, sized = tmp_path / "study.db", dataclasses.replace(THAW, capacity=None)
    study = Study(SPACE, sized, path, seed=3)
    with pytest.raises(InvalidArgument, match="budget: expected at least the 4 members"):
        study.optimize(DESCENT, budget=2)  # trains nothing, so the next budget counts
    study.optimize(DESCENT, budget=16, generations=2)
    study.close()
    study = Study.load(path)
    with pytest.raises(InvalidArgument, match="budget: expected at least the 16 members"):
        study.optimize(DESCENT, budget=8)
    assert study.optimize(DESCENT, budget=32).stopped == result.stopped
    np.testing.assert_array_equal(columns(study)["value"], result.history.value)


def test_processes_that_begin_one_study_with_other_budgets(tmp_path: Path) -> None:
    sized, path = dataclasses.replace(THAW, capacity=None), tmp_path / "study.db"
    first, second = Study(SPACE, sized, path, seed=3), Study(SPACE, sized, path, seed=3, resume=True)
    evaluator = make_evaluator(DESCENT, SPACE)
    early = Thaws(first, evaluator, 16)
    Thaws(second, evaluator, 32)
    with pytest.raises(InvalidArgument, match="budget: expected the 32 members of another process"):
        early.train()


def test_queued_points_do_not_change_the_search(result) -> None:
    study = Study(SPACE, THAW, seed=3)
    study.enqueue({"lr": 0.5, "bad": 0.0})
    study.optimize(DESCENT, budget=16)
    assert study[0].generation == -1 and study[0].horizon == 1.0
    np.testing.assert_array_equal(columns(study)["value"][1:], result.history.value)
    np.testing.assert_array_equal(study.states(DESCENT, [study.top(1)[0]])[0]["w"].shape, (2,))


@pytest.mark.slow
def test_inside_a_program_and_with_starting_points() -> None:
    search = jax.jit(lambda key: jhpo.run(THAW, DESCENT, SPACE, 8, key))
    state, trace = search(jax.random.key(3))
    assert trace.value.shape == (8, 4) and int(state.started) <= 16
    members = np.asarray(trace.ids)
    assert (np.bincount(members[members < 16].astype(int)) <= 4).all()
    for row in members:
        assert len(set(row[row < 16].tolist())) == (row < 16).sum()  # nobody twice in a generation
    started = jhpo.maximize(score(), SPACE, THAW, budget=16, generations=1, start=[{"lr": 0.5, "bad": 0.1}])
    assert started.space.decode(started.history.units[0])["lr"] == pytest.approx(0.5, rel=1e-5)
    assert started.stopped.startswith("generations")


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_the_pool_holds_keys_of_the_generator_of_the_root_key(impl: str) -> None:
    pool = empty_pool(DESCENT, SPACE, jnp.zeros((1, SPACE.dim)), jax.random.key(0, impl=impl), 3, 2)
    assert pool["key"].shape == (6,) and str(jax.random.key_impl(pool["key"])) == impl


def score() -> Descent:
    class Score(Descent):
        def evaluate(self, hp, state):
            return -jnp.sum(state["w"] ** 2)

    return Score(0.9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FreezeThaw(effort=0.0), "effort: expected a number in"),
        (lambda: FreezeThaw(8, capacity=4), "capacity: expected at least the batch of 8"),
        (lambda: FreezeThaw(interval=9, max_steps=8), "interval: expected at most the 8 steps"),
        (lambda: jhpo.minimize(lambda hp: hp["lr"], SPACE, THAW), "objective: expected a trainable"),
        (lambda: jhpo.minimize(DESCENT, SPACE, THAW, budget=8), "budget: expected at least the 16 members"),
        (lambda: Study(SPACE, FreezeThaw(4)).optimize(DESCENT, seconds=1.0), "capacity: expected how many members"),
        (
            lambda: jhpo.minimize(DESCENT, SPACE, THAW, budget=16, early_stop=jhpo.MedianStopping()),
            "early_stop: expected None beside FreezeThaw",
        ),
        (
            lambda: jhpo.minimize(DESCENT, Space({"lr": Float(0.1, 1.0), "k": jhpo.Choice([1, 2], static=True)}), THAW),
            "space: expected no static parameters",
        ),
    ],
)
def test_bad_input_says_what_to_change(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_points_enqueued_after_the_effort_is_spent_are_evaluated_within_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    study = Study(SPACE, THAW, path)
    assert study.optimize(DESCENT, 16).stopped.startswith("effort")
    done = study.evaluations
    numbers = [study.enqueue({"lr": lr, "bad": 0.0}) for lr in (0.2, 0.4, 0.6)]
    study.close()
    study = Study(SPACE, THAW, path, resume=True)
    assert study.optimize(DESCENT, done + 2).stopped.startswith(("effort", "evaluations"))
    assert [study[number].status.name for number in numbers] == ["COMPLETE", "COMPLETE", "WAITING"]
    study.optimize(DESCENT, done + 3)
    assert study[numbers[2]].status.name == "COMPLETE" and study.evaluations == done + 3
