"""Studies that run themselves: budgets, stop rules, failures, replicates, trained states."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from tests.study.studies import GREEDY, SPACE, assert_same, noisy, objective


def test_budget_is_met_exactly_and_counts_the_whole_study():
    study = jhpo.Study(SPACE, GREEDY)
    assert study.optimize(objective, budget=20).evaluations == 20
    assert study.optimize(objective, budget=20).stopped == "evaluations: 20 of 20 done"
    assert study.optimize(objective, budget=33).evaluations == 13
    whole = jhpo.Study(SPACE, GREEDY)
    whole.optimize(objective, budget=33)
    assert_same(study, whole)


def test_every_stop_rule_gives_its_reason():
    heard: list[Any] = []
    study = jhpo.Study(SPACE, GREEDY)
    assert study.optimize(objective, generations=2, callback=heard.append).stopped.startswith("generations: 2")
    assert [u.evaluations for u in heard] == [8, 16] and heard[-1].best == study.best.value
    assert study.optimize(objective, target=1e-3).stopped.startswith("target")
    assert study.best.value <= 1e-3
    assert study.optimize(lambda hp: hp["x"] * 0.0 + 5.0, patience=3).stopped.startswith("patience")
    assert study.optimize(objective, seconds=1e-6).stopped.startswith("seconds")
    assert len(study.history.stops) == 4


def test_a_callback_that_returns_true_is_told_of_the_rule_that_stops():
    def enough(update):
        return update.evaluations >= 16

    for callback in (enough, [lambda update: None, enough], lambda evaluations, best: np.bool_(evaluations >= 16)):
        study = jhpo.Study(SPACE, GREEDY)
        with pytest.warns(UserWarning, match=r"^callback: it returned True, .*stop=, where stop\("):
            study.optimize(objective, budget=32, callback=callback)
        assert len(study) == 32
    with pytest.warns(UserWarning, match="stop="):
        jhpo.minimize(objective, SPACE, GREEDY, budget=32, callback=enough)


def test_an_interrupted_study_says_so_and_goes_on(tmp_path):
    def stop_at(update):
        if update.generation == 3:
            raise KeyboardInterrupt

    with jhpo.Study(SPACE, GREEDY, tmp_path / "a.db") as study:
        with pytest.raises(KeyboardInterrupt):
            study.optimize(objective, budget=400, callback=stop_at)
        assert 24 <= study.evaluations < 400 and study.history.stops[-1] == "interrupted"
        assert len(study.ledger.log.load_snapshots()) == 1
    whole = jhpo.Study(SPACE, GREEDY)
    whole.optimize(objective, budget=400)
    with jhpo.Study.load(tmp_path / "a.db") as study:
        study.optimize(objective, budget=400)
        assert_same(study, whole)


def test_failed_members_are_kept_with_a_reason_and_a_failed_generation_is_survived():
    study = jhpo.Study(SPACE, GREEDY)
    study.optimize(lambda hp: jnp.where(hp["x"] > 0, jnp.nan, hp["x"] ** 2), budget=64)
    assert {t.reason for t in study.failures} == {"the objective returned nan"}
    assert all(t.params["x"] <= 0 for t in study.top(100)) and len(study) == 64
    lost = jhpo.Study(SPACE, GREEDY)
    assert lost.optimize(lambda hp: hp["x"] * jnp.nan, budget=24).evaluations == 24
    assert len(lost.failures) == 24 and lost.top() == []
    lost.optimize(objective, budget=64)
    assert math.isfinite(lost.best.value)


def test_one_compilation_of_the_objective_and_the_strategy_together(count_compilations):
    strategy = jhpo.Greedy(11)
    space = jhpo.Space({"u": jhpo.Float(-1.0, 1.0)})

    def parabola(hp):
        return hp["u"] ** 2

    with count_compilations() as first:
        jhpo.Study(space, strategy, seed=0).optimize(parabola, budget=110)
    assert first.names == ["jit(block_program)"]
    with count_compilations() as second:
        jhpo.Study(space, jhpo.Greedy(11), seed=1).optimize(parabola, budget=110)
    assert second.total == 0, second.names


def test_replicates_average_the_noise():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(8), replicates=4)
    study.optimize(noisy, budget=16)
    variance = study.history.table.extra["variance"].array
    assert variance.shape == (16,) and (variance > 0).all()


class Line:
    """A trainable: gradient descent on ``(w - target)^2`` from a random start."""

    steps = 20
    target = 0.5

    def init(self, hp, key):
        return jax.random.normal(key)

    def step(self, hp, state, t):
        return state - hp["rate"] * 2.0 * (state - self.target)

    def evaluate(self, hp, state):
        return (state - self.target) ** 2


def test_trained_states_of_the_best_trials():
    space = jhpo.Space({"rate": jhpo.Float(1e-3, 0.4, log=True)})
    study = jhpo.Study(space, jhpo.RandomSearch(8), seed=3)
    study.optimize(Line(), budget=16)
    top = study.top(3)
    states = study.states(Line(), top)
    for trial, state in zip(top, states):
        start = float(jax.random.normal(study.key(trial)))
        expected = 0.5 + (start - 0.5) * (1.0 - 2.0 * trial.params["rate"]) ** 20
        assert float(state) == pytest.approx(expected, abs=1e-5)
        assert trial.value == pytest.approx((float(state) - 0.5) ** 2, abs=1e-6)
    assert study.states(Line(), []) == []


def test_strategies_may_fix_the_randomness_of_their_members():
    @jhpo.strategy
    class Fixed(jhpo.RandomSearch):
        def evaluation_ids(self, state, ids):
            return jnp.zeros_like(ids) + jnp.uint32(77)

    study = jhpo.Study(jhpo.Space({"rate": jhpo.Float(1e-3, 1e-2)}), Fixed(4))
    study.optimize(Line(), budget=8)
    assert (study.history.table.stream.array == 77).all()
    (state,) = study.states(Line(), study.top(1))
    start = float(jax.random.normal(jax.random.fold_in(study.root, 77)))
    rate = study.best.params["rate"]
    assert float(state) == pytest.approx(0.5 + (start - 0.5) * (1.0 - 2.0 * rate) ** 20, abs=1e-5)


def test_compiling_is_a_part_of_the_time_that_passed():
    """Functions traced inside others are told of twice by JAX."""
    inner = jax.jit(lambda x: jax.jit(jnp.sin)(x) + jax.jit(jnp.cos)(x))
    study = jhpo.Study(SPACE, jhpo.PSO(8))
    summary = study.optimize(lambda hp: jax.jit(lambda x: inner(x) + inner(x + 1.0))(hp["x"]), budget=16)
    assert 0.0 < summary.compile_seconds < summary.seconds
