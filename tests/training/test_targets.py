"""Labels and targets that cannot be meant are refused before anything compiles; ignored rows change nothing."""

from __future__ import annotations

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest
from sklearn.metrics import log_loss

import jhpo
from jhpo import Float, InvalidArgument, Space
from jhpo.training.trainable import train_and_evaluate

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = np.argmax(X[:, :3], axis=1)
SPACE = Space({"lr": Float(1e-3, 1.0, log=True)})
KEY = jax.random.key(0)
HP = {"lr": jnp.float32(0.1)}


def linear(outputs):
    return (lambda key, x: {"w": 0.1 * jax.random.normal(key, (4, outputs))}, lambda p, x: x @ p["w"])


def task(y, outputs=3, loss="classification", x=X, valid=None, **options):
    options = {"batch_size": None, "steps": 3} | options
    valid = (x, y) if valid is None else valid
    return jhpo.supervised(linear(outputs), lambda hp: optax.sgd(hp["lr"]), loss, train=(x, y), valid=valid, **options)


def measured(trainable):
    return train_and_evaluate(trainable, HP, KEY).named


@pytest.mark.parametrize(
    ("labels", "outputs", "message"),
    [
        (Y, 1, "at least 2 classes"),
        (Y > 0, 1, "at least 2 classes"),
        (Y, 2, "labels: expected 0 to 1 for a model with 2 outputs, got 2"),
        (Y + 1, 3, "labels count from 0"),
        (np.where(Y > 0, 1, -1), 2, "-1 and 1 become 0 and 1"),
        (np.where(np.arange(60) == 7, 255, Y), 3, "ignore=255"),
        (np.where(np.arange(60) == 7, -100, Y), 3, "ignore=-100"),
        (np.eye(3, dtype=np.int32)[Y], 3, "argmax"),
        (np.stack([Y, Y], 1), 3, "expected the shape"),
        (Y.astype(np.float32), 3, "labels: expected integers"),
        (np.full(60, 2**31, np.uint32), 3, "2\\^31"),
    ],
)
@pytest.mark.parametrize("where", ["train", "valid"])
def test_impossible_labels_are_refused(labels, outputs, message, where) -> None:
    good = Y % max(outputs, 1) if np.shape(labels) == np.shape(Y) else labels
    good = good if where == "valid" else labels
    with pytest.raises(InvalidArgument, match=message) as caught:
        trainable = task(good, outputs, valid=(X, labels if where == "valid" else good))
        jhpo.minimize(trainable, SPACE, jhpo.RandomSearch(2), budget=2)
    assert "labels" in str(caught.value)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int64, np.uint64, bool])
def test_labels_of_every_integer_type_and_as_a_column(kind) -> None:
    labels = (Y > 0).astype(kind)
    wanted = measured(task((Y > 0).astype(np.int32), 2))
    for given in (labels, labels[:, None]):
        assert jax.tree.all(jax.tree.map(lambda a, b: a == b, measured(task(given, 2)), wanted))


def test_narrow_labels_count_more_outputs_than_they_can_hold() -> None:
    narrow, wide = (measured(task((Y * 60).astype(t), 300)) for t in (np.int8, np.int32))
    assert float(narrow["loss"]) == float(wide["loss"]) > 0


@pytest.mark.parametrize("ignore", [-100, -1, 255])
@pytest.mark.parametrize("eval_batch", [7, 1024])
def test_ignored_rows_do_not_count(ignore, eval_batch) -> None:
    live = np.arange(60) % 3 > 0
    marked = np.where(live, Y, ignore)
    some = measured(task(marked, ignore=ignore, eval_batch=eval_batch, penalty=lambda hp, p: jnp.sum(p["w"] ** 2)))
    rest = task(Y[live], x=X[live], penalty=lambda hp, p: jnp.sum(p["w"] ** 2))
    for name, value in measured(rest).items():
        np.testing.assert_allclose(some[name], value, rtol=1e-6)


def test_ignored_tokens_against_scikit_learn() -> None:
    logits = RNG.normal(size=(5, 6, 3)).astype(np.float32)
    labels = RNG.integers(0, 3, (5, 6))
    live = RNG.random((5, 6)) < 0.6
    live[2] = False
    model = (lambda key, x: {"b": jnp.zeros(())}, lambda p, x: x + 0.0 * p["b"])
    trainable = jhpo.supervised(
        model, lambda hp: optax.sgd(0.0 * hp["lr"]), train=(logits, np.where(live, labels, -1)),
        valid=(logits, np.where(live, labels, -1)), batch_size=None, steps=1, ignore=-1, eval_batch=2,
    )  # fmt: skip
    found = measured(trainable)
    wanted = log_loss(labels[live], jax.nn.softmax(logits[live]), labels=[0, 1, 2])
    np.testing.assert_allclose(found["loss"], wanted, rtol=1e-5)
    np.testing.assert_allclose(found["error"], np.mean(logits[live].argmax(-1) != labels[live]), rtol=1e-6)


def test_a_batch_of_ignored_rows_moves_nothing() -> None:
    labels = np.where(np.arange(60) < 59, -1, 0)
    assert np.isfinite(measured(task(labels, ignore=-1, batch_size=1))["loss"])
    with pytest.raises(InvalidArgument, match="not ignored"):
        task(np.full(60, -1), ignore=-1)
    with pytest.raises(InvalidArgument, match="ignore"):
        task(X[:, :1], 1, "regression", ignore=-1)


@pytest.mark.parametrize("targets", [X[:, 0], X[:, :1]])
@pytest.mark.parametrize("squeeze", [True, False])
def test_regression_targets_fit_columns(targets, squeeze) -> None:
    init, apply = linear(1)
    model = (init, lambda p, x: apply(p, x)[:, 0] if squeeze else apply(p, x))
    trainable = jhpo.supervised(
        model,
        lambda hp: optax.sgd(hp["lr"]),
        "regression",
        train=(X, targets),
        valid=(X, targets),
        batch_size=None,
        steps=0,
    )
    w = np.asarray(init(jax.random.split(KEY)[0], X)["w"])
    np.testing.assert_allclose(measured(trainable)["loss"], np.mean((X @ w - X[:, :1]) ** 2), rtol=1e-5)


@pytest.mark.parametrize(("targets", "outputs"), [(X[:, 0], 2), (X, 2), (X.T.copy().T, 1), (X[:, :2], 4)])
def test_regression_of_another_shape_is_refused(targets, outputs) -> None:
    with pytest.raises(InvalidArgument, match="outputs of the targets' shape"):
        measured(task(targets, outputs, "regression"))


@pytest.mark.parametrize("part", ["loss", "metrics"])
def test_functions_that_broadcast_are_refused(part) -> None:
    squared = lambda outputs, targets: (outputs - targets) ** 2  # noqa: E731
    loss, metrics = (squared, None) if part == "loss" else ("regression", {"mine": squared})
    name = "loss" if part == "loss" else "metrics: mine"
    with jax.numpy_rank_promotion("allow"), pytest.raises(InvalidArgument, match=f"{name}: expected a scalar or a"):
        measured(task(X[:, 0], 1, loss, metrics=metrics))


SCALARS = {
    "squares": lambda o, t: jnp.mean((o - t) ** 2),
    "compiled": jax.jit(lambda o, t: jnp.mean(jnp.abs(t - o))),
    "column": lambda o, t: jnp.mean((o[:, 0] - t) ** 2),
    "pairs": lambda o, t: jnp.mean(jnp.abs(o - t[None, :])) - jnp.mean(jnp.abs(o - o.T)) / 2,
    "moments": lambda o, t: (o.mean() - t.mean()) ** 2 + jnp.sum(o * jnp.array([2.0])),
    "ranks": lambda o, t: jnp.mean(jax.nn.softplus((o.T - o) * jnp.sign(t[:, None] - t[None, :]))),
}


@pytest.mark.parametrize("part", ["loss", "metrics"])
@pytest.mark.parametrize("name", SCALARS)
def test_scalars_of_every_output_with_every_target_are_said_to_be(part, name) -> None:
    """A mean hides that shapes [n, 1] and [n] make [n, n]."""
    scalar = SCALARS[name]
    loss, metrics = (scalar, None) if part == "loss" else ("regression", {"mine": jhpo.metrics.whole(scalar)})
    wrong = name in ("squares", "compiled")
    words = f"{'loss' if part == 'loss' else 'metrics: mine'}: outputs .*write outputs"
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        measured(task(X[:, 0], 1, loss, metrics=metrics))
    assert bool(told) is wrong and all(re.match(words, str(w.message)) for w in told)


def test_wrong_targets_compile_nothing(count_compilations) -> None:
    trainable = task(Y, 2)
    with count_compilations() as seen, pytest.raises(InvalidArgument):
        jhpo.Population(trainable, SPACE).evaluate(np.full((2, 1), 0.5), np.arange(2), KEY)
    assert seen.total == 0


def test_tables_of_several_types_are_numbers_and_others_are_named() -> None:
    table = pandas.DataFrame(X, columns=list("abcd")).assign(flag=X[:, 0] > 0, count=Y)
    for given in (table, table.convert_dtypes(), table.astype(object)):
        found = task(pandas.Series(Y, dtype="Int64"), x=given)
        np.testing.assert_array_equal(found.train[0], table.to_numpy(np.float32))
        np.testing.assert_array_equal(found.train[1], Y)
    words = r"train: expected columns of numbers, got \['grade', 'x'\]; .*get_dummies"
    with pytest.raises(InvalidArgument, match=words):
        task(Y, x=table.assign(grade=np.where(Y > 0, "low", "high"), x="q"))
    with pytest.raises(InvalidArgument, match="train: expected finite numbers, got 'missing values"):
        task(Y, x=table.convert_dtypes().mask(np.eye(60, 6) * (np.arange(60) == 3)[:, None] > 0))
    with pytest.raises(InvalidArgument, match="names become numbers"):
        task(pandas.Series(np.where(Y > 0, "low", "high")))


@pytest.mark.parametrize(("kind", "ignore"), [("uint8", -100), ("int8", 255), ("uint16", -1), ("bool", -100)])
def test_a_label_to_ignore_that_the_labels_cannot_have_ignores_none(kind: str, ignore: int) -> None:
    def loss(outputs, targets):
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets.astype(jnp.int32))

    labels = (Y > 0).astype(kind)
    found = measured(task(labels, 3, loss, ignore=ignore))
    np.testing.assert_allclose(found["loss"], measured(task(labels, 3, loss))["loss"], rtol=1e-6)
    with pytest.raises(InvalidArgument, match="ignore: expected a label that an int32 can hold, got 4294967295"):
        task(labels.astype(np.uint32), ignore=2**32 - 1)
