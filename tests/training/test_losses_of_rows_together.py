"""Losses that compare rows with one another: a scalar is of all rows at once, and only those that count are in it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo import Float, Int, InvalidArgument, Space
from jhpo.training.trainable import train_and_evaluate

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
T = np.exp(X[:, 0] + 0.3 * RNG.normal(size=60)).astype(np.float32)
LINE = (lambda key, x: {"w": 0.5 * jax.random.normal(key, (4, 1))}, lambda p, x: x @ p["w"])
KEY = jax.random.key(0)
HP = {"lr": jnp.float32(0.1), "batch": jnp.int32(5)}


def cox(outputs, targets):
    """Cox's partial likelihood, without censoring."""
    later = targets[None, :] >= targets[:, None]
    risk = jax.nn.logsumexp(jnp.where(later, outputs[None, :, 0], -jnp.inf), axis=1)
    return jnp.mean(risk - outputs[:, 0])


def live_cox(outputs, targets, live):
    later = (targets[None, :] >= targets[:, None]) & live[None, :]
    risk = jax.nn.logsumexp(jnp.where(later, outputs[None, :, 0], -jnp.inf), axis=1)
    return jnp.sum(jnp.where(live, risk - outputs[:, 0], 0.0)) / jnp.sum(live, dtype=outputs.dtype)


def scaled_cox(outputs, targets, hp, live):
    return hp["lr"] / jnp.float32(0.1) * live_cox(outputs, targets, live)


def rows(outputs, targets):
    return (outputs[:, 0] - targets) ** 2


def root(outputs, targets):
    return jnp.sqrt(jnp.mean(rows(outputs, targets)))


def task(loss, y=T, x=X, **options):
    options = {"batch_size": None, "steps": 3, "valid": (x, y)} | options
    return jhpo.supervised(LINE, lambda hp: optax.sgd(hp["lr"]), loss, train=(x, y), **options)


def measured(trainable):
    return train_and_evaluate(trainable, HP, KEY).named


@pytest.mark.parametrize("loss", [cox, live_cox, scaled_cox])
@pytest.mark.parametrize("block", [7, 30, 59])
def test_a_scalar_is_of_all_validation_rows_whatever_the_blocks(loss, block) -> None:
    whole = task(loss, metrics={"root": root, "rows": rows, "all": jhpo.metrics.whole(root)})
    hp, state = HP, whole.init(HP, KEY)
    wanted = whole.evaluate(hp, state)
    found = dataclasses.replace(whole, eval_batch=block).evaluate(hp, state)
    assert list(found) == list(wanted) or sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-6)
    np.testing.assert_allclose(found["root"], found["all"], rtol=2e-6)


@pytest.mark.parametrize("loss", [live_cox, scaled_cox])
def test_rows_beyond_a_batch_are_in_no_comparison(loss) -> None:
    tuned = task(loss, batch_size=lambda hp: hp["batch"], max_batch_size=16, independent_batches=False)
    fixed = task(loss, batch_size=5)
    np.testing.assert_allclose(measured(tuned)["loss"], measured(fixed)["loss"], rtol=1e-5)


def test_ignored_rows_are_in_no_comparison() -> None:
    labels = (T * 10).astype(np.int32)
    live = np.arange(60) % 3 > 0
    marked = np.where(live, labels, -1)
    some, rest = task(live_cox, marked, ignore=-1), task(live_cox, labels[live], X[live])
    np.testing.assert_allclose(measured(some)["loss"], measured(rest)["loss"], rtol=1e-5)


def test_folds_of_unequal_size_are_compared_row_by_row() -> None:
    folded = task(live_cox, valid=None)
    space = Space({"lr": Float(0.09, 0.11), "batch": Int(4, 6)})
    result = jhpo.minimize(folded, space, jhpo.RandomSearch(1), budget=1, folds=7)
    hp, values = {"lr": jnp.float32(result.best["lr"])}, []
    parts = folded.fold_parts(7)
    for k in range(7):
        train, valid = parts.train[k], parts.valid[k]
        train = train if parts.train_count is None else train[: int(parts.train_count[k])]
        valid = valid if parts.valid_count is None else valid[: int(parts.valid_count[k])]
        alone = task(cox, T[train], X[train], valid=(X[valid], T[valid]))
        state = jax.tree.map(lambda leaf, k=k: leaf[k], result.top(1)[0].state)
        values.append(alone.evaluate(hp, state)["loss"])
    np.testing.assert_allclose(result.value, np.mean(values), rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"ignore": -1}, "ignore= leaves rows out"),
        ({"batch_size": lambda hp: hp["batch"], "max_batch_size": 16}, "batch_size is a hyperparameter"),
    ],
)
def test_a_scalar_that_does_not_know_which_rows_count_is_refused(options, why) -> None:
    labels = np.where(np.arange(60) % 3 > 0, (T * 10).astype(np.int32), -1)
    space = Space({"lr": Float(0.09, 0.11), "batch": Int(4, 6)})
    with pytest.raises(InvalidArgument, match=f"loss: expected a value for each example, as {why}"):
        jhpo.minimize(task(cox, labels, **options), space, budget=1)
    if "ignore" in options:
        metrics = {"mine": lambda outputs, targets: jnp.mean(outputs)}
        with pytest.raises(InvalidArgument, match="metrics: mine: expected a value for each example"):
            jhpo.minimize(task(live_cox, labels, metrics=metrics, **options), space, budget=1)
