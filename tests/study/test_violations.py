"""A constraint that is NaN is violated, wherever it is measured."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})
BOUNDED = jhpo.Space({"x": jhpo.Float(0.0, 1.0)}, constraints=[lambda hp: jnp.log(hp["x"] - 0.5) + 20.0])


def traced(hp):
    return {"value": hp["x"], "constraint": jnp.where(hp["x"] < 0.5, jnp.nan, 1.0)}


def fronts(hp):
    return {"a": hp["x"], "b": hp["y"], "constraint": jnp.where(hp["x"] < 0.5, jnp.nan, 1.0)}


def on_host(params):
    return {"value": params["x"], "constraint": [np.nan if params["x"] < 0.5 else 1.0]}


class Training:
    steps = 4

    def init(self, hp, key):
        return hp["x"]

    def step(self, hp, state, t):
        return state

    def evaluate(self, hp, state):
        return traced({"x": state})


OBJECTIVES = {"traced": traced, "host": jhpo.host(on_host), "training": Training()}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("strategy", [jhpo.PSO(16), jhpo.SobolSearch(16)])
def test_a_measured_constraint_that_is_nan_is_violated(name, strategy):
    study = jhpo.Study(SPACE, strategy)
    study.optimize(OBJECTIVES[name], budget=64)
    assert study.best.value >= 0.5 and not study.failures
    assert jhpo.minimize(OBJECTIVES[name], SPACE, strategy, budget=64).value >= 0.5


def test_nan_is_violated_in_a_front_and_with_ask_and_tell():
    ways = {"a": "minimize", "b": "minimize"}
    front = jhpo.minimize(fronts, SPACE, jhpo.NSGA2(16), budget=32, directions=ways).pareto()
    assert min(point.values["a"] for point in front) >= 0.5
    study = jhpo.Study(SPACE, "random")
    for trial, limit in zip(study.ask(2), (np.nan, 1.0)):
        study.tell(trial, {"value": limit if limit == 1.0 else 0.0, "constraint": limit})
    assert study.best.value == 1.0


def test_bayesian_optimisation_leaves_a_region_of_nan():
    study = jhpo.Study(SPACE, jhpo.BayesOpt())
    study.optimize(traced, budget=12)
    assert study.best.value >= 0.5


def test_a_constraint_of_the_space_that_is_nan_is_violated():
    assert BOUNDED.constraint({"x": jnp.float32(0.25)}).tolist() == [-jnp.inf]
    for study in (jhpo.Study(BOUNDED, jhpo.PSO(16)), jhpo.Study(BOUNDED, "random")):
        study.absorb([{"x": 0.25}], [0.25])
        study.optimize(lambda hp: hp["x"], budget=128)
        assert study.best.value >= 0.5
    _, trace = jhpo.run(jhpo.PSO(16), lambda hp: hp["x"], BOUNDED, 8, jax.random.key(0))
    assert trace.lowest()[1] >= 0.5
