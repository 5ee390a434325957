"""Functions that make a model take hyperparameters and randomness in any order and by any means, or are refused."""

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
from jhpo.training.networks import as_model

HP, KEY, X = {"width": 4}, jax.random.key(0), jnp.ones((2, 3))


def mlp(hp, key):
    return eqx.nn.MLP(3, 2, hp["width"], 1, key=key)


class Net(nnx.Module):
    def __init__(self, hp, rngs):
        self.layer = nnx.Linear(3, 2 + hp["width"], rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


class Turned(Net):
    def __init__(self, rngs, hp):
        super().__init__(hp, rngs)


class Equinox(eqx.Module):
    layer: eqx.nn.Linear

    def __init__(self, key, hp):
        self.layer = eqx.nn.Linear(3, hp["width"], key=key)

    def __call__(self, x):
        return self.layer(x)


class Object:
    def __call__(self, key, hp):
        return mlp(hp, key)

    def method(self, rng, hp):
        return mlp(hp, rng)


def positional(hp, key, /):
    return mlp(hp, key)


def turned(rng, hp, /):
    return mlp(hp, rng)


TAKEN = {
    "hp, key": (mlp, mlp),
    "key, hp": (lambda key, hp: mlp(hp, key), mlp),
    "hp, rng": (lambda hp, rng: mlp(hp, rng), mlp),
    "named": (lambda *, hp, key: mlp(hp, key), mlp),
    "positional": (positional, mlp),
    "turned": (turned, mlp),
    "rng": (lambda rng: mlp(HP, rng), mlp),
    "partial": (functools.partial(lambda extra, key, hp: mlp(hp, key), 1), mlp),
    "object": (Object(), mlp),
    "method": (Object().method, mlp),
    "class": (Equinox, lambda hp, key: Equinox(key, hp)),
    "rngs, hp": (lambda rngs, hp: Net(hp, rngs), Net),
    "rngs by name": (lambda *, hp, rngs: Net(hp, rngs), Net),
    "nnx class": (Turned, Net),
    "linen by name": (lambda *, hp: nn.Dense(hp["width"]), lambda hp: nn.Dense(hp["width"])),
}


@pytest.mark.parametrize("name", TAKEN)
def test_the_order_and_kind_of_arguments_change_nothing(name) -> None:
    given, usual = (as_model(model).init(HP, KEY, X)[0] for model in TAKEN[name])
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(usual), strict=True):
        np.testing.assert_array_equal(one, other)
    assert as_model(TAKEN[name][0]) == as_model(TAKEN[name][0]), "equal models share a program"


def test_a_turned_function_is_trained() -> None:
    data = (np.ones((8, 3), np.float32), np.arange(8) % 2)
    task = jhpo.supervised(TAKEN["key, hp"][0], lambda hp: optax.sgd(hp["lr"]), train=data, valid=data, steps=2)
    space = jhpo.Space({"lr": jhpo.Float(0.01, 0.1), "width": jhpo.Choice([2, 4], static=True)})
    assert np.isfinite(jhpo.minimize(task, space, jhpo.RandomSearch(2), budget=2).value)


PAIR = (lambda key, x: {"w": jnp.ones((3, 2))}, lambda params, x: x @ params["w"])
REFUSED = {
    "none": (lambda: nn.Dense(2), r"model: expected a flax linen module, .*, got '\(\)'"),
    "two": (
        lambda key, a, b: mlp(HP, key),
        r"model: expected a function of key, or of hp and key, got '\(key, a, b\)'",
    ),
    "init": ((lambda x, key: 0, PAIR[1]), r"init\(key, x\), which may also take hp by name, got 'init\(x, key\)'"),
    "apply": ((PAIR[0], lambda x, params: 0), r"with apply\(params, x\), .*, got 'apply\(x, params\)'"),
    "nnx": (
        lambda hp, key: Net(hp, nnx.Rngs(key)),
        r"equinox module, .* \(an nnx module is returned by .* hp and rngs",
    ),
    "linen": (lambda key, hp: nn.Dense(2), "returns an equinox module, .* a flax linen module by one of hp"),
    "function": (lambda key, hp: jnp.tanh, "model: expected a function of key that returns an equinox module"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_maker_is_refused_by_name(name) -> None:
    model, words = REFUSED[name]
    with pytest.raises(jhpo.InvalidArgument, match=words):
        as_model(model).init(HP, KEY, X)
