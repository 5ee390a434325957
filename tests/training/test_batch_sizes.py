"""Batch sizes and epochs as hyperparameters."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

import jhpo
from jhpo.kernels.shuffle import batch_rows
from tests.selection import slow_except

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32)
LABELS = (Y > 0).astype(np.int32)
LINE = (lambda key, x: {"w": jnp.zeros((3,))}, lambda p, x: x @ p["w"])
KEY = jax.random.key(0)
SGD = lambda hp: optax.sgd(0.05)  # noqa: E731


def task(batch_size, **options):
    options = {"train": (X, Y), "valid": (X, Y), "steps": 12} | options
    return jhpo.supervised(LINE, SGD, "regression", batch_size=batch_size, **options)


def trained(trainable, hp):
    state = trainable.init(hp, KEY)
    steps = trainable.steps(hp) if callable(trainable.steps) else trainable.steps
    for t in range(int(steps)):
        state = trainable.step(hp, state, jnp.int32(t))
    return state.params["w"]


SIZES = [(size, independent) for size in (1, 7, 16) for independent in (False, True)]


@pytest.mark.parametrize(("size", "independent"), slow_except({"7-False", "1-True"}, SIZES, lambda v: f"{v[0]}-{v[1]}"))
def test_a_size_from_the_hyperparameters_is_that_size(size: int, independent: bool) -> None:
    free = task(lambda hp: hp["b"], max_batch_size=16, independent_batches=independent)
    fixed = task(size, independent_batches=independent)
    np.testing.assert_allclose(trained(free, {"b": jnp.int32(size)}), trained(fixed, {}), rtol=2e-5, atol=1e-6)


def test_ignored_labels_and_own_size_both_do_not_count() -> None:
    labels = LABELS.copy()
    labels[::3] = -100
    two = (lambda key, x: {"w": jnp.zeros((3, 2))}, lambda p, x: x @ p["w"])

    def make(batch_size, **options):
        data = {"train": (X, labels), "valid": (X, labels), "steps": 6, "ignore": -100}
        return jhpo.supervised(two, SGD, "classification", batch_size=batch_size, **data, **options)

    free = make(lambda hp: hp["b"], max_batch_size=20)
    np.testing.assert_allclose(trained(free, {"b": jnp.int32(9)}), trained(make(9), {}), rtol=2e-5, atol=1e-6)


def test_rows_are_those_of_a_fixed_size_and_then_repeat_them() -> None:
    for t in (0, 3, 11):
        fixed = batch_rows(KEY, jnp.int32(t), 40, 7)
        free = batch_rows(KEY, jnp.int32(t), 40, jnp.int32(7), 16)
        np.testing.assert_array_equal(free[:7], fixed)
        np.testing.assert_array_equal(free[7:14], fixed)


@pytest.mark.parametrize(("epochs", "steps"), [(3, 15), (0.5, 3), (2.5, 13), (0, 0)])
def test_epochs_are_runs_through_whole_batches(epochs: float, steps: int) -> None:
    assert task(8, steps=None, epochs=epochs).steps == steps
    free = task(lambda hp: hp["b"], max_batch_size=16, steps=None, epochs=epochs, max_steps=100)
    assert int(free.steps({"b": jnp.int32(8)})) == steps
    of_hp = task(8, steps=None, epochs=lambda hp: hp["e"], max_steps=100)
    assert int(of_hp.steps({"e": jnp.float32(epochs)})) == steps


def test_a_population_tunes_width_of_the_batch_and_epochs_at_once() -> None:
    free = task(lambda hp: hp["b"], max_batch_size=32, steps=None, epochs=lambda hp: hp["e"], max_steps=60)
    space = jhpo.Space({"b": jhpo.Int(2, 32, log=True), "e": jhpo.Int(1, 3)})
    result = jhpo.minimize(free, space, jhpo.RandomSearch(16), budget=32)
    assert result.best["b"] < 8 and result.value < 1.0
    alone = task(result.best["b"], steps=None, epochs=result.best["e"])
    assert alone.evaluate({}, alone.init({}, KEY)._replace(params={"w": trained(alone, {})}))["loss"] == pytest.approx(
        result.value, rel=1e-4
    )


def test_small_data_need_no_batch_size() -> None:
    """64 rows by default, fewer where the data or a fold has fewer."""
    few = jhpo.supervised(LINE, SGD, "regression", train=(X, Y), valid=(X, Y), epochs=3)
    assert few.batch_size == 40 and few.steps == 3
    many = {"train": (np.tile(X, (2, 1)), np.tile(Y, 2))}
    assert jhpo.supervised(LINE, SGD, "regression", **many, valid=(X, Y)).batch_size == 64
    folded = jhpo.supervised(LINE, SGD, "regression", **many, epochs=6)
    result = jhpo.minimize(folded, jhpo.Space({"lr": jhpo.Float(0.1, 1.0)}), "random", budget=2, folds=2)
    assert np.isfinite(result.value)
    part = jax.tree.map(lambda rows: rows[0], folded.fold_parts(2))
    assert folded.on_fold(part).batch_size == 40 and folded.on_fold(part).steps == 6


BAD = {
    "batch_size: expected an integer, a function of the hyperparameters, 'auto' or None": {"batch_size": "all"},
    r"max_batch_size: expected the largest batch size beside batch_size\(hp\), in \[1, 40\], got None": {
        "batch_size": lambda hp: hp["b"]
    },
    "max_batch_size: expected an integer .* 40": {"batch_size": lambda hp: hp["b"], "max_batch_size": 41},
    "max_batch_size: expected None": {"batch_size": 8, "max_batch_size": 8},
    "epochs: expected None beside steps": {"batch_size": 8, "epochs": 3},
    "epochs: expected a number": {"batch_size": 8, "steps": None, "epochs": -1},
    "max_steps: expected an integer >= 1": {"batch_size": 8, "steps": None, "epochs": lambda hp: hp["e"]},
    "max_steps: expected None": {"batch_size": 8, "steps": None, "epochs": 2, "max_steps": 3},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments(message: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=message):
        task(**BAD[message])


def test_sizes_that_are_no_integers_and_losses_that_are_means() -> None:
    space = jhpo.Space({"b": jhpo.Float(1.0, 8.0)})
    with pytest.raises(jhpo.InvalidArgument, match="batch_size: expected a function that returns an integer"):
        jhpo.minimize(task(lambda hp: hp["b"], max_batch_size=8), space, jhpo.RandomSearch(2), budget=2)
    mean = jhpo.supervised(
        LINE, SGD, lambda o, t: jnp.mean((o - t) ** 2), train=(X, Y), valid=(X, Y), steps=2,
        batch_size=lambda hp: hp["b"], max_batch_size=8,
    )  # fmt: skip
    with pytest.raises(jhpo.InvalidArgument, match="loss: expected a value for each example"):
        jhpo.minimize(mean, jhpo.Space({"b": jhpo.Int(1, 8)}), jhpo.RandomSearch(2), budget=2)


class Norm(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        return linen.Dense(1)(linen.BatchNorm(use_running_average=not train, momentum=0.9)(x))[:, 0]


class ByName(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        return linen.Dense(1)(linen.BatchNorm(use_running_average=not train, momentum=0.9)(x=x))[:, 0]


class NnxNorm(nnx.Module):
    def __init__(self, norm, rngs):
        self.norm, self.out = norm(3, momentum=0.9, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.norm(x))[:, 0]


@pytest.mark.parametrize(
    "model", [Norm(), ByName(), lambda rngs: NnxNorm(jhpo.nnx.BatchNorm, rngs)], ids=["linen", "by-name", "nnx"]
)
def test_statistics_of_a_batch_leave_out_its_padding(model) -> None:
    def state(batch_size, hp):
        made = jhpo.supervised(
            model,
            SGD,
            "regression",
            train=(X, Y),
            valid=(X, Y),
            batch_size=batch_size,
            max_batch_size=16 if callable(batch_size) else None,
            steps=2,
        )
        return jax.jit(lambda key: jax.lax.fori_loop(0, 2, lambda t, s: made.step(hp, s, t), made.init(hp, key)))(KEY)

    free, fixed = state(lambda hp: hp["b"], {"b": jnp.int32(7)}), state(7, {})
    for part in ("params", "extra"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6),
            getattr(free, part),
            getattr(fixed, part),
        )


def test_layers_that_would_count_the_padding_are_refused() -> None:
    class Equinox(eqx.Module):
        norm: eqx.nn.BatchNorm
        out: eqx.nn.Linear

        def __init__(self, key):
            self.norm, self.out = eqx.nn.BatchNorm(3, "batch", mode="batch"), eqx.nn.Linear(3, "scalar", key=key)

        def __call__(self, x, state):
            x, state = self.norm(x, state)
            return self.out(x), state

    space = jhpo.Space({"b": jhpo.Int(2, 16)})
    for model in (lambda rngs: NnxNorm(nnx.BatchNorm, rngs), eqx.nn.make_with_state(Equinox)):
        made = jhpo.supervised(
            model, SGD, "regression", train=(X, Y), valid=(X, Y), batch_size=lambda hp: hp["b"], max_batch_size=16,
            steps=2,
        )  # fmt: skip
        with pytest.raises(
            jhpo.InvalidArgument, match=r"batch_size: expected an integer for a module with .*BatchNorm"
        ):
            jhpo.minimize(made, space, jhpo.RandomSearch(2), budget=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"batch_size": lambda hp: hp["n"], "max_batch_size": 16},
            "batch_size: expected at most 16, max_batch_size, got 20",
        ),
        (
            {"batch_size": 8, "steps": lambda hp: hp["n"], "max_steps": 16},
            "steps: expected at most 16, max_steps, got 20",
        ),
    ],
)
def test_a_hyperparameter_beyond_its_largest_value_is_refused_not_cut(options, words: str) -> None:
    for parameter in (jhpo.Int(4, 20, step=4), jhpo.Choice([20, 4])):
        with pytest.raises(jhpo.InvalidArgument, match=words):
            jhpo.minimize(task(**options), jhpo.Space({"n": parameter}), jhpo.RandomSearch(2), budget=2)
    fitting = jhpo.Space({"n": jhpo.Int(4, 16)})
    assert np.isfinite(jhpo.minimize(task(**options), fitting, jhpo.RandomSearch(2), budget=2).value)
