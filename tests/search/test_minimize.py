"""The search in memory: budgets kept, rules that stop it, failures that harm nobody, the best found and trained."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import PSO, Choice, Float, InvalidArgument, RandomSearch, Space

SPACE = Space({"x": Float(-2.0, 2.0), "kind": Choice(["bad", "good"])})


def objective(hp):
    return (hp["x"] - 1.0) ** 2 + (hp["kind"] == 0).astype(jnp.float32)


def test_the_budget_is_never_exceeded() -> None:
    result = jhpo.minimize(objective, SPACE, RandomSearch(16), budget=37)
    assert len(result.history.value) == 37
    assert result.history.generation.tolist() == [0] * 16 + [1] * 16 + [2] * 5
    assert result.stopped == "evaluations: 37 of 37 done"


def test_the_best_is_decoded() -> None:
    result = jhpo.minimize(objective, SPACE, PSO(16), budget=640)
    assert result.best["kind"] == "good" and result.best["x"] == pytest.approx(1.0, abs=0.01)
    assert result.value == np.nanmin(result.history.value)


def test_maximize_turns_the_sign() -> None:
    result = jhpo.maximize(lambda hp: -objective(hp), SPACE, PSO(16), budget=640, target=-1e-3)
    assert -1e-3 <= result.value <= 0.0
    assert result.stopped == f"target: {result.value:.6g} reached -0.001"
    assert result.value == np.nanmax(result.history.value)


def test_top_is_sorted_and_distinct() -> None:
    top = jhpo.minimize(objective, SPACE, PSO(16), budget=320).top(5)
    values = [t.value for t in top]
    assert values == sorted(values) and len(top) == 5
    assert len({str(t.params) for t in top}) == 5


def test_failed_members_are_never_the_best() -> None:
    def fails(hp):
        return jnp.where(hp["x"] > 0.5, jnp.nan, jnp.where(hp["x"] < -1.5, -jnp.inf, objective(hp)))

    result = jhpo.minimize(fails, SPACE, PSO(16), budget=480)
    assert np.isfinite(result.value) and result.best["x"] <= 0.5
    assert np.isnan(result.history.value).any()


def test_all_failed_is_said_and_not_hidden() -> None:
    with pytest.warns(UserWarning, match=r"all 24 values are NaN or infinite, so .* objective with \{'kind'") as seen:
        result = jhpo.minimize(lambda hp: jnp.nan * hp["x"], SPACE, PSO(8), budget=24)
    assert result.best is None and np.isnan(result.value) and result.top(3) == []
    assert seen[0].filename == __file__  # it is about the line that called

    with pytest.warns(UserWarning, match=r"all 4 evaluations failed, so .*; 4 times: KeyError: 'width' \(line"):
        jhpo.minimize(jhpo.host(lambda params: params["width"]), SPACE, RandomSearch(2), budget=4)
    with pytest.warns(UserWarning, match="none of 4 evaluations meets the constraints"):
        jhpo.minimize(lambda hp: {"value": hp["x"], "constraint": -1.0}, SPACE, RandomSearch(2), budget=4)


def test_an_empty_front_is_said_with_the_reason() -> None:
    """As where `directions` names a value that the objective does not return."""
    other = jhpo.host(lambda params: {"error": params["x"], "size": 1.0})
    ways = {"loss": "minimize", "size": "minimize"}
    with pytest.warns(UserWarning, match=r"so there is no front; 4 times: expected the values \['loss', 'size'\]"):
        result = jhpo.minimize(other, SPACE, RandomSearch(2), budget=4, directions=ways)
    assert result.pareto() == []


def test_constrained_optimum() -> None:
    space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}, constraints=[lambda hp: hp["x"] + hp["y"] - 1.0])
    result = jhpo.minimize(lambda hp: hp["x"] ** 2 + 2 * hp["y"] ** 2, space, PSO(24), budget=1200)
    assert result.value == pytest.approx(2 / 3, abs=0.01)
    assert result.best["x"] + result.best["y"] >= 1.0 - 1e-6


def test_static_parameters_group_the_members() -> None:
    space = Space({"power": Choice([1, 2, 3], static=True), "x": Float(0.0, 2.0)})
    seen = set()

    def powers(hp):
        seen.add(hp["power"])
        return jnp.abs(hp["x"] ** hp["power"] - 1.5) + 0.1 * hp["power"]

    result = jhpo.minimize(powers, space, PSO(24), budget=480)
    assert seen == {1, 2, 3}
    assert result.best["power"] == 1 and result.best["x"] == pytest.approx(1.5, abs=0.02)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"generations": 2}, "generations: 2 of 2"),
        ({"target": 10.0}, "target"),
        ({"seconds": 1e-9}, "seconds"),
        ({"patience": 3, "tolerance": 100.0}, "tolerance"),
    ],
)
def test_rules_stop_the_search_and_say_which(options: dict, reason: str) -> None:
    result = jhpo.minimize(objective, SPACE, RandomSearch(8), budget=800, **options)
    assert result.stopped.startswith(reason) and len(result.history.value) < 800


def test_the_callback_sees_progress() -> None:
    seen: list = []
    jhpo.minimize(objective, SPACE, RandomSearch(8), budget=24, callback=lambda n, best: seen.append((n, best)))
    assert [n for n, _ in seen] == [8, 16, 24]
    assert seen[0][1] >= seen[-1][1]


def test_a_strategy_by_name() -> None:
    named, made = (jhpo.minimize(objective, SPACE, s, budget=8) for s in ("random(population=8)", RandomSearch(8)))
    np.testing.assert_array_equal(named.history.units, made.history.units)
    _, trace = jhpo.run("random(population=8)", objective, SPACE, 1, jax.random.key(0))
    assert trace.value.shape == (1, 8)
    assert jhpo.Study(SPACE, "random(population=8)").strategy == RandomSearch(8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0}, "budget: expected an integer >= 1, got 0"),
        ({"strategy": 3}, "strategy: expected an instance"),
        ({"strategy": "swarm"}, "strategy: expected one of"),
        ({"strategy": "pso(populatoin=8)"}, "populatoin: expected one of the options"),
        ({"replicates": 0}, "replicates"),
        ({"space": {"x": 1}}, "space: expected a jhpo.Space"),
        ({"objective": 3}, "objective"),
        ({"objective": lambda hp: jnp.ones(3)}, "objective"),
        ({"patience": 0}, "patience"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    full = {"objective": objective, "space": SPACE, "strategy": PSO(8), "budget": 8, **arguments}
    with pytest.raises(InvalidArgument, match=message):
        jhpo.minimize(**full)


@pytest.mark.parametrize("search", [jhpo.minimize, jhpo.maximize])
def test_a_search_of_the_host_inside_of_a_program_names_the_one_that_may_be_there(search) -> None:
    for inside in (
        lambda key: search(objective, SPACE, PSO(4), 8, key=key).value,
        lambda key: search(lambda hp: hp["x"], SPACE, PSO(4), 8).value,
    ):
        with pytest.raises(jhpo.JhpoError, match=r"outside of jit.*jhpo\.run"):
            jax.jit(inside)(jax.random.key(0))
