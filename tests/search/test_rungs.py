"""Searches whose members are paused and continued: budgets, curves, steps spent, the same search in `run`."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Choice, Float, Hyperband, InvalidArgument, Space, SuccessiveHalving
from jhpo.search.meter import Update
from tests.search.sized import Sized

SPACE = Space({"lr": Float(1e-3, 3.0, log=True), "bad": Float(0.0, 1.0)})


class Descent:
    """Descent on a valley from a random start; some members diverge, and some become NaN on the way."""

    steps = 8

    def init(self, hp, key):
        return {"w": 1.0 + 0.1 * jax.random.normal(key, (2,)), "t": jnp.int32(0)}

    def step(self, hp, state, t):
        w = state["w"] - hp["lr"] * jnp.array([0.3, 1.0]) * state["w"]
        w = jnp.where((hp["bad"] > 0.9) & (t == 3), jnp.nan, w)
        return {"w": w, "t": state["t"] + 1}

    def evaluate(self, hp, state):
        return {"loss": jnp.sum(state["w"] ** 2), "seen": state["t"]}


DESCENT = Descent()
HALVING = SuccessiveHalving(12, eta=2, min_steps=2)  # rungs at 2, 4 and 8 of 12, 6 and 3 members


def minimize(strategy=HALVING, budget=24, **options):
    return jhpo.minimize(DESCENT, SPACE, strategy, budget=budget, metric="loss", **options)


@pytest.fixture(scope="module")
def result():
    return minimize(seed=1)


def test_the_budget_counts_members_and_the_steps_are_said(result) -> None:
    assert len(result.history.value) == 24 and result.stopped == "evaluations: 24 of 24 done"
    assert result.steps == 2 * (12 * 2 + 6 * 2 + 3 * 4)
    assert result.history.generation.tolist() == [0] * 12 + [3] * 12
    assert 0.4 < result.occupancy <= 1.0
    assert np.unique(result.history.horizon, return_counts=True)[1].tolist() == [12, 6, 6]


def test_every_member_has_its_curve(result) -> None:
    curves, history = result.curves, result.history
    assert curves.steps.tolist() == [2, 4, 8] and curves.value.shape == (24, 3)
    for row in range(24):
        stop = round(history.horizon[row] * 8)
        measured = curves.of(row)
        assert set(measured) <= {s for s in (2, 4, 8) if s <= stop}
        assert measured.get(stop, np.nan) == pytest.approx(history.value[row], nan_ok=True)
    # those that went on were the best at their rung
    first = curves.value[:12, 0]
    went_on = history.horizon[:12] > 0.25
    assert first[went_on].max() <= np.nanmin(first[~went_on])


def test_the_best_is_one_of_the_whole_trainings(result) -> None:
    assert result.history.horizon[result.top(1)[0].id] == 1.0
    assert result.value == np.nanmin(result.history.value[result.history.horizon == 1.0])


def test_trained_states_are_those_that_were_measured(result) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        top = result.top(3)
    for each in top:
        assert each.state["t"] == 8
        assert float(jnp.sum(each.state["w"] ** 2)) == pytest.approx(each.value, rel=1e-5)


def test_a_members_value_is_that_of_a_training_in_one_piece(result) -> None:
    whole = result.history.horizon == 1.0
    population = jhpo.Population(DESCENT, SPACE, metric="loss")
    found = population.evaluate(result.history.units[whole], result.history.ids[whole], jax.random.key(1)).value
    np.testing.assert_allclose(result.history.value[whole], found, rtol=1e-5)


def test_failed_members_are_never_trained_on(result) -> None:
    failed = np.isnan(result.history.value)
    assert failed.any()
    last = np.isfinite(result.curves.value).sum(axis=1)
    reached = np.searchsorted(result.curves.steps, np.rint(result.history.horizon * 8))
    np.testing.assert_array_equal(last[failed], reached[failed])  # no rung after the one where they failed


def test_a_budget_that_ends_in_a_bracket_is_kept() -> None:
    seen: list[Update] = []
    result = minimize(budget=17, callback=seen.append)
    assert len(result.history.value) == 17
    assert (result.history.horizon[12:] == 1.0).sum() == 1  # of 5 members 2, then 1
    assert [u.steps for u in seen] == [24, 36, 48, 58, 62, 66] and seen[-1].evaluations == 17


def test_other_stop_rules_end_a_search_between_rungs() -> None:
    assert minimize(generations=2, budget=99).stopped == "generations: 2 of 2 done"
    target = minimize(target=1e3, budget=99)
    assert target.stopped.startswith("target") and len(target.history.value) == 12


def test_all_members_may_fail() -> None:
    class Hopeless(Descent):
        def evaluate(self, hp, state):
            return jnp.nan * state["w"].sum()

    with pytest.warns(UserWarning, match="NaN or infinite, so there is no best"):
        result = jhpo.minimize(Hopeless(), SPACE, HALVING, budget=24)
    assert result.best is None and np.isnan(result.history.value).all() and result.steps == 2 * 12 * 2


def test_given_points_are_the_first_members() -> None:
    result = minimize(budget=12, start=[{"lr": 0.5, "bad": 0.25}, {"lr": 0.125}])
    first, second = (SPACE.decode(u) for u in result.history.units[:2])
    assert first == pytest.approx({"lr": 0.5, "bad": 0.25}) and second["lr"] == pytest.approx(0.125)
    assert result.history.generation.max() == 0
    with pytest.raises(InvalidArgument, match="start: expected at most 12 points"):
        minimize(budget=99, start=[{"lr": 0.5}] * 13)


def test_a_score_is_maximised() -> None:
    class Score(Descent):
        def evaluate(self, hp, state):
            return -jnp.sum(state["w"] ** 2)

    result = jhpo.maximize(Score(), SPACE, HALVING, budget=12)
    assert result.value == np.nanmax(result.history.value[result.history.horizon == 1.0])


@pytest.mark.parametrize("keep", ["values", "best"])
def test_what_is_kept(result, keep) -> None:
    small = minimize(seed=1, keep=keep)
    assert small.value == result.value and small.best == result.best and small.top(1)[0].value == result.value
    assert (small.history.units is None) == (keep == "values")
    assert len(small.history.value) == len(small.curves.value) == (24 if keep == "values" else 2)


def test_the_best_that_is_kept_is_feasible_if_any_is() -> None:
    class Measured(Descent):
        def evaluate(self, hp, state):
            return {"value": hp["bad"], "constraint": hp["bad"] - 0.5}

    strategy = jhpo.PopulationBasedTraining(4, exchange=2)
    space = Space({"lr": Float(1e-3, 0.1), "bad": Float(0.0, 0.8)})
    every, best = (jhpo.minimize(Measured(), space, strategy, budget=32, keep=keep).history for keep in ("all", "best"))
    assert (every.constraint < 0).any()
    for row, generation in enumerate(best.generation):
        feasible = (every.constraint[:, 0] >= 0) & (every.generation == generation)
        assert not feasible.any() or best.value[row] == every.value[feasible].min()


def test_static_groups_and_replicates() -> None:
    class Loss(Sized, Descent):
        def evaluate(self, hp, state):
            return jnp.sum(state["w"] ** 2) + state["extra"].sum()

    space = Space({"lr": Float(1e-3, 1.0, log=True), "bad": Float(0.0, 0.5), "size": Choice([1, 4], static=True)})
    result = jhpo.minimize(Loss(), space, HALVING, budget=12, replicates=2)
    assert result.steps == 2 * (12 * 2 + 6 * 2 + 3 * 4) and result.history.variance is not None
    assert np.isfinite(result.value) and result.top(1)[0].state["extra"].shape == (result.best["size"],)


def test_run_is_the_same_search() -> None:
    key = jax.random.key(1)
    state, traces = jhpo.run(HALVING, _Loss(), SPACE, 6, key)
    assert [t.value.shape for t in traces] == [(2, 12), (2, 6), (2, 3)] and int(state.turn) == 6
    result = jhpo.minimize(_Loss(), SPACE, HALVING, budget=24, key=key)
    for k, trace in enumerate(traces):
        there = np.isfinite(trace.value)
        curve = result.curves.value[np.asarray(trace.ids), k]
        np.testing.assert_allclose(curve[there], np.asarray(trace.value)[there], rtol=1e-5)


class _Loss(Descent):
    """The loss alone, as `run` names no metric."""

    def evaluate(self, hp, state):
        return jnp.sum(state["w"] ** 2)


LOSS = _Loss()


def test_run_composes_and_computes_less_than_trainings_to_the_end() -> None:
    def search(key, strategy=HALVING):
        traces = jhpo.run(strategy, LOSS, SPACE, 4, key)[1]
        return traces[0].value, traces[1].value, traces[-1].value

    keys = jax.random.split(jax.random.key(3), 2)
    together = jax.jit(jax.vmap(search))(keys)
    assert [x.shape for x in together] == [(2, 2, 12), (2, 1, 6), (2, 1, 3)]
    for found, alone in zip(together, search(keys[1])):
        np.testing.assert_allclose(found[1], alone, rtol=1e-5)
    kept = jhpo.run(HALVING, LOSS, SPACE, 3, keys[0], keep="best", start={"lr": 0.5, "bad": 0.1})[1]
    assert [t.units.shape for t in kept] == [(1, 1, 2)] * 3
    # survivors alone are trained on inside the program: loops of 12, 6 and 3 members
    program = jax.make_jaxpr(search)(keys[0])
    assert "f32[6,2]" in str(program) and "f32[3,2]" in str(program)


def test_hyperband_goes_through_its_brackets() -> None:
    result = minimize(Hyperband(8, eta=2, min_steps=2), budget=23)
    # 8 from step 2, 6 from step 4, 6 to the end; then the first bracket again with the rest of the budget
    assert np.unique(result.history.generation, return_counts=True)[1].tolist() == [8, 6, 6, 3]
    assert result.steps == (16 + 8 + 8) + (24 + 12) + 48 + (6 + 2 + 4)


def test_a_proposer_learns_and_finds_better_members() -> None:
    class Bowl(Descent):
        steps = 4

        def step(self, hp, state, t):
            return state

        def evaluate(self, hp, state):
            return (jnp.log10(hp["lr"]) + 1.0) ** 2 + (hp["bad"] - 0.3) ** 2

    strategy = SuccessiveHalving(8, eta=2, min_steps=1, proposer=jhpo.PSO(8))
    bowl = Bowl()
    swarm = jhpo.minimize(bowl, SPACE, strategy, budget=160)
    plain = jhpo.minimize(bowl, SPACE, SuccessiveHalving(8, eta=2, min_steps=1), budget=160)
    assert swarm.value < plain.value
    assert np.median(swarm.history.value[-40:]) < 0.5 * np.median(swarm.history.value[:40])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jhpo.minimize(lambda hp: hp["lr"], SPACE, HALVING), "whose training can be paused and continued"),
        (lambda: jhpo.minimize(jhpo.host(lambda p: 1.0), SPACE, HALVING), "objective: expected a trainable"),
        (lambda: jhpo.run(HALVING, lambda hp: hp["lr"], SPACE, 3, jax.random.key(0)), "whose training can be paused"),
        (lambda: minimize(SuccessiveHalving(12, min_steps=9)), "min_steps: expected at most the 8 steps"),
        (lambda: minimize(SuccessiveHalving(2, min_steps=1)), "population: expected at least 9"),
    ],
)
def test_bad_input_says_what_to_change(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()
