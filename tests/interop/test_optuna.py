"""Optuna studies in and out, and strategies as its sampler."""

from __future__ import annotations

import math
import pickle  # noqa: TID251 what Optuna's users do with samplers

import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument

optuna = pytest.importorskip("optuna")
from jhpo.interop.optuna import JhpoSampler, distribution_of, from_optuna, parameter_of, run, to_optuna  # noqa: E402
from tests.selection import slow_except  # noqa: E402

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


@pytest.mark.slow
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
    with pytest.raises(InvalidArgument, match="at least one finished trial"):
        from_optuna(optuna.create_study())
    moving = optuna.create_study()
    moving.optimize(lambda t: t.suggest_float("x", 0.0, 1.0 + t.number), n_trials=2)
    with pytest.raises(InvalidArgument, match="x: expected the same distribution"):
        from_optuna(moving)
    with pytest.raises(InvalidArgument, match="w: expected a scalar"):
        JhpoSampler(space=jhpo.Space({"w": jhpo.Float(0.0, 1.0, shape=(2,))}))


def grid(name, *values):
    return jhpo.Space({name: jhpo.Ordinal(list(values))})


@pytest.mark.parametrize("strategy", slow_except({"random", "grid"}, ["random", "grid", "bayes"]))
def test_more_trials_than_a_finite_space_has_points(strategy):
    study = optuna.create_study(sampler=JhpoSampler(strategy, space=jhpo.Space({"k": jhpo.Choice(["a", "b", "c"])})))
    study.optimize(lambda t: float(t.suggest_categorical("k", ["a", "b", "c"]) == "b"), n_trials=9)
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 9
    assert strategy == "random" or len({t.params["k"] for t in study.trials[:3]}) == 3


@pytest.mark.parametrize(
    ("space", "suggest"),
    [
        (grid("v", 0.0, 0.25, 0.5, 0.75, 1.0), lambda t: t.suggest_float("v", 0.0, 1.0, step=0.25)),
        (grid("v", 0.0, 0.25, 0.5, 0.75, 1.0), lambda t: t.suggest_categorical("v", [0.0, 0.25, 0.5, 0.75, 1.0])),
        (grid("v", 1, 2, 4), lambda t: t.suggest_int("v", 1, 4)),
        (jhpo.Space({"v": jhpo.Float(0.0, 1.0)}), lambda t: t.suggest_float("v", 0.0, 1.0, step=0.25)),
        (jhpo.Space({"v": jhpo.Float(1e-3, 1.0, log=True)}), lambda t: t.suggest_float("v", 1e-3, 1.0)),
        (jhpo.Space({"v": jhpo.Int(1, 8)}), lambda t: t.suggest_int("v", 1, 64, log=True)),
        (jhpo.Space({"v": jhpo.Int(0, 3)}), lambda t: t.suggest_float("v", 0.0, 3.0, step=1.0)),
    ],
)
def test_a_space_of_ones_own_serves_any_kind_of_suggestion(space, suggest):
    study = optuna.create_study(sampler=JhpoSampler(jhpo.Greedy(4), space=space, seed=1))
    study.optimize(suggest, n_trials=24)
    proposed = {t.value for t in study.trials}
    assert min(proposed) == study.best_value <= 1 and len(proposed) >= 3
    for value in proposed:
        space.encode({"v": value})


def test_values_that_others_fixed_are_what_the_strategy_learns_from():
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})
    sampler = JhpoSampler(jhpo.RandomSearch(4), space=space, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({"x": 0.125})
    study.enqueue_trial({"x": 0.25, "y": 0.5})
    study.optimize(lambda t: t.suggest_float("x", 0.0, 1.0) + t.suggest_float("y", 0.0, 1.0), n_trials=6)
    inner = sampler.inner
    told = {(t.params["x"], t.params["y"]): t.value for t in inner.top(20)}
    assert told == {(t.params["x"], t.params["y"]): t.value for t in study.trials}


@pytest.mark.parametrize(
    "strategy", [jhpo.PSO(4), jhpo.SobolSearch(8), jhpo.GridSearch(5)], ids=["pso", "sobol", "grid"]
)
@pytest.mark.parametrize("how", ["new", "pickled"])
def test_another_sampler_of_the_same_seed_goes_on_with_other_points(strategy, how):
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})

    def objective(trial):
        return trial.suggest_float("x", 0.0, 1.0) * trial.suggest_float("y", 0.0, 1.0)

    for given in (space, None):
        study = optuna.create_study(sampler=JhpoSampler(strategy, space=given, seed=3))
        study.optimize(objective, n_trials=8)
        again = JhpoSampler(strategy, space=given, seed=3) if how == "new" else study.sampler
        study.sampler = pickle.loads(pickle.dumps(again))  # noqa: S301 our own bytes
        study.optimize(objective, n_trials=8)
        assert len({tuple(t.params.values()) for t in study.trials}) == 16
        same = optuna.create_study(sampler=JhpoSampler(strategy, space=given, seed=3))
        same.optimize(objective, n_trials=8)
        assert [t.params for t in same.trials] == [t.params for t in study.trials[:8]]


@pytest.mark.parametrize("strategy", ["hypergradient", "chain", jhpo.Chain("random", "bayes"), 3])
def test_strategies_that_values_alone_do_not_serve_are_refused(strategy):
    with pytest.raises(InvalidArgument, match="strategy"):
        JhpoSampler(strategy)


def test_several_objectives_as_a_sampler():
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=JhpoSampler(jhpo.NSGA2(4), seed=0))
    study.optimize(lambda t: (t.suggest_float("x", 0.0, 1.0), t.params["x"]), n_trials=10)
    assert len(study.best_trials) == 10  # on a line nothing dominates
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=JhpoSampler("pso"))
    with pytest.raises(InvalidArgument, match="strategy: expected one for several objectives"):
        study.optimize(lambda t: (t.suggest_float("x", 0.0, 1.0), 0.0), n_trials=1)


@pytest.mark.skipif(not hasattr(optuna.Trial, "set_constraint"), reason="an older Optuna")
def test_a_sampler_learns_the_constraints_of_its_own_trials():
    def objective(trial):
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_constraint("half", x - 0.5)
        return -x

    study = optuna.create_study(sampler=JhpoSampler(jhpo.RandomSearch(4), seed=0))
    study.enqueue_trial({"x": 0.75})
    study.optimize(objective, n_trials=12)
    inner = study.sampler.inner
    found = inner.history.table.extra["constraint"].array[:, 0]
    assert found.tolist() == [0.5 - t.params["x"] for t in inner] and len(inner) == 12
    assert max(t.params["x"] for t in study.trials) > 0.5 >= inner.best.params["x"]


def test_several_objectives_and_constraints_there_and_back() -> None:
    source = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=0))
    source.optimize(lambda t: (t.suggest_float("x", -1.0, 1.0) ** 2, t.params["x"]), n_trials=6)
    mine = from_optuna(source, strategy="random")
    assert mine.directions == ("minimize", "maximize")
    assert [t.values for t in (mine[i] for i in range(6))] == [tuple(t.values) for t in source.trials]
    assert sorted(t.id for t in mine.pareto()) == sorted(t.number for t in source.best_trials)
    (asked,) = mine.ask(1)
    mine.tell(asked, {"value": (0.5, 0.5), "constraint": [-1.0]})
    back = to_optuna(mine)
    assert [d.name for d in back.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert back.trials[6].values == [0.5, 0.5] and back.trials[6].system_attrs["constraints"] == [1.0]
    again = from_optuna(back, strategy="random")
    assert again.history.table.extra["constraint"].array[6].tolist() == [-1.0]
    with pytest.raises(InvalidArgument, match="one for several objectives"):
        from_optuna(source, strategy="pso")


@pytest.mark.parametrize("seed", [None, -1, 0.5, "a"])
def test_a_seed_that_is_none_is_named_at_once(seed):
    for make in (lambda: JhpoSampler("random", seed=seed), lambda: run(len, 4, seed=seed)):
        with pytest.raises(InvalidArgument, match="seed: expected an integer"):
            make()
