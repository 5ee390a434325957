"""Models of every library through `supervised`: tuned dropout, streams of random numbers, equinox, any pytree."""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jhpo

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype(np.float32)
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(np.int32)
KEY = jax.random.key(0)
SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 1e-1, log=True), "rate": jhpo.Float(0.0, 0.9)})


def task(model, **options):
    options = {"tx": lambda hp: optax.adam(hp["lr"]), "batch_size": 16, "steps": 12} | options
    return jhpo.supervised(model, train=(X[:64], Y[:64]), valid=(X[64:], Y[64:]), **options)


class LinenTuned(nn.Module):
    rate: float

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.Dense(8)(x))
        return nn.Dense(2)(jhpo.linen.Dropout(self.rate, deterministic=not train)(x))


class NnxTuned(nnx.Module):
    def __init__(self, hp, rngs: nnx.Rngs):
        self.first, self.last = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)
        self.dropout = jhpo.nnx.Dropout(hp["rate"], rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.first(x))))


class EqxTuned(eqx.Module):
    first: eqx.nn.Linear
    last: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, hp, *, key):
        a, b = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(6, 8, key=a), eqx.nn.Linear(8, 2, key=b)
        self.dropout = eqx.nn.Dropout(hp["rate"])

    def __call__(self, x, *, key):
        return self.last(self.dropout(jax.nn.relu(self.first(x)), key=key))


TUNED = {"linen": lambda hp: LinenTuned(hp["rate"]), "nnx": NnxTuned, "equinox": EqxTuned}


@pytest.mark.parametrize("name", TUNED)
def test_a_tuned_dropout_rate(name) -> None:
    trainable = task(TUNED[name])
    result = jhpo.minimize(trainable, SPACE, jhpo.RandomSearch(8), budget=8)
    assert np.isfinite(result.history.value).all()

    @jax.jit
    def step(rate, t):
        hp = {"lr": jnp.float32(0.01), "rate": rate}
        state = trainable.init(hp, KEY)
        return trainable.step(hp, state, t).params, state.params

    none, fresh = step(jnp.float32(0.0), jnp.int32(0))
    some, _ = step(jnp.float32(0.5), jnp.int32(0))
    all_of_it, _ = step(jnp.float32(1.0), jnp.int32(0))
    leaves = [jax.tree.leaves(p) for p in (none, some, all_of_it, fresh)]
    assert len(leaves[0]) == 4, "the rate is no parameter that is trained"
    assert any(bool((a != b).any()) for a, b in zip(leaves[0], leaves[1])), "the rate matters in training"
    assert name == "equinox" or all(bool(jnp.isfinite(a).all()) for a in leaves[2]), (
        "and a rate of 1 is a number like others"
    )


def test_dropout_keeps_the_mean_and_the_share() -> None:
    for rate in (0.1, 0.7):
        out = jhpo.dropout(jnp.ones(20_000), jnp.float32(rate), KEY)
        assert abs(float((out == 0).mean()) - rate) < 0.02 and abs(float(out.mean()) - 1) < 0.05
    assert float(jax.grad(lambda r: jhpo.dropout(jnp.ones(8), r, KEY).sum())(0.5)) != 0
    assert (jhpo.dropout(jnp.ones(4), 0.9, None, deterministic=True) == 1).all()


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dropout_in_other_types(dtype, x64) -> None:
    out = jhpo.dropout(jnp.ones(20_000, dtype), jnp.float32(0.3), KEY)
    assert out.dtype == dtype and abs(float((out == 0).mean(dtype=float)) - 0.3) < 0.02


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_flax_dropout_of_a_traced_rate_names_ours(kind) -> None:
    class Net(nn.Module):
        rate: float

        @nn.compact
        def __call__(self, x, train: bool):
            return nn.Dense(2)(nn.Dropout(self.rate, deterministic=not train)(x))

    class Other(NnxTuned):
        def __init__(self, hp, rngs):
            super().__init__(hp, rngs)
            self.dropout = nnx.Dropout(hp["rate"], rngs=rngs)

    model = Other if kind == "nnx" else lambda hp: Net(hp["rate"])
    with pytest.raises(jhpo.InvalidArgument, match=f"jhpo.{kind}.Dropout"):
        jhpo.minimize(task(model), SPACE, jhpo.RandomSearch(4), budget=4)


class LinenNoise(nn.Module):
    @nn.compact
    def __call__(self, x):
        a, b = (jax.random.normal(self.make_rng(name), x.shape) for name in ("noise", "other"))
        return nn.Dense(2)(x + 0.1 * a + 0.1 * b)


class NnxNoise(nnx.Module):
    def __init__(self, rngs):
        self.last, self.rngs = nnx.Linear(6, 2, rngs=rngs), rngs

    def __call__(self, x):
        return self.last(x + 0.1 * jax.random.normal(self.rngs.noise(), x.shape))


@pytest.mark.parametrize("model", [LinenNoise(), NnxNoise], ids=["linen", "nnx"])
def test_every_stream_a_model_asks_for(model) -> None:
    trainable = task(model)
    result = jhpo.minimize(trainable, SPACE, jhpo.RandomSearch(4), budget=4)
    assert np.isfinite(result.value)
    best = result.top(1)[0]
    one, two = (trainable.evaluate(best.params, best.state)["loss"] for _ in range(2))
    assert one == two
    out = [
        trainable.model.apply({}, best.state.params, best.state.extra, X, jax.random.key(i), True)[0] for i in (0, 1)
    ]
    assert (out[0] != out[1]).any()


class EqxNorm(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key):
        a, b = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(6, 8, key=a), eqx.nn.Linear(8, 2, key=b)
        self.norm, self.dropout = eqx.nn.BatchNorm(8, axis_name="rows", mode="batch"), eqx.nn.Dropout(0.2)

    def __call__(self, x, state, *, key=None):
        x, state = self.norm(self.first(x), state)
        return self.last(self.dropout(jax.nn.relu(x), key=key)), state


MLP = functools.partial(eqx.nn.MLP, 6, 2, 8, 1)
EQUINOX = {
    "function of key": lambda key: MLP(key=key),
    "function of hp and key": lambda hp, key: MLP(activation=jnp.tanh, key=key),
    "partial": MLP,
    "module": MLP(key=KEY),
    "with state": eqx.nn.make_with_state(EqxNorm),
    "function with state": lambda key: eqx.nn.make_with_state(EqxNorm)(key),
    "made with state": eqx.nn.make_with_state(EqxNorm)(KEY),
    "sequential": lambda key: eqx.nn.Sequential([eqx.nn.Linear(6, 2, key=key), eqx.nn.Dropout(0.1)]),
}


@pytest.mark.parametrize("name", EQUINOX)
def test_equinox_modules_learn(name) -> None:
    trainable = task(EQUINOX[name], steps=60)
    result = jhpo.minimize(trainable, SPACE, jhpo.RandomSearch(6), budget=6)
    best = result.top(1)[0]
    assert best.value < 0.5
    np.testing.assert_allclose(trainable.evaluate(best.params, best.state)["loss"], best.value, rtol=1e-5)
    module = trainable.trained_model(best.params, best.state)
    if "state" in name:
        module, state = module
        out = jax.vmap(lambda x: module(x, state)[0], axis_name="rows")(X[64:])
    else:
        out = jax.vmap(module)(X[64:])
    np.testing.assert_allclose(out, trainable.predict(best.params, best.state, X[64:]), rtol=1e-4, atol=1e-5)


def test_equinox_errors_say_what_to_do() -> None:
    with pytest.raises(jhpo.InvalidArgument, match="make_with_state"):
        jhpo.minimize(task(lambda key: EqxNorm(key)), SPACE, jhpo.RandomSearch(4), budget=4)
    with pytest.raises(jhpo.InvalidArgument, match="hp and key"):
        task(lambda hp, other, key: None)
    with pytest.raises(jhpo.InvalidArgument, match="equinox module"):
        jhpo.minimize(task(lambda key: 3), SPACE, jhpo.RandomSearch(4), budget=4)


# what a factory returns is known when it is called; each of the three libraries says what it wanted
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": lambda hp: lambda rngs: NnxTuned(hp, rngs)}, "linen module.*hp and rngs.*got <function"),
        ({"model": lambda hp: nn.Dense}, "linen module.*got <class"),
        ({"model": lambda hp, rngs: nn.Dense(2)}, "returns an nnx module, got Dense"),
        ({"tx": lambda hp: optax.adam}, "tx: .*optax transformation, got <function adam"),
        ({"tx": lambda hp: None}, "tx: .*optax transformation, got None"),
    ],
)
def test_a_factory_that_returns_something_else(changed, words) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=f"(?s){words}"):
        jhpo.minimize(task(**{"model": NnxTuned} | changed), SPACE, jhpo.RandomSearch(4), budget=4)


def test_hypergradients_of_an_equinox_module() -> None:
    trainable = task(EQUINOX["with state"], steps=5)
    out = jhpo.hypergrad(trainable, {"lr": 0.01, "rate": 0.1}, KEY)
    assert np.isfinite(out[0]) and out[1]["lr"] != 0


def test_trained_flax_modules_predict_without_jhpo() -> None:
    hp = {"lr": 0.01, "rate": 0.2}
    for model in (TUNED["linen"], NnxTuned):
        trainable = task(model)
        state = jax.jit(lambda trainable=trainable: trainable.step(hp, trainable.init(hp, KEY), jnp.int32(0)))()
        module = trainable.trained_model(hp, state)
        out = module(X[64:], train=False) if isinstance(module, nn.Module) else module(X[64:])
        np.testing.assert_allclose(out, trainable.predict(hp, state, X[64:]), rtol=1e-5, atol=1e-6)
