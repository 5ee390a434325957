"""A training that studies pause, and what two of them are compared by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo import Study


class Descent:
    """Noisy descent from a random start; some members become NaN on the way."""

    steps = 8

    def __init__(self, limit: float) -> None:
        self.limit = limit  # of "bad", beyond which a member fails

    def init(self, hp, key):
        return {"w": jax.random.normal(key, (2,)), "key": key}

    def step(self, hp, state, t):
        noise = 0.1 * jax.random.normal(jax.random.fold_in(state["key"], t), (2,))
        w = state["w"] - hp["lr"] * (jnp.array([0.3, 1.0]) * state["w"] + noise)
        return {"w": jnp.where((hp["bad"] > self.limit) & (t == 3), jnp.nan, w), "key": state["key"]}

    def evaluate(self, hp, state):
        return jnp.sum(state["w"] ** 2)


class Killed(BaseException):
    """The process is gone."""


def columns(study: Study) -> dict[str, np.ndarray]:
    table = study.history.table
    found = {"value": table.value, "unit": table.unit, "horizon": table.horizon, "state": table.state}
    for name in ("curve", "width", "source", "steered", "limits"):
        found |= {f"{name} at {step}": column for step, column in getattr(table, name).items()}
    return {name: column.array.copy() for name, column in found.items()}


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert set(a) == set(b)
    for name, column in a.items():
        np.testing.assert_array_equal(column, b[name], err_msg=name)


def assert_goes_on_after_kills(
    result: Any, made: Study, task: Any, path: Path, budget: int, kills: tuple[int, int, int]
) -> None:
    """A study in `path`, killed in these generations and continued, ends as the search in memory did, bit for bit."""
    study = made

    def kill(update: Any) -> None:
        if update.generation in kills:
            raise Killed

    for _ in kills:
        with pytest.raises(Killed):
            study.optimize(task, budget=budget, callback=kill)
        study.ledger.log.close()  # without a checkpoint, as after a kill
        study = Study.load(path)
    summary = study.optimize(task, budget=budget)
    assert summary.stopped == result.stopped and study.best.value == result.value
    np.testing.assert_array_equal(columns(study)["value"], result.history.value)
    for i in range(len(study)):
        assert study[i].curve == result.curves.of(i)
    np.testing.assert_array_equal(study.states(task, [study.best])[0]["w"], result.top(1)[0].state["w"])
    assert study.optimize(task, budget=budget).evaluations == 0
    study.close()
    with Study.load(path, read_only=True) as again:
        assert_same(columns(study), columns(again))
