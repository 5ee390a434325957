"""Members side by side: matrices by columns on a CPU, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.evaluation import batching
from jhpo.evaluation.members import evaluate_units
from jhpo.kernels.internals import shape_of
from jhpo.kernels.programs import equations
from jhpo.strategies.base import Request

ROWS, INPUTS, CLASSES, MEMBERS = 12, 3, 2, 5


@pytest.fixture
def task() -> Any:
    x = np.random.default_rng(0).normal(size=(ROWS, INPUTS)).astype(np.float32)
    linear = (lambda key, x: jnp.zeros((INPUTS, CLASSES)), lambda w, x: x @ w)
    y = (x[:, 0] > 0).astype(np.int32)
    return jhpo.supervised(linear, lambda hp: optax.sgd(hp["lr"]), train=(x, y), valid=(x, y), batch_size=None, steps=3)


def carried(task: Any, request: Request) -> list[Any]:
    """Shapes that the loops of a program of some members carry."""
    space = jhpo.Space({"lr": jhpo.Float(0.1, 1.0)})
    units, keys = jnp.full((MEMBERS, 1), 0.5), jax.random.split(jax.random.key(0), MEMBERS)
    program = jax.make_jaxpr(lambda units: evaluate_units(task, space, units, keys, request))(units)
    scans = (e for e in equations(program.jaxpr) if e.primitive.name == "scan")
    return [shape_of(v).shape for e in scans for v in e.outvars]


BY_ROWS, BY_COLUMNS = (MEMBERS, INPUTS, CLASSES), (MEMBERS, CLASSES, INPUTS)


def test_weights_are_carried_by_columns_on_a_cpu(task: Any) -> None:
    shapes = carried(task, Request())
    assert BY_COLUMNS in shapes and BY_ROWS not in shapes


def test_programs_of_hypergradients_stay_as_they_are(task: Any) -> None:
    shapes = carried(task, Request(grad=True))
    assert BY_COLUMNS not in shapes and BY_ROWS in shapes


def test_accelerators_keep_rows(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "default_devices", lambda: [SimpleNamespace(platform="cuda")])
    shapes = carried(task, Request())
    assert BY_COLUMNS not in shapes and BY_ROWS in shapes
