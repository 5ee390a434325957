"""The number of measured constraints: found out where the objective can be traced, asked for where it cannot."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.strategies.base import Evaluation, static_field, strategy
from jhpo.strategies.random import RandomState

SPACE = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}, constraints=[lambda hp: hp["x"] + 2.0])
SAYS = r"constraints \(2\) that the search does not learn, .*BayesOpt\(constraints=2\)"


@strategy
class Learning(jhpo.RandomSearch):
    """Random points that say how many constraints the strategy learns."""

    constraints: int = static_field(default=0)

    def measuring(self, constraints: int) -> Any:
        known = self.constraints or not constraints
        return self if known else type(self)(self.population, constraints=constraints)

    def ask(self, state: RandomState, key: jax.Array) -> tuple[jax.Array, RandomState]:
        return jnp.full((self.population, 1), 0.25 * self.constraints), state


def limited(hp: dict[str, Any]) -> dict[str, Any]:
    return {"value": hp["x"] ** 2, "constraint": jnp.stack([hp["x"] + 0.5, 0.5 - hp["x"]])}


def on_host(params: dict[str, Any]) -> dict[str, Any]:
    return {"value": params["x"] ** 2, "constraint": [params["x"] + 0.5, 0.5 - params["x"]]}


def test_a_traced_objective_says_how_many_it_measures(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    _, trace = jhpo.run(Learning(2), limited, SPACE, 1, jax.random.key(0))
    assert trace.units.ravel().tolist() == [0.5, 0.5]
    chain = jhpo.Chain(Learning(2), Learning(2), evaluations=2, horizon=1.0)
    for made in (Learning(2), chain):
        assert jhpo.minimize(limited, SPACE, made, budget=2).history.units.ravel().tolist() == [0.5] * 2
    with jhpo.Study(SPACE, Learning(2), path) as study:
        study.enqueue({"x": 0.5})
        study.optimize(limited, budget=3)
    with jhpo.Study(SPACE, Learning(2), path, resume=True) as study:  # and one that is opened again knows it
        (trial,) = study.ask(1)
        assert trial.unit.tolist() == [0.5]
        study.tell(trial, error="lost")
        study.optimize(limited, budget=6)
        assert [t.unit.tolist() for t in study][1:] == [[0.5]] * 5


def test_where_nobody_can_know_it_there_is_a_warning() -> None:
    study = jhpo.Study(SPACE, Learning(2))
    for trial in study.ask(2):
        study.tell(trial, on_host(trial.params))
    with pytest.warns(UserWarning, match=SAYS):
        study.ask(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once
        for trial in study.ask(1):
            study.tell(trial, on_host(trial.params))
        study.ask(2)
        study = jhpo.Study(SPACE, Learning(2, constraints=2))
        study.optimize(jhpo.host(on_host), budget=4)
        study = jhpo.Study(SPACE, jhpo.RandomSearch(2))  # does not look at them
        study.optimize(jhpo.host(on_host), budget=4)
    with pytest.warns(UserWarning, match=SAYS):
        jhpo.minimize(jhpo.host(on_host), SPACE, Learning(2), budget=4)


def test_bayesopt_learns_them_or_warns() -> None:
    made = jhpo.BayesOpt(capacity=32)
    assert made.measuring(2) == jhpo.BayesOpt(capacity=32, constraints=2)
    assert made.measuring(0) is made and made.measuring(2).measuring(3) == made.measuring(2)
    chain = jhpo.Chain(jhpo.PSO(4), jhpo.BayesOpt())
    assert chain.measuring(1).polish.constraints == 1 and jhpo.PSO(4).measuring(1) == jhpo.PSO(4)
    result = Evaluation(jnp.zeros(1), constraint=jnp.ones((1, 3)))  # the first is the space's

    def told(strategy: jhpo.BayesOpt) -> Any:
        state = strategy.init(SPACE, jax.random.key(0))
        return strategy.tell(state, jnp.full((1, 1), 0.5), result).history.constraint

    with pytest.warns(UserWarning, match=SAYS):
        jax.eval_shape(lambda: told(made))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jax.eval_shape(lambda: told(made.measuring(2))).shape == (32, 2)
        jax.eval_shape(lambda: told(made.measuring(2)))
    assert np.shape(result.constraint) == (1, 3)


@pytest.mark.slow
def test_huge_violations_and_units_do_not_hide_where_a_constraint_is_met() -> None:
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})

    def disk(hp: dict[str, Any]) -> dict[str, Any]:
        slack = 0.3 - jnp.hypot(hp["x"] - 0.2, hp["y"] - 0.2)
        slack = jnp.where(hp["x"] > 0.8, 1e6 * slack, slack)
        return {"value": -hp["x"] - hp["y"], "constraint": 1e25 * slack}

    _, trace = jax.jit(lambda key: jhpo.run(jhpo.BayesOpt(constraints=1), disk, space, 25, key))(jax.random.key(0))
    feasible = (np.asarray(trace.constraint) >= 0).all(axis=-1)
    assert np.asarray(trace.value)[feasible].min() < -0.75  # the best is -0.824
