"""ASHA of trainables: the same search in memory and stored, resumed bit for bit; its budget, and where states wait."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

import jhpo
from jhpo import ASHA, Float, Population, Space, Study
from jhpo.evaluation.thawing import Thawing
from tests.study.paused import Descent, assert_goes_on_after_kills, columns

SPACE = Space({"lr": Float(1e-3, 3.0, log=True), "bad": Float(0.0, 1.0)})
DESCENT = Descent(0.9)  # 8 steps; beyond 0.9 a member fails at the fourth
PAUSING = ASHA(eta=2, min_steps=2, batch=4)


@pytest.fixture(scope="module")
def result():
    return jhpo.minimize(DESCENT, SPACE, PAUSING, budget=24, seed=3)


def test_members_are_promoted_to_the_end(result) -> None:
    assert result.stopped == "evaluations: 24 of 24 done" and len(result.history.value) == 24
    reached = np.rint(result.history.horizon * 8).astype(int)
    assert result.steps == reached.sum() and set(reached.tolist()) == {2, 4, 8}
    assert result.value == np.nanmin(result.curves.value[reached == 8, -1])
    (top,) = result.top(1)
    assert float((top.state["w"] ** 2).sum()) == pytest.approx(top.value, rel=1e-6)


def test_a_stored_study_killed_at_any_generation_goes_on_bit_for_bit(result, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    assert_goes_on_after_kills(result, Study(SPACE, PAUSING, path, seed=3), DESCENT, path, 24, (1, 4, 11))


def test_a_larger_budget_and_the_queue() -> None:
    """Members beyond the first 64 need room that grows; queued points are among the trials that the budget allows."""
    study = Study(SPACE, PAUSING, seed=3)
    study.enqueue({"lr": 0.5, "bad": 0.0})
    assert study.optimize(DESCENT, budget=8).stopped == "evaluations: 8 of 8 done" and len(study) == 8
    assert study[0].horizon == 1.0 and study[0].generation == -1
    assert study.optimize(DESCENT, budget=80).stopped == "evaluations: 80 of 80 done" and len(study) == 80
    horizons = columns(study)["horizon"][1:]
    assert (horizons == 1.0).sum() >= 79 // 2 // 2 - 4


def test_parts_of_a_training_are_found_from_its_share_whatever_the_last_one_takes() -> None:
    for length in (3, 7, 401, 405, 1_000):
        trainable = Descent(0.9)
        trainable.steps = length
        for interval in {1, 2, 5, 200, length - 1, length}:
            pool = Thawing(Population(trainable, SPACE), None, 2, interval, jax.random.key(0))
            parts = np.arange(1, -(-length // interval) + 1)
            shares = (pool.stops(parts - 1) / length).astype(np.float32)
            np.testing.assert_array_equal(pool.parts_of(shares), parts)


def test_states_wait_in_the_memory_of_the_host_where_they_do_not_fit(result) -> None:
    """Three members in and out of a frame of two, keys in their states, with the same bits on the device."""
    pools = []
    for memory in (None, 100):
        population = Population(DESCENT, SPACE, replicates=2, memory=memory)
        pool = Thawing(population, None, 2, 2, jax.random.key(0))
        units = np.linspace(0.2, 0.8, 6, dtype=np.float32).reshape(3, 2)
        found = []
        for members, parts in (
            ([0, 1], [0, 0]),
            ([2, 0], [0, 1]),
            ([-1, 1], [0, 1]),
            ([0, 2], [2, 1]),
            ([70, 0], [0, 3]),
        ):
            rows = np.asarray(members) % 3
            found.append(pool.train(units[rows], np.asarray(members), np.asarray(parts)).value)
        pools.append((found, pool.states(np.asarray([0, 1, 2, 70])), population.notices))
    (plain, states, quiet), (offloaded, others, said) = pools
    np.testing.assert_array_equal(plain, offloaded)
    for a, b in zip(states, others):
        np.testing.assert_array_equal(a["w"], b["w"])
        assert (jax.random.key_data(a["key"]) == jax.random.key_data(b["key"])).all()
    assert not quiet and "paused members wait in the memory of the host" in said[0]
