"""Optuna studies in and out, and strategies as its sampler."""

from __future__ import annotations

import math

import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument

optuna = pytest.importorskip("optuna")
from jhpo.interop.optuna import JhpoSampler, distribution_of, from_optuna, parameter_of, to_optuna  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)


def mixed(trial):
    x = trial.suggest_float("x", 1e-3, 1e1, log=True)
    n = trial.suggest_int("n", 1, 9, step=2)
    kind = trial.suggest_categorical("kind", ["a", None, 3])
    step = trial.suggest_float("step", 0.0, 1.0, step=0.25)
    if trial.number == 2:
        raise RuntimeError("broken")
    return (math.log10(x) + 1.0) ** 2 + (n - 5) ** 2 / 10 + (kind is not None) + step


def test_a_study_and_back():
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1), direction="maximize")
    source.optimize(mixed, n_trials=12, catch=RuntimeError)
    study = from_optuna(source, strategy="random")
    assert len(study) == 12 and study.direction == "maximize" and len(study.failures) == 1
    assert study.best.value == source.best_value
    assert study.best.params == pytest.approx(source.best_params) or study.best.params == source.best_params
    back = to_optuna(study)
    assert back.best_value == source.best_value and back.best_params == source.best_params
    assert [t.state for t in back.trials] == [t.state for t in source.trials]


def test_arrays_conditions_and_values_optuna_cannot_store():
    space = jhpo.Space({
        "w": jhpo.Float(0.0, 1.0, shape=(2,)), "net": jhpo.Choice([(8, 8), (16,)]),
        "b": jhpo.Float(0.0, 1.0, when={"net": [(16,)]}),
    })  # fmt: skip
    study = jhpo.Study(space, "random", seed=3)
    for trial in study.ask(8):
        study.tell(trial, float(np.sum(trial.params["w"])))
    made = to_optuna(study)
    assert {"w[0]", "w[1]", "net"} <= set(made.best_params)
    assert {t.params["net"] for t in made.trials} <= {"(8, 8)", "(16,)"}
    assert all(("b" in t.params) == (t.params["net"] == "(16,)") for t in made.trials)


@pytest.mark.parametrize(
    "parameter", [jhpo.Float(0.5, 2.0, log=True), jhpo.Int(2, 10, step=4), jhpo.Choice(["a", "b"])], ids=repr
)
def test_parameters_round_trip(parameter):
    assert parameter_of("p", distribution_of("p", parameter)).key == parameter.key


def test_a_sampler_learns_from_all_trials_and_beats_chance():
    def objective(trial):
        return sum((trial.suggest_float(f"x{i}", -1.0, 1.0) - 0.3) ** 2 for i in range(4))

    def run(sampler):
        study = optuna.create_study(sampler=sampler)
        study.enqueue_trial({f"x{i}": 0.5 for i in range(4)})
        study.optimize(objective, n_trials=60)
        return study

    mine = run(JhpoSampler(jhpo.CMAES(8), seed=0))
    assert mine.best_value < run(optuna.samplers.RandomSampler(seed=0)).best_value
    assert len({tuple(t.params.values()) for t in mine.trials}) == 60


def test_a_sampler_with_a_conditional_space_and_failures():
    space = jhpo.Space({"k": jhpo.Choice(["p", "q"]), "y": jhpo.Float(0.0, 1.0, when={"k": "q"})})

    def objective(trial):
        kind = trial.suggest_categorical("k", ["p", "q"])
        if trial.number % 5 == 0:
            raise optuna.TrialPruned
        return 1.0 if kind == "p" else trial.suggest_float("y", 0.0, 1.0)

    study = optuna.create_study(sampler=JhpoSampler(jhpo.PSO(8), space=space, seed=0))
    study.optimize(objective, n_trials=40, n_jobs=2)
    assert study.best_value < 0.2


def test_bad_input():
    several = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(InvalidArgument, match="single objective"):
        from_optuna(several)
    with pytest.raises(InvalidArgument, match="at least one finished trial"):
        from_optuna(optuna.create_study())
    partly = optuna.create_study()
    partly.optimize(lambda t: t.suggest_float(f"x{t.number}", 0.0, 1.0), n_trials=2)
    with pytest.raises(InvalidArgument, match="conditions"):
        from_optuna(partly)
    with pytest.raises(InvalidArgument, match="w: expected a scalar"):
        JhpoSampler(space=jhpo.Space({"w": jhpo.Float(0.0, 1.0, shape=(2,))}))
