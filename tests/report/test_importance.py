"""Importance beside Optuna's evaluators on the same trials, and in the cases where it has nothing to say."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

import jhpo
from jhpo.report.fanova import fanova
from jhpo.report.importance import importance_with_errors
from tests.report.studies import absorbed, mixed

SPACE = jhpo.Space({"x": jhpo.Float(1e-4, 1.0, log=True), "y": jhpo.Float(-1.0, 1.0), "idle": jhpo.Float(0.0, 1.0),
                    "kind": jhpo.Choice(["a", "b", "c"])})  # fmt: skip


def value(hp):
    return (np.log10(hp["x"]) + 2) ** 2 + 0.8 * hp["y"] ** 2 + {"a": 0.0, "b": 0.5, "c": 1.5}[hp["kind"]]


@pytest.fixture(scope="module")
def study() -> jhpo.Study:
    return absorbed(SPACE, value, 200)


def test_values_of_a_logarithmic_integer_are_told_apart():
    """What a parameter matters depends on its values, not on how wide they are."""
    logarithmic, listed = (jhpo.Space({"n": kind, "idle": jhpo.Float(0.0, 1.0)})
                           for kind in (jhpo.Int(1, 4, log=True), jhpo.Ordinal([1, 2, 3, 4])))  # fmt: skip
    study = absorbed(logarithmic, lambda hp: float(hp["n"] != 3) + 0.1 * hp["idle"], 200)
    other = jhpo.Study(listed, "random")
    other.absorb(study, [trial.value for trial in study])
    assert study.importance() == pytest.approx(other.importance()) and study.importance()["n"] > 0.8


@pytest.fixture(scope="module")
def peer(study):
    """The same trials in Optuna."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges = {
        "x": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "y": optuna.distributions.FloatDistribution(-1.0, 1.0),
        "idle": optuna.distributions.FloatDistribution(0.0, 1.0),
        "kind": optuna.distributions.CategoricalDistribution(["a", "b", "c"]),
    }
    other = optuna.create_study()
    for i in range(len(study)):
        trial = study[i]
        other.add_trial(optuna.trial.create_trial(params=trial.params, distributions=ranges, value=trial.value))
    return other


def test_fanova_agrees_with_optunas(study, peer):
    ours = fanova(study.trials)
    theirs = optuna.importance.get_param_importances(
        peer, evaluator=optuna.importance.FanovaImportanceEvaluator(n_trees=16, seed=0)
    )
    total = sum(s.share for s in ours.values())
    for name, share in theirs.items():
        assert ours[name].share / total == pytest.approx(share, abs=0.03), name
    assert total < 1.0 and all(0 <= s.error < 0.05 for s in ours.values())


def test_ped_anova_agrees_with_optunas(study, peer):
    """For numbers; Optuna smooths categories as if there were as many trials as categories."""
    ours = importance_with_errors(study.trials)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    theirs = optuna.importance.get_param_importances(peer, evaluator=evaluator)
    numbers = ("x", "y", "idle")
    (mine, total), (other, whole) = ((d, sum(d[n] for n in numbers)) for d in (study.importance(), theirs))
    assert {n: mine[n] / total for n in numbers} == pytest.approx({n: other[n] / whole for n in numbers}, abs=0.03)
    assert {n: s.share for n, s in ours.items()} == mine
    assert ours["x"].share > 3 * ours["x"].error > 0
    # the category by hand: the divergence of shares among the best 20 from those among all
    ids = study.trials.table.ranked(1.0)
    kind = (study.trials.table.unit.array[ids, study.space.names.index("kind")] * 3).astype(int)
    top, every = (np.bincount(k, minlength=3) / len(k) for k in (kind[:20], kind))
    unit = study.trials.table.unit.array[ids, study.space.names.index("x")]
    grid = [np.histogram(u, np.linspace(0, 1, 9))[0] / len(u) for u in (unit[:20], unit)]
    ratio = ((top - every) ** 2 / every).sum() / ((grid[0] - grid[1]) ** 2 / grid[1]).sum()
    assert ours["kind"].share / ours["x"].share == pytest.approx(ratio, rel=0.4)


def test_what_was_inactive_or_constant_has_no_share():
    study = mixed(count=200)
    for found in (fanova(study.trials), importance_with_errors(study.trials)):
        assert found["lr"].share > 0.5 and found["b2"].share < 0.1
    constant = absorbed(SPACE, lambda hp: 1.0, 20)
    for found in (fanova(constant.trials), importance_with_errors(constant.trials)):
        assert all(s == (0.0, 0.0) for s in found.values())
    with pytest.raises(jhpo.JhpoError, match="at least 8 successful"):
        fanova(absorbed(SPACE, value, 5).trials)


def test_shares_of_many_trials_are_those_of_their_cells():
    """Above a thousand trials, kernels are put on a fine grid: nearly the same shares."""
    few, many = absorbed(SPACE, value, 1000), absorbed(SPACE, value, 1100)
    assert many.importance() == pytest.approx(few.importance(), abs=0.1)
