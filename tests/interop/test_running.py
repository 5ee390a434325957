"""Optuna objectives, unchanged, in jhpo studies; each value is checked with Optuna's own FixedTrial."""

from __future__ import annotations

import math

import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument, InvalidSpace, StorageError
from jhpo.trial import TrialState
from tests.study.studies import assert_same

optuna = pytest.importorskip("optuna")
from jhpo.interop.optuna import JhpoSampler, run, to_optuna  # noqa: E402
from tests.interop.test_define_by_run import conditions, network  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)
RANDOM = jhpo.RandomSearch(4)


def assert_true_values(study, objective):
    for trial in (study[i] for i in range(len(study))):
        assert trial.value == objective(optuna.trial.FixedTrial(trial.params))


@pytest.mark.parametrize(("strategy", "workers"), [(jhpo.PSO(4), 1), (RANDOM, 2)])
def test_a_conditional_objective(strategy, workers):
    study = run(network, 40, strategy, seed=1, trace=12, workers=workers)
    assert len(study) == study.evaluations == 40 and not study.failures
    assert_true_values(study, network)
    found = conditions(study.space)
    assert found["b2"] == {"opt": ("adam",)} and found["units2"] == {"layers": (3,)} and not found["lr"]
    assert to_optuna(study).best_value == study.best.value


def test_a_space_that_grows_begins_anew_with_every_result():
    heard = []
    study = run(network, 24, RANDOM, seed=0, trace=1, callback=lambda update: heard.append(update.evaluations))
    assert len(study) == study.evaluations == 24 and heard[-1] == 24
    assert_true_values(study, network)
    assert {"units0", "units1", "units2", "b2", "momentum", "eps"} <= set(study.space.names)


def test_a_space_that_grows_twice_keeps_every_call():
    called = []

    def objective(trial):
        called.append(trial.suggest_float("x", -1.0, 1.0))
        more = [trial.suggest_float(name, 0.0, 1.0) for name, at in (("y", 8), ("z", 16)) if len(called) > at]
        return called[-1] ** 2 + sum(more)

    study = run(objective, 24, RANDOM, trace=4)
    assert study.space.names == ("x", "y", "z") and len(called) == len(study) == 24
    assert [study[i].params["x"] for i in range(24)] == called


def test_none_is_a_choice():
    def objective(trial):
        kind = trial.suggest_categorical("kind", ["a", None, True])
        return trial.suggest_float("x", 0.0, 1.0) + (kind is not None)

    study = run(objective, 12, RANDOM, trace=4)
    assert not study.failures and study.best.params["kind"] is None
    source = optuna.create_study(sampler=JhpoSampler(RANDOM, space=jhpo.Space({"kind": jhpo.Choice([None])})))
    source.optimize(lambda trial: float(trial.suggest_categorical("kind", ["a", None]) is None), 12)
    assert all(trial.params["kind"] is None for trial in source.trials)


def learning(trial):
    """A curve that ends at x^2, pruned by the rule; some prune themselves, some fail."""
    x = trial.suggest_float("x", -1.0, 1.0)
    if x > 0.9:
        raise optuna.TrialPruned
    if x < -0.9:
        raise ValueError("too far")
    for step in range(4):
        trial.report(x**2 + 1.0 / (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("steps", 4)
    assert trial.user_attrs == {"steps": 4} and trial.params == {"x": x}
    with pytest.warns(UserWarning, match="model: expected JSON"):
        trial.set_user_attr("model", learning)
    assert trial.user_attrs == {"steps": 4, "model": learning}
    return x**2 + 0.25


def test_pruning_and_failures(tmp_path):
    rule = "median(min_trials=2)"  # or an instance
    study = run(learning, 40, RANDOM, early_stop=rule, storage=tmp_path / "a.db", seed=3, trace=6)
    seen = {state: 0 for state in TrialState}
    for trial in (study[i] for i in range(40)):
        x = trial.params["x"]
        seen[trial.status] += 1
        if x < -0.9:
            assert trial.reason.startswith("ValueError: too far")
        elif x <= 0.9:
            reported = 4 if trial.status is TrialState.COMPLETE else len(trial.curve)
            assert trial.curve == {s: x**2 + 1.0 / (s + 1) for s in range(reported)} and reported > 0
            assert trial.status is TrialState.COMPLETE or trial.id >= 6  # the first calls run to their end
            assert trial.notes == ({"steps": 4} if trial.status is TrialState.COMPLETE else {})
    assert seen[TrialState.PRUNED] > 3 and seen[TrialState.COMPLETE] > 6 and seen[TrialState.FAILED] > 0
    assert study.best.status is TrialState.COMPLETE


def test_stored_studies_resume_and_refuse_another_space(tmp_path):
    calls = []

    def objective(trial):
        calls.append(trial.number)
        x = trial.suggest_float("x", -1.0, 1.0)
        return x**2 + (trial.suggest_float("late", 0.0, 1.0) if len(calls) > 60 else 0.0)

    alone = run(objective, 20, jhpo.PSO(4), seed=2)
    path = tmp_path / "a.db"
    run(objective, 11, jhpo.PSO(4), seed=2, storage=path).close()
    with pytest.raises(StorageError, match="holds a study already"):
        run(objective, 20, jhpo.PSO(4), seed=2, storage=path)
    assert len(calls) == 31 and calls[-1] == 10  # refused before any call
    study = run(objective, 20, jhpo.PSO(4), seed=2, storage=path, resume=True)
    assert_same(study, alone)
    calls += [0] * 60
    with pytest.raises(InvalidSpace, match=r"suggest\('late'\): expected a parameter of this point of the space"):
        run(objective, 24, jhpo.PSO(4), seed=2, storage=path, resume=True)
    for name, other in (("seed", 3), ("direction", "maximize")):
        with pytest.raises(InvalidArgument, match=f"{name}: expected that of the stored study"):
            run(objective, 24, jhpo.PSO(4), storage=path, resume=True, **{"seed": 2, name: other})
    with pytest.raises(InvalidSpace, match="late"):
        run(objective, 24, RANDOM, space=jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}))


def test_several_objectives_with_constraints_and_a_given_space():
    def objective(trial):
        x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_int("y", 0, 4, step=2)
        trial.set_constraint("small", x - 0.5)
        return x + y, 1.0 - x

    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Ordinal([0, 2, 4])})
    study = run(objective, 24, RANDOM, directions=["minimize", "minimize"], space=space)
    assert all(t.params["x"] <= 0.5 and t.params["y"] == 0 for t in study.pareto()) and len(study.pareto()) > 1
    found = study.history.table.extra["constraint"].array[:, 0]
    np.testing.assert_allclose(found, [0.5 - study[i].params["x"] for i in range(24)])


def test_bad_input():
    with pytest.raises(InvalidSpace, match=r"objective: expected calls of trial\.suggest_float.*got \"KeyError"):
        run(lambda trial: {}["no such key"], 4)
    with pytest.raises(InvalidSpace, match="k: expected the same distribution in every call"):
        run(lambda trial: trial.suggest_int("k", 0, 1 + trial.number), 4)
    for strategy in ("hypergradient", "freeze-thaw"):
        with pytest.raises(InvalidArgument, match="strategy: expected one that learns from values"):
            run(network, 4, strategy)
    with pytest.raises(InvalidArgument, match="early_stop: expected one of"):
        run(network, 4, RANDOM, early_stop="mean")
    with pytest.raises(InvalidArgument, match="budget"):
        run(network, 0)
    space = jhpo.Space({"x": jhpo.Float(0, 1)})
    study = run(lambda trial: trial.report(math.nan, 1) or trial.suggest_float("x", 0, 1), 4, RANDOM, space=space)
    assert all("value: expected a finite number" in t.reason for t in study.failures) and len(study.failures) == 4
