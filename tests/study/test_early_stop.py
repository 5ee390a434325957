"""Trainables stopped early by a rule under any strategy: in memory, stored, resumed, with their states."""

from __future__ import annotations

import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Float, InvalidArgument, MedianStopping, Space, Study
from jhpo.trial import TrialState
from tests.study.paused import Descent

SPACE = Space({"lr": Float(1e-3, 1.0, log=True), "bad": Float(0.0, 1.0)})
DESCENT = Descent(0.9)  # 8 steps, judged after each; with bad > 0.9 it fails at the fourth
RULE = MedianStopping(min_trials=4, min_steps=2)


@pytest.fixture(scope="module")
def whole():
    study = Study(SPACE, jhpo.PSO(10), seed=3)
    study.optimize(DESCENT, budget=24, early_stop=RULE)
    return study


def table(study: Study) -> dict[str, np.ndarray]:
    found = study.history.table
    return {"value": found.value.array.copy(), "unit": found.unit.array.copy(), "state": found.state.array.copy()}


def test_members_stop_where_the_rule_says(whole) -> None:
    curves = {i: whole[i].curve for i in range(24)}
    past: list[dict[int, float]] = []
    for first in (0, 10, 20):
        ids = range(first, min(first + 10, 24))
        for step in range(2, 8):
            everyone = past + [curves[i] for i in ids]
            reached = [min(v for s, v in c.items() if s <= step) for c in everyone if max(c, default=0) >= step]
            for i in (i for i in ids if max(curves[i], default=0) >= step):
                own = min(v for s, v in curves[i].items() if s <= step)
                peers = list(reached)
                peers.remove(own)
                stops = len(peers) >= 4 and own > np.median(peers)
                failed = whole[i].params["bad"] > 0.9 and step == 3
                assert (max(curves[i]) == step) == (stops or failed), (i, step)
        past += [curves[i] for i in ids]
    states = {t.status for t in map(whole.__getitem__, range(24))}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED}
    assert all(t.value == pytest.approx(t.curve[max(t.curve)]) for t in whole.pruned)
    assert max(whole.best.curve) == 8


def test_the_search_in_memory_saves_steps(whole) -> None:
    result = jhpo.minimize(DESCENT, SPACE, jhpo.PSO(10), budget=24, seed=3, early_stop=RULE)
    np.testing.assert_array_equal(result.history.value, whole.history.table.value.array)
    assert result.value == whole.best.value and result.steps == sum(
        max(whole[i].curve) for i in range(24) if (whole[i].status is not TrialState.FAILED)
    ) + sum(4 for _ in whole.failures)
    assert result.steps < 0.8 * 24 * 8 and 0 < result.occupancy <= 1
    assert result.curves.of(0) == pytest.approx(whole[0].curve)
    np.testing.assert_array_equal(result.history.horizon[whole.pruned[0].id], max(whole.pruned[0].curve) / 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tops = result.top(2)
        states = whole.states(DESCENT, [tops[0].id, whole.pruned[0].id])
    assert float(jnp.sum(tops[0].state["w"] ** 2)) == pytest.approx(result.value, rel=1e-5)
    assert float(jnp.sum(states[1]["w"] ** 2)) == pytest.approx(whole.pruned[0].value, rel=1e-5)
    np.testing.assert_array_equal(states[0]["w"], tops[0].state["w"])


def test_states_of_a_search_with_starting_points() -> None:
    start = [{"lr": 0.01}]
    result = jhpo.minimize(DESCENT, SPACE, jhpo.RandomSearch(4), budget=8, start=start, early_stop=RULE)
    for top in result.top(3):
        assert float(jnp.sum(top.state["w"] ** 2)) == pytest.approx(top.value, rel=1e-5)


def test_a_stored_study_goes_on_bit_for_bit(whole, tmp_path: Path) -> None:
    with Study(SPACE, jhpo.PSO(10), tmp_path / "study.db", seed=3) as study:
        study.optimize(DESCENT, budget=24, generations=1, early_stop=RULE)
    with Study.load(tmp_path / "study.db") as study:
        study.optimize(DESCENT, budget=24, early_stop=RULE)
        for name, column in table(whole).items():
            np.testing.assert_array_equal(table(study)[name], column, err_msg=name)
        assert [study[i].curve for i in range(24)] == [whole[i].curve for i in range(24)]


def test_halving_as_a_rule_and_a_score() -> None:
    class Score(Descent):
        def evaluate(self, hp, state):
            return -jnp.sum(state["w"] ** 2)

    rule = jhpo.HalvingStopping(eta=2, min_steps=2)
    result = jhpo.maximize(Score(2.0), SPACE, jhpo.RandomSearch(8), budget=8, early_stop=rule)
    assert result.curves.steps.tolist() == [2, 4, 8]
    reached = np.isfinite(result.curves.value)
    assert reached.sum(axis=0).tolist() == [8, 4, 2]
    kept = np.sort(result.curves.value[:, 0])[4:]
    np.testing.assert_array_equal(np.sort(result.curves.value[reached[:, 1], 0]), kept)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jhpo.minimize(lambda hp: hp["lr"], SPACE, early_stop=RULE), "objective: expected a trainable"),
        (
            lambda: jhpo.minimize(DESCENT, SPACE, jhpo.SuccessiveHalving(8), early_stop=RULE),
            "early_stop: expected None beside SuccessiveHalving",
        ),
        (
            lambda: jhpo.minimize(DESCENT, SPACE, jhpo.HyperGradient(2), budget=4, early_stop=RULE),
            "early_stop: expected None beside a strategy that asks for gradients",
        ),
        (
            lambda: jhpo.minimize(DESCENT, SPACE, directions=["minimize", "minimize"], early_stop=RULE),
            "early_stop",
        ),
    ],
)
def test_bad_input_says_what_to_change(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


def test_nothing_compiles_for_each_generation(count_compilations) -> None:
    key = jax.random.key(9)
    with count_compilations() as seen:
        jhpo.minimize(DESCENT, SPACE, jhpo.PSO(10), budget=30, seed=3, early_stop=RULE)
        before = seen.total
        jhpo.minimize(DESCENT, SPACE, jhpo.PSO(10), budget=30, key=key, early_stop=RULE)
    assert seen.total - before <= 1  # widths are powers of two of at least 8
