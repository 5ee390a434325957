"""Real models through `supervised`: every kind of model, losses, batches, masks; data are arguments of the program."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from scipy import stats

import jhpo
from jhpo import Float, Int, InvalidArgument, Population, Space
from jhpo.training.supervised import cross_entropy, error_rate
from jhpo.training.trainable import train_and_evaluate, train_state

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(np.int32)
LINE = (lambda key, x: {"w": 0.1 * jax.random.normal(key, (6, 2))}, lambda p, x: x @ p["w"])
SPACE = Space({"lr": Float(1e-3, 1.0, log=True)})
KEY = jax.random.key(0)


def sgd(hp):
    return optax.sgd(hp["lr"])


def task(model=LINE, tx=sgd, loss="classification", y=Y, **options):
    options = {"batch_size": 16, "steps": 12} | options
    return jhpo.supervised(model, tx, loss, train=(X[:64], y[:64]), valid=(X[64:], y[64:]), **options)


class Linen(nn.Module):
    """Dropout and batch normalisation, switched by their arguments."""

    width: int = 8

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(self.width)(x))
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


class Nnx(nnx.Module):
    """The same in nnx, switched by its mode."""

    def __init__(self, rngs: nnx.Rngs):
        self.first, self.last = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(8, momentum=0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


@pytest.mark.parametrize("model", [Linen(), lambda hp: Linen(width=8), Nnx], ids=["linen", "linen of hp", "nnx"])
def test_flax_models_learn_with_dropout_and_batch_statistics(model) -> None:
    trainable = task(model, lambda hp: optax.adam(hp["lr"]), steps=60)
    hp = {"lr": jnp.float32(0.03)}
    state = jax.jit(lambda: train_state(trainable, hp, KEY))()
    fresh = trainable.init(hp, KEY)
    assert float(trainable.evaluate(hp, state)["loss"]) < 0.5 < float(trainable.evaluate(hp, fresh)["loss"])
    moved = [bool((a != b).any()) for a, b in zip(jax.tree.leaves(state.extra), jax.tree.leaves(fresh.extra))]
    assert moved and all(moved), "batch statistics are carried on"
    # evaluation is deterministic: no dropout, running averages
    x = jnp.asarray(X[64:])
    np.testing.assert_array_equal(trainable.predict(hp, state, x), trainable.predict(hp, state, x))
    single = trainable.predict(hp, state, x[:1])
    np.testing.assert_allclose(single, trainable.predict(hp, state, x)[:1], rtol=1e-4, atol=1e-5)


def test_one_step_is_the_optimisers_step_on_the_batch() -> None:
    trainable = task(penalty=lambda hp, p: 0.01 * jnp.square(p["w"]).sum())
    hp, t = {"lr": jnp.float32(0.3)}, jnp.int32(3)
    state = jax.jit(trainable.init)(hp, KEY)
    x, y = jax.jit(trainable.batch)(state.key, t)

    def loss(w):
        log_p = jax.nn.log_softmax(x @ w)
        return -log_p[jnp.arange(16), y].mean() + 0.01 * (w**2).sum()

    expected = state.params["w"] - 0.3 * jax.jit(jax.grad(loss))(state.params["w"])
    np.testing.assert_allclose(jax.jit(trainable.step)(hp, state, t).params["w"], expected, rtol=1e-5, atol=1e-6)


def test_losses_against_their_definitions() -> None:
    logits = jnp.asarray(RNG.normal(size=(5, 7, 4)), jnp.float32) * 20
    labels = jnp.asarray(RNG.integers(0, 4, (5, 7)), jnp.int32)
    expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(cross_entropy(logits, labels), expected, rtol=1e-5, atol=1e-5)
    grads = [jax.jit(jax.grad(lambda z, f=f: f(z, labels).sum()))(logits) for f in (
        cross_entropy, optax.softmax_cross_entropy_with_integer_labels)]  # fmt: skip
    np.testing.assert_allclose(*grads, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(error_rate(logits, labels), np.argmax(logits, -1) != np.asarray(labels))
    # a class that is ruled out costs nothing unless it is the label
    ruled_out = jnp.array([[0.0, -jnp.inf, 1.0]])
    assert np.isfinite(cross_entropy(ruled_out, jnp.array([0], jnp.int32))).all()
    assert np.isinf(cross_entropy(ruled_out, jnp.array([1], jnp.int32))).all()


def test_regression_fits_a_line_exactly() -> None:
    model = (lambda key, x: {"w": jnp.zeros((6, 1))}, lambda p, x: x @ p["w"])
    target = X @ np.arange(6, dtype=np.float32)
    trainable = task(model, loss="regression", y=target, steps=300, batch_size=None)
    assert float(train_and_evaluate(trainable, {"lr": jnp.float32(0.1)}, KEY).value) < 1e-6


@pytest.mark.parametrize(
    "loss", [optax.losses.softmax_cross_entropy_with_integer_labels, optax.losses.poly_loss_cross_entropy]
)
def test_losses_of_optax_keep_their_options(loss) -> None:
    """A third argument with a default is an option, not one for the hyperparameters."""
    y = Y if "integer" in loss.__name__ else np.eye(2, dtype=np.float32)[Y]
    trainable = task(loss=loss, y=y)
    hp = {"lr": jnp.float32(0.1)}
    state = train_state(trainable, hp, KEY)
    out = trainable.predict(hp, state, X[64:])
    np.testing.assert_allclose(trainable.evaluate(hp, state)["loss"], loss(out, y[64:]).mean(), rtol=1e-5)


def test_a_loss_of_the_hyperparameters_and_named_metrics() -> None:
    trainable = task(
        loss=lambda out, y, hp: hp["scale"] * cross_entropy(out, y), metric="error", metrics={"error": error_rate}
    )
    hp = {"lr": jnp.float32(0.1), "scale": jnp.float32(2.0)}
    metrics = trainable.evaluate(hp, trainable.init(hp, KEY))
    halved = trainable.evaluate({**hp, "scale": jnp.float32(1.0)}, trainable.init(hp, KEY))
    assert sorted(metrics) == ["error", "loss"]
    np.testing.assert_allclose(metrics["loss"], 2 * halved["loss"], rtol=1e-6)
    assert float(train_and_evaluate(trainable, hp, KEY).value) == float(
        trainable.evaluate(hp, train_state(trainable, hp, KEY))["error"]
    )


def test_evaluation_in_blocks_is_the_mean_over_all_rows() -> None:
    whole = task(eval_batch=1000)
    hp, state = {"lr": jnp.float32(0.1)}, whole.init({"lr": jnp.float32(0.1)}, KEY)
    for block in (32, 16, 5, 1):  # 32 rows: one block, two, six and a rest, single rows
        split = dataclasses.replace(whole, eval_batch=block).evaluate(hp, state)
        for name, value in whole.evaluate(hp, state).items():
            np.testing.assert_allclose(split[name], value, rtol=1e-5)


def test_shared_batches_are_the_same_for_all_and_own_ones_differ() -> None:
    keys = jax.random.split(KEY, 3)
    for independent in (False, True):
        trainable = task(independent_batches=independent)
        rows = [np.asarray(trainable.batch(k, jnp.int32(2))[0]) for k in keys]
        assert all(np.array_equal(rows[0], r) for r in rows[1:]) is not independent
        epoch = np.concatenate([trainable.batch(keys[0], jnp.int32(t))[0] for t in range(4)])
        np.testing.assert_array_equal(np.sort(epoch[:, 0]), np.sort(X[:64, 0]))  # four batches of 16: an epoch
    assert not np.array_equal(task(seed=1).batch(KEY, jnp.int32(0))[0], task().batch(KEY, jnp.int32(0))[0])


def test_steps_of_the_hyperparameters_stop_where_they_should() -> None:
    masked = task(steps=lambda hp: hp["steps"], max_steps=12)
    space = Space({"lr": Float(1e-3, 1.0, log=True), "steps": Int(0, 12)})
    units = np.stack([space.encode({"lr": 0.1, "steps": s}) for s in (0, 5, 12)])
    values = Population(masked, space).evaluate(units, np.zeros(3, np.uint32), KEY).value
    lr = units[:, [space.names.index("lr")]]
    for steps, unit, value in zip((0, 5, 12), lr, values):
        alone = Population(task(steps=steps), SPACE).evaluate(unit[None], np.zeros(1, np.uint32), KEY).value
        np.testing.assert_allclose(value, alone[0], rtol=1e-5)


@pytest.mark.parametrize("width", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_masked_width_equals_the_smaller_network(width: int) -> None:
    space = Space({"lr": Float(1e-3, 1.0, log=True), "width": Int(1, 12)})
    wide = task(jhpo.masked_mlp(["width", 3], [12, 3], 2), lambda hp: optax.adam(hp["lr"]), steps=30)
    unit = space.encode({"lr": 0.1, "width": width})[None]
    value = Population(wide, space).evaluate(unit, np.zeros(1, np.uint32), KEY).value
    small = task(jhpo.masked_mlp([width, 3], [width, 3], 2), lambda hp: optax.adam(hp["lr"]), steps=30)
    lr = unit[:, [space.names.index("lr")]]
    np.testing.assert_allclose(
        value, Population(small, SPACE).evaluate(lr, np.zeros(1, np.uint32), KEY).value, rtol=2e-5
    )
    # the padding never moves, and infinities in it stay there
    hp = {"lr": jnp.float32(0.1), "width": jnp.int32(width)}
    fresh, trained = jax.jit(lambda: (wide.init(hp, KEY).params, train_state(wide, hp, KEY).params))()
    np.testing.assert_array_equal(fresh[0]["w"][:, width:], trained[0]["w"][:, width:])
    assert (fresh[0]["w"][:, :width] != trained[0]["w"][:, :width]).all()
    masked = jhpo.mask_units(jnp.array([[1.0, jnp.inf], [2.0, jnp.nan]]), 1)
    np.testing.assert_array_equal(masked, [[1.0, 0.0], [2.0, 0.0]])


def test_data_are_arguments_and_another_set_compiles_nothing(count_compilations) -> None:
    big = np.random.default_rng(1).normal(size=(5000, 6)).astype(np.float32)
    labels = (big[:, 0] > 0).astype(np.int32)

    def made(x):
        return jhpo.supervised(LINE, sgd, train=(x[:4000], labels[:4000]), valid=(x[4000:], labels[4000:]), steps=3)

    def value(x, lr):
        return value_program(made(x), {"lr": jnp.float32(lr)}, KEY)

    value_program = jax.jit(lambda trainable, hp, key: train_and_evaluate(trainable, hp, key).value)
    text = value_program.lower(made(big), {"lr": jnp.float32(0.1)}, KEY).as_text()
    assert len(text) < 200_000, "the data would be far longer as constants"
    first = value(big, 0.1)
    again = made(2 * big)  # moves the data to the device
    with count_compilations() as seen:
        other = value_program(again, {"lr": jnp.float32(0.1)}, KEY)
    assert seen.names == [] and float(first) != float(other)


def test_float64_where_it_is_switched_on(x64) -> None:
    trainable = jhpo.supervised(
        LINE, sgd, train=(X.astype(float)[:64], Y[:64]), valid=(X.astype(float)[64:], Y[64:]), batch_size=16, steps=3
    )
    assert train_and_evaluate(trainable, {"lr": jnp.float64(0.1)}, KEY).value.dtype == jnp.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": (X[:10], Y[:9])}, "train: expected inputs and targets of one length"),
        ({"train": X}, "train: expected a pair"),
        ({"valid": (X[:0], Y[:0])}, "valid: expected inputs and targets of one length >= 1"),
        ({"train": (np.where(X > 2, np.nan, X), Y)}, "train: expected finite numbers"),
        ({"train": (np.ma.array(X, mask=X > 2), Y)}, "train: expected finite numbers, got 'masked"),
        (
            {"train": (X, Y.astype(np.float32))},
            "labels: expected integers.*; for targets that are numbers: loss='regression'",
        ),
        ({"train": (np.array(["a", "b"]), Y[:2])}, "train: expected arrays of numbers.*np.unique"),
        ({"train": ({"a": X, "b": X}, Y)}, "valid: expected inputs like those of train, {'a': .*, got float"),
        ({"train": ({"a": X, "b": X[:5]}, Y)}, r"train: .* one length >= 1, got {\"inputs\['a'\]\": \("),
        ({"train": ({"a": X, "b": np.array(["x"] * len(X))}, Y)}, r"train: inputs\['b'\]: expected arrays of numbers"),
        ({"train": ({}, Y)}, "train: expected inputs, an array or a tree of arrays"),
        ({"train": (X, (Y, Y)), "valid": (X, (Y, Y))}, "loss: expected a function .* for several targets"),
        (
            {"train": ([[1.0], [1.0, 2.0]], Y[:2])},
            "train: expected inputs in arrays, got 'a list: .*inhomogeneous",
        ),
        ({"loss": "hinge"}, "loss: expected one of"),
        ({"loss": 3}, "loss: expected one of"),
        ({"loss": lambda hp, out, y: 0.0}, r"loss: .* loss\(outputs, targets, hp\), got '\(hp, out, y\)'"),
        ({"penalty": lambda params, hp: 0.0}, r"penalty: .* penalty\(hp, params\), got '\(params, hp\)'"),
        ({"metrics": {"own": lambda out, y, hp: 0.0}}, r"metrics: own: .* metric\(outputs, targets\), got"),
        ({"tx": optax.sgd(0.1)}, "tx: expected a function"),
        ({"tx": optax.adam}, r'tx: expected a function .*; write lambda hp: adam\(hp\["lr"\]\)'),
        ({"model": 3}, "model: expected a flax linen module"),
        ({"model": Nnx(nnx.Rngs(0))}, "model: expected a function or class of rngs"),
        ({"model": Linen}, r"model: expected a linen module, not its class, .*; write Linen\(...\)"),
        ({"model": (len,)}, "model"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 97}, "batch_size"),
        ({"steps": -1}, "steps"),
        ({"steps": lambda hp: hp["n"]}, "max_steps"),
        ({"max_steps": 3}, "max_steps"),
        ({"metric": "acuracy"}, "metric: expected one of"),
        ({"metrics": ["acuracy"]}, "metrics: acuracy: expected a function, or one of"),
        ({"seed": -1}, "seed"),
        ({"eval_batch": 0}, "eval_batch"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_named(change, message) -> None:
    given = {"model": LINE, "tx": sgd, "loss": "classification", "train": (X, Y), "valid": (X, Y)} | change
    with pytest.raises(InvalidArgument, match=message):
        jhpo.supervised(given.pop("model"), given.pop("tx"), given.pop("loss"), **given)


def test_masked_mlp_draws_normal_weights_of_the_live_scale() -> None:
    model = jhpo.masked_mlp(["width"], [300], 200)
    first, last = (layer["w"] for layer in model.init({"width": 100}, KEY, jnp.ones((1, 400)))[0])
    assert not first[:, 100:].any() and not last[100:].any()
    first, last = first[:, :100], last[:100]
    for weights, inputs in ((first, 400), (last, 100)):
        assert stats.kstest(np.asarray(weights).ravel() / np.sqrt(2 / inputs), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(weights[:-1].ravel(), weights[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(first[:100].ravel(), last[:, :100].ravel())[0, 1]) < 0.04


def test_masked_mlp_checks_its_sizes() -> None:
    for arguments in ((["w"], [8, 8], 2), ([9], [8], 2), (["w"], [0], 2), (["w"], [8], 0)):
        with pytest.raises(InvalidArgument):
            jhpo.masked_mlp(*arguments)
