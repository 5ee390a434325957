"""Measured constraints, of host functions that have not always as many, and of static values that change them."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.evaluation.executors.host import HostObjective

PLAIN = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
BOUND = jhpo.Space({"x": jhpo.Float(0.0, 1.0)}, constraints=[lambda hp: hp["x"] - 0.1])
SPACES = pytest.mark.parametrize("space", [PLAIN, BOUND], ids=["plain", "bound"])


def first_fails() -> HostObjective:
    calls = itertools.count()

    def fit(params: dict[str, Any]) -> dict[str, Any]:
        if next(calls) == 0:
            raise ValueError("first")
        return {"value": params["x"], "constraint": [params["x"] - 0.2]}

    return jhpo.host(fit)


def differing() -> HostObjective:
    calls = itertools.count()
    return jhpo.host(lambda params: {"value": params["x"], "constraint": [params["x"] - 0.2] * (1 + next(calls) % 2)})


@SPACES
@pytest.mark.parametrize("strategy", [jhpo.RandomSearch(2), jhpo.CMAES(4)], ids=["random", "cmaes"])
def test_a_first_evaluation_that_fails(space: jhpo.Space, strategy: jhpo.Strategy, tmp_path: Any) -> None:
    result = jhpo.minimize(first_fails(), space, strategy, budget=8)
    assert result.value >= 0.2 and np.isnan(result.history.constraint[0, -1])
    with jhpo.Study(space, strategy, tmp_path / "a.db") as study:
        study.optimize(first_fails(), budget=8)
        assert study.best.value == result.value and len(study.failures) == 1
    with jhpo.Study.load(tmp_path / "a.db", space=space) as study:
        assert study.best.value == result.value
        np.testing.assert_array_equal(study.to_frame()["constraint_0"], result.history.constraint[:, 0])


def test_bayes_learns_a_constraint_whose_first_evaluation_failed() -> None:
    result = jhpo.minimize(first_fails(), BOUND, "bayes(constraints=1)", budget=5)
    study = jhpo.Study(BOUND, "bayes(constraints=1)")
    study.optimize(first_fails(), budget=5)
    assert study.best.value >= 0.2 and result.value >= 0.2


@SPACES
def test_another_number_of_constraints_is_a_failed_trial(space: jhpo.Space) -> None:
    study = jhpo.Study(space, jhpo.RandomSearch(2))
    study.optimize(differing(), budget=6)
    reason = "constraint: expected 1 as in the first result that had any, got 2"
    assert [trial.reason for trial in study] == ["", reason] * 3
    result = jhpo.minimize(differing(), space, jhpo.RandomSearch(4), budget=6)
    assert np.isnan(result.history.value).tolist() == [False, True] * 3
    (trial,) = study.ask(1)
    study.tell(trial, {"value": 0.5, "constraint": [1.0, 1.0, 1.0]})
    assert study.failures[-1].reason == reason.replace("got 2", "got 3")


@pytest.mark.quick
@pytest.mark.parametrize("wrong", [{"constraint": "low"}, {"cost": "low"}])
def test_several_values_beside_what_is_no_number_are_a_failure(wrong: dict[str, Any]) -> None:
    def fit(params: dict[str, Any]) -> dict[str, Any]:
        return {"value": (params["x"], 1 - params["x"]), **(wrong if params["x"] > 0.5 else {"constraint": 1.0})}

    result = jhpo.minimize(jhpo.host(fit), PLAIN, jhpo.RandomSearch(8), budget=16, directions=["minimize", "minimize"])
    good = result.history.units[:, 0] <= 0.5
    assert 0 < good.sum() < 16 and np.array_equal(np.isfinite(result.history.value), good)
    assert all(point.params["x"] <= 0.5 for point in result.pareto())


@pytest.mark.quick
@pytest.mark.parametrize("workers", [1, 3])
def test_constraints_of_replicates_are_their_mean(workers: int) -> None:
    seen: dict[float, list[float]] = {}

    def fit(params: dict[str, Any], seed: int) -> dict[str, Any]:
        limit = float(np.random.default_rng(seed).normal())
        seen.setdefault(params["x"], []).append(limit)
        return {"value": params["x"], "constraint": limit}

    result = jhpo.minimize(jhpo.host(fit, workers=workers), PLAIN, jhpo.RandomSearch(1), budget=12, replicates=2)
    tried = result.history.units[:, 0].tolist()
    means = [np.mean(seen[x]) for x in tried]
    np.testing.assert_allclose(result.history.constraint[:, 0], means)
    best = min(x for x, mean in zip(tried, means) if mean >= 0)
    assert result.best["x"] == best


class Descent:
    steps = 4

    def __init__(self, evaluate) -> None:
        self.evaluate = lambda hp, w: evaluate(hp)

    def init(self, hp, key):
        return jnp.float32(1.0)

    def step(self, hp, w, t):
        return w - hp["lr"] * w


@pytest.mark.parametrize("strategy", [jhpo.RandomSearch(8), jhpo.SuccessiveHalving(8)])
def test_static_values_change_neither_constraints_nor_the_order_of_values(strategy) -> None:
    def constrained(hp):
        more = {"constraint": hp["lr"]} if hp["n"] == "a" else {}
        return {"value": hp["lr"], **more}

    def wider(hp):
        return {"value": hp["lr"], "constraint": [hp["lr"]] * (1 + (hp["n"] == "a"))}

    def swapped(hp):
        return {"a": hp["lr"], "b": 1.0} if hp["n"] == "a" else {"b": 1.0, "a": hp["lr"]}

    space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0), "n": jhpo.Choice(["a", "b"], static=True)})
    for evaluate, words in ((constrained, "with the default static values, 0, got"), (wider, "values, 1, got")):
        with pytest.raises(jhpo.InvalidArgument, match=f"objective: expected as many measured constraints.*{words}"):
            jhpo.minimize(Descent(evaluate), space, strategy, budget=8)
    if isinstance(strategy, jhpo.RandomSearch):
        with pytest.raises(jhpo.InvalidArgument, match=r"\['b', 'a'\], in this order, got .*\['a', 'b'\] with"):
            jhpo.minimize(Descent(swapped), space, strategy, budget=8, directions=["minimize", "minimize"])
        named = {"a": "minimize", "b": "minimize"}
        found = jhpo.minimize(Descent(swapped), space, strategy, budget=8, directions=named)
        np.testing.assert_allclose(found.history.values[:, 1], 1.0)
