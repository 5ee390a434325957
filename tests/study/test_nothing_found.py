"""Searches without a single success: a study says so as `minimize` does, once, on the line that called."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import pytest

import jhpo
from jhpo.errors import InvalidArgument, JhpoError, NothingFound

SPACE = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})


def lost(params):
    return params["width"]


def stopped(params, trial):
    trial.report(1, 1.0)
    raise jhpo.TrialPruned


def mixed(params, trial):
    return stopped(params, trial) if trial.id else lost(params)


class Diverges:
    steps = 4

    def init(self, hp, key):
        return hp["x"]

    def step(self, hp, state, key):
        return state * jnp.nan

    def evaluate(self, hp, state):
        return state


CASES = {
    "host": (jhpo.host(lost), r"all 4 evaluations failed, so there is no best; 4 times: KeyError: 'width' \(line"),
    "JAX": (lambda hp: jnp.nan * hp["x"], r"all 4 values are NaN or .* no best; call the objective with \{'x'"),
    "trainable": (Diverges(), r"all 4 values are NaN or .* no best; call the objective with \{'x'"),
    "infeasible": (
        lambda hp: {"value": hp["x"], "constraint": -1.0},
        "none of 4 evaluations meets the constraints, so",
    ),
    "stopped": (jhpo.host(stopped), "all 4 evaluations were stopped early, so there is no best"),
    "mixed": (jhpo.host(mixed), "none of 4 evaluations succeeded: some failed, some were stopped early, .*; 1 time:"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_study_and_minimize_say_the_same(case):
    objective, words = CASES[case]
    study = jhpo.Study(SPACE, jhpo.RandomSearch(2))
    with pytest.warns(NothingFound, match=words) as said:
        study.optimize(objective, budget=4)
    assert len(said) == 1 and said[0].filename == __file__
    with pytest.raises(JhpoError, match=r"no successful trial yet: (all|none of) 4"):
        _ = study.best
    with pytest.warns(NothingFound, match=words) as said:
        jhpo.minimize(objective, SPACE, jhpo.RandomSearch(2), budget=4)
    assert len(said) == 1 and said[0].filename == __file__


@pytest.mark.parametrize("name", ["pbt(population=4)", "successive-halving"])
def test_members_that_are_paused_and_all_diverge(name):
    with pytest.warns(NothingFound, match="values are NaN or infinite, so there is no best"):
        jhpo.Study(SPACE, name).optimize(Diverges(), generations=4)


def test_what_was_found_before_counts_and_everything_is_stored_first(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", NothingFound)
        study = jhpo.Study(SPACE, jhpo.RandomSearch(2))
        study.absorb([{"x": 0.5}], [1.0])
        study.optimize(jhpo.host(lost), budget=4)
        empty = jhpo.Study(SPACE, jhpo.RandomSearch(2), tmp_path / "e.db")
        with pytest.raises(NothingFound):
            empty.optimize(jhpo.host(lost), budget=4)
    assert len(empty.failures) == 4
    with pytest.warns(NothingFound, match="so there is no best"):  # nothing is left to do
        empty.optimize(jhpo.host(lost), budget=4)
    assert "No trial has succeeded yet." in empty.page()


def test_several_objectives_have_no_front():
    study = jhpo.Study(SPACE, jhpo.NSGA2(4), directions=["minimize", "minimize"])
    with pytest.warns(NothingFound, match="none of 4 evaluations meets the constraints, so there is no front"):
        study.optimize(lambda hp: {"value": (hp["x"], hp["x"]), "constraint": -1.0}, budget=4)
    with pytest.raises(JhpoError, match="no successful trial yet: none of 4 evaluations meets the constraints"):
        study.knee()
    assert "yet: none of 4 evaluations meets the constraints." in study.page()


def test_an_objective_that_is_refused_is_refused_alone():
    with warnings.catch_warnings(), pytest.raises(InvalidArgument, match="budget"):
        warnings.simplefilter("error")
        jhpo.Study(SPACE).optimize(jhpo.host(lost), budget=0)
