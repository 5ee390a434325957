"""Searches whose members take over from one another: budgets, ancestries, schedules, the same search in `run`."""

from __future__ import annotations

import copy
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Choice, Float, InvalidArgument, PopulationBasedTraining, Space
from jhpo.keys import trial_keys
from jhpo.search.meter import Update
from jhpo.training.trainable import train_and_evaluate
from tests.search.sized import Sized

SPACE = Space({"lr": Float(1e-3, 3.0, log=True), "bad": Float(0.0, 1.0)})


class Descent:
    """Noisy descent on a valley; some members become NaN on the way."""

    steps = 8

    def init(self, hp, key):
        return {"w": 1.0 + 0.1 * jax.random.normal(key, (2,)), "key": key}

    def step(self, hp, state, t):
        noise = jax.random.normal(jax.random.fold_in(state["key"], t), (2,))
        w = state["w"] - hp["lr"] * (jnp.array([0.3, 1.0]) * state["w"] + 0.1 * noise)
        w = jnp.where((hp["bad"] > 0.8) & (t == 3), jnp.nan, w)
        return {"w": w, "key": state["key"]}

    def evaluate(self, hp, state):
        return jnp.sum(state["w"] ** 2)


class Counted(Descent):
    """Keeps what it was traced with."""

    def __init__(self) -> None:
        self.traced: list[jax.Array] = []

    def step(self, hp, state, t):
        self.traced.append(t)
        return super().step(hp, state, t)


DESCENT = Descent()
PBT = PopulationBasedTraining(12, exchange=2)  # four parts


def minimize(strategy=PBT, budget=12, **options):
    return jhpo.minimize(DESCENT, SPACE, strategy, budget=budget, **options)


@pytest.fixture(scope="module")
def result():
    return minimize(seed=3)


def test_the_budget_counts_whole_trainings(result) -> None:
    assert len(result.history.value) == 12 and result.stopped == "evaluations: 12 of 12 done"
    assert result.steps == 12 * 8 and (result.history.horizon == 1.0).all()
    assert result.curves.steps.tolist() == [2, 4, 6, 8] and result.curves.value.shape == (12, 4)
    np.testing.assert_array_equal(result.curves.value[:, -1], result.history.value)
    assert result.value == np.nanmin(result.history.value)


def test_failed_members_are_replaced_at_the_next_exchange(result) -> None:
    failed = np.isnan(result.curves.value[:, 1])  # at step 3 those with bad > .8 became NaN
    assert failed.any() and np.isfinite(result.curves.value[failed, 2]).all()
    for trial in np.flatnonzero(failed).tolist():
        schedule = result.schedule(trial)
        assert not failed[schedule.members[1]]


def test_what_a_search_leaves_prints_without_its_arrays(result) -> None:
    assert repr(result.history).startswith(f"Evaluations(units={result.history.units.dtype}[12, 2], value=float")
    assert repr(result.curves).startswith("Curves(steps=int64[4], value=float")
    schedule = result.schedule()
    assert repr(schedule) == f"Schedule(4 parts of 8 steps, {schedule.space!r}, origin={schedule.origin})"
    assert repr(jhpo.Trace(None, jnp.zeros((3, 2), jnp.float32))).startswith("Trace(units=None, value=float32[3, 2], ")


def test_an_ancestry_trained_again_gives_the_value(result) -> None:
    keys = trial_keys(jax.random.key(3), jnp.arange(12, dtype=jnp.uint32))
    again = jax.jit(lambda task, key: train_and_evaluate(task, {}, key).value)
    copied = 0
    for trial in range(12):
        schedule = result.schedule(trial)
        copied += len(set(schedule.members.tolist())) > 1
        assert schedule.members[-1] == trial and schedule.members[0] == schedule.origin
        value = again(jhpo.replay(DESCENT, schedule), keys[schedule.origin])
        assert float(value) == pytest.approx(result.history.value[trial], rel=1e-4)
    assert copied >= 3
    best = result.schedule()
    assert best.params[-1] == pytest.approx(result.best) and best.of("lr")[-1] == pytest.approx(result.best["lr"])


def test_trained_states_are_those_that_were_measured(result) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        top = result.top(3)
    assert len(top) == 3
    for trial in top:  # one that `top` gave, or its number
        np.testing.assert_array_equal(result.schedule(trial).units, result.schedule(trial.id).units)
    for each in top:
        assert float(jnp.sum(each.state["w"] ** 2)) == pytest.approx(each.value, rel=1e-5)


def test_a_result_elsewhere_has_its_schedules(result) -> None:
    there = copy.copy(result)
    there.__dict__.update(result.__getstate__())
    np.testing.assert_array_equal(there.schedule(5).units, result.schedule(5).units)


def test_populations_follow_one_another_and_the_last_may_be_smaller() -> None:
    seen: list[Update] = []
    result = minimize(budget=17, callback=seen.append)
    assert [u.steps for u in seen] == [24, 48, 72, 96, 106, 116, 126, 136] and seen[-1].evaluations == 17
    assert np.unique(result.history.generation, return_counts=True)[1].tolist() == [12, 5]
    last = [result.schedule(trial) for trial in range(12, 17)]
    assert all((s.members >= 12).all() and len(s.steps) == 4 for s in last)


def test_a_stopped_search_has_its_members_so_far() -> None:
    result = minimize(generations=3)
    assert (result.history.horizon == 0.75).all() and result.schedule(4).steps.tolist() == [2, 4, 6]
    assert result.top(1)[0].value == np.nanmin(result.history.value)


def test_all_members_may_fail() -> None:
    class Hopeless(Descent):
        def evaluate(self, hp, state):
            return jnp.nan * state["w"].sum()

    hopeless = Hopeless()
    with pytest.warns(UserWarning, match="NaN or infinite, so there is no best"):
        result = jhpo.minimize(hopeless, SPACE, PBT, budget=12)
    assert result.best is None and result.steps == 12 * 2 and np.isnan(result.history.value).all()
    with pytest.raises(jhpo.JhpoError, match="no best member"):
        result.schedule()
    _, trace = jhpo.run(PBT, hopeless, SPACE, 4, jax.random.key(0))
    assert (trace.parents[1:] == -1).all() and np.isnan(trace.value).all()


def test_run_is_the_same_search(result) -> None:
    state, trace = jhpo.run(PBT, DESCENT, SPACE, 4, jax.random.key(3))
    assert trace.value.shape == trace.parents.shape == (4, 12) and int(state.turn) == 4
    np.testing.assert_allclose(trace.value.T, result.curves.value, rtol=1e-4)
    np.testing.assert_allclose(trace.units[-1], result.history.units, rtol=1e-5)
    moved = np.array([[result.schedule(i).members[-2] for i in range(12)]])
    np.testing.assert_array_equal(trace.parents[-1:], moved)
    _, more = jhpo.run(PBT, DESCENT, SPACE, 5, jax.random.key(3), start={"lr": 0.5, "bad": 0.25}, keep="best")
    assert more.units.shape == (5, 1, 2) and more.ids[-1] >= 12  # the second population


def test_run_composes_and_compiles_once() -> None:
    counted = Counted()
    traced = counted.traced

    def search(key, scale):
        strategy = PopulationBasedTraining(12, exchange=1, scale=scale)
        return jhpo.run(strategy, counted, SPACE, 8, key)[1].value

    keys, scales = jax.random.split(jax.random.key(1), 2), jnp.array([0.05, 0.2])
    program = jax.jit(jax.vmap(search))
    together = program(keys, scales)
    times = len(traced)
    assert together.shape == (2, 8, 12) and times <= 4  # eight generations share one body
    np.testing.assert_allclose(program(keys[::-1], scales[::-1])[::-1], together, rtol=1e-5)
    assert len(traced) == times
    np.testing.assert_allclose(search(keys[0], scales[0]), together[0], rtol=1e-4)


def test_minimize_compiles_one_program_for_all_parts() -> None:
    counted = Counted()
    traced = counted.traced
    jhpo.minimize(counted, SPACE, PopulationBasedTraining(8, exchange=4), budget=8)
    times = len(traced)
    jhpo.minimize(counted, SPACE, PopulationBasedTraining(8, exchange=1), budget=16, seed=2)
    assert len(traced) == times


def test_static_groups_replicates_and_maximisation() -> None:
    class Score(Sized, Descent):
        def evaluate(self, hp, state):
            return -jnp.sum(state["w"] ** 2) - state["extra"].sum()

    sized = Score()
    space = Space({"lr": Float(1e-3, 1.0, log=True), "bad": Float(0.0, 0.5), "size": Choice([1, 4], static=True)})
    result = jhpo.maximize(sized, space, PopulationBasedTraining(8, exchange=4), budget=8, replicates=2)
    assert result.value == np.nanmax(result.history.value) and result.history.variance is not None
    schedule = result.schedule()
    assert len(set(schedule.of("size"))) == 1
    assert result.top(1)[0].state["extra"].shape == (result.best["size"],)
    replayed = jhpo.replay(sized, schedule)
    state = replayed.init({}, jax.random.key(0))
    assert state["extra"].shape == (result.best["size"],)


def test_a_search_without_schedules_says_so() -> None:
    result = jhpo.minimize(DESCENT, SPACE, jhpo.RandomSearch(4), budget=4)
    with pytest.raises(jhpo.JhpoError, match="keep their hyperparameters"):
        result.schedule()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jhpo.minimize(lambda hp: hp["lr"], SPACE, PBT), "whose training can be paused and continued"),
        (lambda: minimize(PopulationBasedTraining(12, exchange=8)), "exchange: expected less than the 8 steps"),
        (lambda: minimize(start=[{"lr": 0.5}] * 13, budget=99), "start: expected at most 12 points"),
        (lambda: minimize(PopulationBasedTraining(2)), "population: expected at least 4"),
    ],
)
def test_bad_input_says_what_to_change(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_no_such_trial(result) -> None:
    with pytest.raises(InvalidArgument, match=r"trial: expected an integer in \[0, 11\], got 12"):
        result.schedule(12)
