"""Trees of inputs and of targets give what the same numbers in one array give."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jhpo
from jhpo import Float, Space

SPACE = Space({"lr": Float(1e-3, 1.0, log=True)})
RNG = np.random.default_rng(3)
X = RNG.normal(size=(60, 5)).astype(np.float32)
Y = (X[:, 0] > X[:, 3]).astype(np.int32)
Z = np.stack([X[:, 0] + X[:, 1], X[:, 2]], axis=1)


class Parts(NamedTuple):
    first: Any
    others: Any


def parted(x):
    """Five columns as a tree of three arrays, one of integers that say nothing."""
    return Parts(x[:, :2], {"c": x[:, 2], "d": (x[:, 3:], np.arange(len(x)))})


def joined(x):
    return jnp.concatenate([x.first, x.others["c"][..., None], x.others["d"][0]], axis=-1)


def sgd(hp):
    return optax.sgd(hp["lr"])


def weights(key, x):
    return {"w": 0.1 * jax.random.normal(key, (5, 2))}


WHOLE = (weights, lambda p, x: x @ p["w"])
PARTED = (weights, lambda p, x: joined(x) @ p["w"])


def values(objective, **options):
    result = jhpo.minimize(objective, SPACE, jhpo.RandomSearch(4), budget=4, **options)
    return result.history.value, result


def pair(x, y):
    return {"train": (x[:40], y[:40]), "valid": (x[40:], y[40:])}


CASES = {
    "batches": {"batch_size": 16, "steps": 5},
    "all rows": {"batch_size": None, "steps": 3, "metrics": ["f1"]},
    "blocks": {"batch_size": 8, "epochs": 1, "eval_batch": 7, "metrics": ["auc"], "independent_batches": True},
    "size of a batch": {"batch_size": lambda hp: jnp.int32(5), "max_batch_size": 9, "steps": 4},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_inputs_in_parts_are_trained_on_as_in_one_array(options) -> None:
    one, parts = pair(X, Y), {name: (parted(x), y) for name, (x, y) in pair(X, Y).items()}
    whole, _ = values(jhpo.supervised(WHOLE, sgd, **one, **options))
    found, result = values(jhpo.supervised(PARTED, sgd, **parts, **options))
    np.testing.assert_allclose(found, whole, rtol=1e-5)
    if options["batch_size"] is None:  # how batches are drawn is nothing to an ensemble
        ensemble = result.ensemble(2)
        np.testing.assert_allclose(ensemble.predict(parted(X[:3])).sum(axis=1), 1.0, rtol=1e-5)


def test_folds_cut_every_array() -> None:
    options = {"batch_size": 8, "steps": 4}
    whole, _ = values(jhpo.supervised(WHOLE, sgd, train=(X[:59], Y[:59]), **options), folds=3)
    found, _ = values(jhpo.supervised(PARTED, sgd, train=(parted(X[:59]), Y[:59]), **options), folds=3)
    np.testing.assert_allclose(found, whole, rtol=1e-5)


def test_targets_in_parts_with_a_loss_of_their_own() -> None:
    def loss(outputs, targets):
        return jnp.square(outputs["a"] - targets["a"]) + jnp.square(outputs["b"] - targets["b"])

    def together(outputs, targets):
        return jnp.square(outputs - targets).sum(axis=-1)

    apart = (weights, lambda p, x: {"a": (x @ p["w"])[:, 0], "b": (x @ p["w"])[:, 1]})
    targets = {"a": Z[:, 0], "b": Z[:, 1]}

    @jhpo.metrics.whole
    def worst(outputs, targets, live):
        return jnp.max(jnp.where(live, abs(outputs["a"] - targets["a"]), 0.0))

    for folds in (1, 3):
        options = {"batch_size": 16, "steps": 4, "eval_batch": 7}
        if folds == 1:
            one = {"train": (X[:40], Z[:40]), "valid": (X[40:], Z[40:])}
            parts = {n: (x, {k: z[:, j] for j, k in enumerate("ab")}) for n, (x, z) in one.items()}
        else:
            one, parts = {"train": (X, Z)}, {"train": (X, targets)}
        whole, _ = values(jhpo.supervised(WHOLE, sgd, together, **one, **options), folds=folds)
        found, _ = values(jhpo.supervised(apart, sgd, loss, **parts, **options, metrics={"worst": worst}), folds=folds)
        np.testing.assert_allclose(found, whole, rtol=1e-5)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(joined(x))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x):
        return self.layer(joined(x))


class Equinox(eqx.Module):
    layer: eqx.nn.Linear

    def __init__(self, key):
        self.layer = eqx.nn.Linear(5, 2, key=key)

    def __call__(self, x, key=None):
        return self.layer(joined(x))


@pytest.mark.parametrize("model", [Linen(), Nnx, Equinox], ids=["linen", "nnx", "equinox"])
def test_modules_of_every_library_get_the_tree(model) -> None:
    parts = {name: (parted(x), y) for name, (x, y) in pair(X, Y).items()}
    size = {"batch_size": lambda hp: jnp.int32(8), "max_batch_size": 8}
    found, _ = values(jhpo.supervised(model, sgd, **parts, **size, steps=3))
    assert np.isfinite(found).all() and len(set(found.tolist())) == 4


def test_rows_of_lists_and_tuples_stay_one_array() -> None:
    lists = ([[1.0], [2.0]], [0, 1])
    tuples = ((np.ones(1), 2 * np.ones(1)), (0, 1))
    for data in (lists, tuples, (list(tuples[0]), tuples[1])):
        task = jhpo.supervised(WHOLE, sgd, train=data, valid=data, steps=1)
        assert task.train[0].shape == (2, 1) and task.train[1].shape == (2,)
    both = jhpo.supervised(WHOLE, sgd, train=((X, X[:, 0]), Y), steps=1)
    assert [a.shape for a in both.train[0]] == [(60, 5), (60,)]
