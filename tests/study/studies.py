"""A space, objectives and comparisons that the tests of studies share."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jhpo
from jhpo.storage.sql import SqlLog

SPACE = jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "y": jhpo.Float(-1.0, 1.0), "k": jhpo.Choice(["a", "b"])})
GREEDY = jhpo.Greedy(8)


def database(study: jhpo.Study) -> SqlLog:
    """The log of a stored study."""
    log = study.ledger.log
    assert isinstance(log, SqlLog)
    return log


def objective(hp):
    return (hp["x"] - 0.3) ** 2 + hp["y"] ** 2 + jnp.where(hp["k"] == 0, 1.0, 0.0)


def noisy(hp, key):
    return hp["x"] ** 2 + 0.1 * jax.random.normal(key)


def on_host(params):
    return (params["x"] - 0.3) ** 2 + params["y"] ** 2 + (params["k"] == "a")


def columns(study):
    table = study.history.table
    return {
        "value": table.value.array.copy(), "unit": table.unit.array.copy(), "state": table.state.array.copy(),
        "generation": table.generation.array.copy(), "member": table.member.array.copy(),
    }  # fmt: skip


def assert_same(a, b, rows=None):
    for (name, x), y in zip(columns(a).items(), columns(b).values()):
        np.testing.assert_array_equal(x[:rows], y[:rows], err_msg=name)


def assert_same_state(a, b):
    """The strategies stand at the same place, to the bit."""
    for x, y in zip(jax.tree.leaves(a.ledger.follower().mark()), jax.tree.leaves(b.ledger.follower().mark())):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
