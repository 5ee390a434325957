"""Each stop rule fires when it should, not before, and says why."""

from __future__ import annotations

import math

import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument
from jhpo.search.stopping import Progress, StopRules

pytestmark = pytest.mark.quick


def progress(evaluations=64, generations=1, seconds=1.0, bests=(1.0,)):
    return Progress(evaluations, generations, seconds, bests[-1] if bests else math.nan, list(bests))


@pytest.mark.parametrize(
    ("rules", "before", "after", "word"),
    [
        (StopRules(evaluations=100), progress(99), progress(100), "evaluations"),
        (StopRules(generations=3), progress(generations=2), progress(generations=3), "generations"),
        (StopRules(seconds=2.0), progress(seconds=1.9), progress(seconds=2.0), "seconds"),
        (StopRules(target=0.5), progress(bests=(0.6,)), progress(bests=(0.5,)), "target"),
        (StopRules(patience=2), progress(bests=(1.0, 0.9, 0.9)), progress(bests=(1.0, 0.9, 0.9, 0.9)), "patience"),
        (StopRules(patience=1, tolerance=0.1), progress(bests=(1.0, 0.8)), progress(bests=(1.0, 0.95)), "tolerance"),
        (StopRules(tolerance=0.1), progress(bests=[1.0] * 20), progress(bests=[1.0] * 21), "tolerance"),
    ],
)
def test_rule_fires_at_its_limit_and_not_before(rules, before, after, word):
    assert rules.check(before) is None
    assert rules.check(after).startswith(word)


def test_no_rule_never_stops():
    assert StopRules().check(progress(10**9, 10**6, 1e9, [1.0] * 100)) is None


def test_failures_do_not_reach_a_target_and_first_success_is_an_improvement():
    nan = math.nan
    assert StopRules(target=0.5).check(progress(bests=(nan,))) is None
    assert StopRules(patience=1).check(progress(bests=(nan, 3.0))) is None
    assert StopRules(patience=1).check(progress(bests=(nan, nan))) == "patience: no improvement in 1 generation"


@pytest.mark.parametrize(
    "bad",
    [
        {"evaluations": 0}, {"generations": -1}, {"patience": 0}, {"evaluations": 2.5}, {"seconds": 0.0},
        {"seconds": math.nan}, {"target": math.nan}, {"target": "low"}, {"tolerance": -1.0}, {"patience": True},
    ],
)  # fmt: skip
def test_impossible_rules_are_refused_by_name(bad):
    with pytest.raises(InvalidArgument, match=next(iter(bad))):
        StopRules(**bad)


def test_numbers_of_numpy_are_numbers():
    rules = StopRules(target=np.float32(0.5), seconds=np.float32(3), tolerance=np.int32(1))
    assert rules.check(progress(bests=(0.5,))).startswith("target")


def test_rules_of_ones_own_see_values_in_their_own_sign_and_stop_at_the_same_generation_in_a_block():
    space, seen = jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), []

    def far(progress):
        seen.append(progress)
        return f"own: {progress.best:.2f} is close" if progress.best > 0.95 else None

    rules = [far, lambda progress: None]
    found = jhpo.maximize(lambda hp: hp["x"], space, jhpo.RandomSearch(4), budget=4096, stop=rules)
    bests = np.maximum.accumulate(found.history.value.reshape(-1, 4).max(axis=1))
    assert found.stopped == f"own: {found.value:.2f} is close" and (bests > 0.95).argmax() == len(bests) - 1
    np.testing.assert_allclose(seen[-1].bests, bests, rtol=1e-6)
    for objective in (lambda hp: hp["x"], jhpo.host(lambda params: params["x"])):
        study = jhpo.Study(space, jhpo.RandomSearch(4), direction="maximize")
        summary = study.optimize(objective, stop=far)  # without a budget
        assert summary.stopped.startswith("own: ") and study.best.value > 0.95
        assert summary.evaluations <= len(found.history.value)
    with pytest.raises(InvalidArgument, match="stop: expected a function stop"):
        jhpo.minimize(lambda hp: hp["x"], space, stop="now")
    with pytest.raises(InvalidArgument, match="stop: expected a function that returns None, or a sentence"):
        jhpo.minimize(lambda hp: hp["x"], space, stop=lambda progress: True)  # type: ignore[return-value]
