"""States that hold more than arrays: an equinox module, functions, names."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo

X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
Y = np.tanh(X @ np.array([1.0, -2.0, 0.5], np.float32))
SPACE = jhpo.Space({"lr": jhpo.Float(1e-2, 0.3, log=True)})
KEY = jax.random.key(0)


def loss(model, x, y):
    return ((jax.vmap(model)(x)[:, 0] - y) ** 2).mean()


class Plain:
    """Descent on an equinox network, which is the state."""

    steps = 20

    def init(self, hp, key):
        return eqx.nn.MLP(3, 1, 8, 1, activation=lambda v: jax.nn.relu(v), key=key)

    def step(self, hp, model, t):
        grads = eqx.filter_grad(loss)(model, X, Y)
        return eqx.apply_updates(model, jax.tree.map(lambda g: -hp["lr"] * g, grads))

    def evaluate(self, hp, model):
        return loss(model, X, Y)


class Named(Plain):
    """The same in a dictionary, beside a name, a flag, a number and None."""

    def init(self, hp, key):
        return {"model": super().init(hp, key), "name": "mlp", "loss": loss, "none": None, "steps": jnp.int32(0)}

    def step(self, hp, state, t):
        assert state["name"] == "mlp" and state["loss"] is loss and state["none"] is None
        return state | {"model": super().step(hp, state["model"], t), "steps": state["steps"] + 1}

    def evaluate(self, hp, state):
        return super().evaluate(hp, state["model"])


class Module(eqx.Module):
    """A trainable that is itself an equinox module with a network in it."""

    start: eqx.nn.MLP
    steps: int = eqx.field(static=True, default=20)

    def init(self, hp, key):
        return self.start

    step, evaluate = Plain.step, Plain.evaluate


def module():
    return Module(eqx.nn.MLP(3, 1, 8, 1, key=KEY))


MAKE = {"plain": Plain, "named": Named, "module": module}


@pytest.mark.parametrize("name", MAKE)
def test_searches_give_the_states_back(name: str) -> None:
    task = MAKE[name]()
    result = jhpo.minimize(task, SPACE, jhpo.RandomSearch(4), budget=4)
    for top in result.top(2):
        model = top.state["model"] if name == "named" else top.state
        assert callable(model.activation)
        np.testing.assert_allclose(loss(model, X, Y), top.value, rtol=1e-5)
    assert result.value < 0.5


@pytest.mark.parametrize("name", MAKE)
def test_studies_and_variable_lengths(name: str) -> None:
    task = MAKE[name]()
    study = jhpo.Study(SPACE, jhpo.PSO(4), seed=1)
    study.optimize(task, budget=4)
    (state,) = study.states(task, study.top(1))
    np.testing.assert_allclose(float(task.evaluate({}, state)), study.best.value, rtol=1e-5)


@pytest.mark.parametrize("method", ["forward", "reverse"])
def test_hypergradients_are_those_of_a_plain_loop(method: str) -> None:
    def value(lr):
        task = Plain()
        model = task.init({}, KEY)
        for t in range(task.steps):
            model = task.step({"lr": lr}, model, t)
        return task.evaluate({}, model)

    for task in (Plain(), Named()):
        found = jhpo.hypergrad(task, {"lr": 0.1}, KEY, method)
        np.testing.assert_allclose(found.value, value(jnp.float32(0.1)), rtol=1e-5)
        np.testing.assert_allclose(found.grad["lr"], jax.grad(value)(jnp.float32(0.1)), rtol=1e-3)


def test_what_cannot_be_hashed_is_named() -> None:
    class Wrong(Plain):
        def init(self, hp, key):
            return {"model": super().init(hp, key), "bytes": bytearray(b"x")}

    with pytest.raises(jhpo.InvalidArgument, match="state: bytes: expected a number, an array, or a hashable value"):
        jhpo.minimize(Wrong(), SPACE, jhpo.RandomSearch(2), budget=2)
