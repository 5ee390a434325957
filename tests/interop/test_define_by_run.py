"""Spaces of objectives that suggest their parameters as they run, and conditional studies of Optuna."""

from __future__ import annotations

import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidSpace

optuna = pytest.importorskip("optuna")
from jhpo.interop.define_by_run import Asked, traced_space  # noqa: E402
from jhpo.interop.optuna import from_optuna, to_optuna  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)


def network(trial):
    """Layers by number, an optimiser with parameters of its own, and one that only a deep net with adam has."""
    layers = trial.suggest_int("layers", 1, 3)
    total = sum(trial.suggest_int(f"units{k}", 4, 64, log=True) for k in range(layers)) / 64
    opt = trial.suggest_categorical("opt", ["sgd", "adam"])
    total += trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    if opt == "adam":
        total += trial.suggest_float("b2", 0.9, 0.99)
        if trial.suggest_categorical("amsgrad", [False, True]):
            total += trial.suggest_float("eps", 1e-8, 1e-3, log=True)
    else:
        total += trial.suggest_float("momentum", 0.0, 0.95, step=0.05)
    return total


def asked(*calls):
    """Calls from values by name; every name has the distribution of its kind."""
    kinds = {
        "n": optuna.distributions.IntDistribution(0, 5),
        "kind": optuna.distributions.CategoricalDistribution(["a", "b", "c"]),
        "x": optuna.distributions.FloatDistribution(0.0, 1.0),
        "y": optuna.distributions.FloatDistribution(0.0, 1.0),
        "wide": optuna.distributions.IntDistribution(0, 100_000),
    }
    return [Asked({name: kinds[name] for name in call}, call) for call in calls]


def conditions(space):
    return {n: dict(p.when) if p.when else {} for n, p in zip(space.names, space.parameters)}


def test_conditional_studies_in_and_out():
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    source.optimize(network, n_trials=40)
    study = from_optuna(source, strategy="random")
    found = conditions(study.space)
    assert found["units1"] == {"layers": (2, 3)} and found["units2"] == {"layers": (3,)}
    assert found["b2"] == {"opt": ("adam",)} and found["momentum"] == {"opt": ("sgd",)}
    assert found["eps"] == {"amsgrad": (True,)} and found["amsgrad"] == {"opt": ("adam",)}
    assert not found["lr"] and not found["units0"] and not found["layers"] and not found["opt"]
    assert len(study) == 40 and study.best.value == source.best_value and study.best.params == source.best_params
    back = to_optuna(study)
    assert [t.params for t in back.trials] == [dict(sorted(t.params.items())) for t in source.trials]
    for trial in study.ask(8):
        assert ("units2" in trial.params) == (trial.params["layers"] == 3)


def test_conditions_from_few_calls():
    # values that no call had are taken for active; the parent is the one with the fewest values
    space = traced_space(asked({"n": 1, "kind": "a", "x": 0.5}, {"n": 2, "kind": "b"}, {"n": 3, "kind": "a", "x": 0.1}))
    assert conditions(space)["x"] == {"kind": ("a", "c")}
    # a value with and without it: no parent explains it, so it is always active
    space = traced_space(asked({"kind": "a", "x": 0.5}, {"kind": "a"}))
    assert conditions(space)["x"] == {}
    # a parent comes before its child, and a wide integer is none
    space = traced_space(asked({"x": 0.5, "kind": "a"}, {"kind": "b"}, {"wide": 7, "kind": "b"}))
    assert conditions(space)["x"] == {} and conditions(space)["wide"] == {}
    space = traced_space(asked({"wide": 7, "y": 0.5}, {"wide": 8}))
    assert conditions(space)["y"] == {}
    # a parent that is itself absent counts as not holding
    space = traced_space(asked({"kind": "a", "n": 1, "x": 0.5}, {"kind": "a", "n": 0}, {"kind": "b"}))
    assert conditions(space)["x"] == {"n": (1, 2, 3, 4, 5)} and conditions(space)["n"] == {"kind": ("a", "c")}


def test_what_only_some_trials_asked_for_without_a_reason_gets_its_default():
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    source.optimize(
        lambda t: t.suggest_float("x", 0, 1) + (t.suggest_float("y", 0, 1) if t.number % 2 else 0), n_trials=4
    )
    study = from_optuna(source, strategy="random")
    assert [study[i].params["y"] == 0.5 for i in range(4)] == [True, False, True, False]
    np.testing.assert_equal([study[i].params["x"] for i in range(4)], [t.params["x"] for t in source.trials])


@pytest.mark.skipif(not hasattr(optuna.trial.Trial, "set_constraint"), reason="since Optuna 5")
def test_constraints_by_name():
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial):
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_constraint("half", 0.5 - x)  # feasible where <= 0
        return x

    source.optimize(objective, n_trials=12)
    study = from_optuna(source, strategy="random")
    assert study.best.params["x"] == min(t.params["x"] for t in source.trials if t.params["x"] >= 0.5)


def test_spaces_that_cannot_be_read():
    other = optuna.distributions.FloatDistribution(0.0, 2.0)
    calls = [*asked({"x": 0.5}), Asked({"x": other}, {"x": 1.5})]
    with pytest.raises(InvalidSpace, match=r"x: expected the same distribution in every call .* suggest a share of it"):
        traced_space(calls)
    with pytest.raises(InvalidSpace, match="objective: expected calls of trial"):
        traced_space(asked({}))
    assert jhpo.Space({"x": jhpo.Float(0.0, 1.0)}) == traced_space(asked({"x": 0.5}))
