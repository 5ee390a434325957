"""Hyperparameters that are no numbers reach the user's functions as the Python values they are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.training.values import Value, hold, release

X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32)
KEY = jax.random.key(0)


def double(v):
    return 2.0 * v


def same(v):
    return v


VALUES: dict[str, Any] = {
    "opt": ["sgd", "adam"],
    "n": [1, 2],
    "flag": [True, False],
    "none": [None, "some"],
    "pair": [(1, "a"), (2, "b")],
    "f": [double, same],
}
HP = {"lr": 0.01} | {name: values[0] for name, values in VALUES.items()}


def seen(hp):
    """Whatever the function, its hyperparameters are values of the lists, by type too."""
    for name, values in VALUES.items():
        assert any(type(hp[name]) is type(v) and hp[name] == v for v in values), (name, hp[name])
    assert all(type(a) is type(b) for a, b in zip(hp["pair"], (1, "a")))
    return hp


def make(**options):
    class Line:
        @staticmethod
        def init(key, x):
            return {"w": jnp.zeros((3,))}

    return jhpo.supervised(
        (Line.init, lambda p, x: x @ p["w"]),
        lambda hp: getattr(optax, seen(hp)["opt"])(hp["lr"]),
        lambda o, t, hp: sum([(o - t) ** 2] * seen(hp)["n"]) * (1.0 if hp["none"] is None else 0.5),
        train=(X, Y),
        valid=(X, Y),
        batch_size=16,
        steps=lambda hp: jnp.int32(3 * seen(hp)["pair"][0]),
        max_steps=6,
        penalty=lambda hp, p: 1e-3 * seen(hp)["f"]((p["w"] ** 2).sum()) * (2.0 if hp["flag"] else 1.0),
        **options,
    )


def space(**more):
    few = {
        name: jhpo.Choice(values[:1] if name in ("none", "f") else values, static=True)
        for name, values in VALUES.items()
    }
    return jhpo.Space({"lr": jhpo.Float(1e-3, 0.1, log=True)} | few | more)


STRATEGIES = {
    "random": lambda: jhpo.RandomSearch(4),
    "bayes": lambda: jhpo.BayesOpt(initial=2),
    "hypergradient": lambda: jhpo.HyperGradient(1),
    "chain": lambda: jhpo.Chain(jhpo.RandomSearch(2), jhpo.HyperGradient(1)),
}


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_searches(strategy: str) -> None:
    one = {name: jhpo.Choice(values[:1], static=True) for name, values in VALUES.items()}
    result = jhpo.minimize(make(), space(**one), STRATEGIES[strategy](), budget=4)
    assert np.isfinite(result.value)
    assert seen(result.best)["f"] is double


def test_studies_group_by_value_and_give_the_states() -> None:
    study = jhpo.Study(space(), jhpo.RandomSearch(4), seed=1)
    study.optimize(make(), budget=4)
    best = study.top(1)[0]
    assert seen(best.params) and np.isfinite(best.value)


@pytest.mark.parametrize("method", ["auto", "reverse", "forward", "truncated", "pes", "es_single"])
def test_hypergradients(method: str) -> None:
    options = {"window": 3} if method == "truncated" else {}
    found = jhpo.hypergrad(make(), HP, KEY, method, wrt=["lr"], **options)
    assert found.diagnostics.names == ("lr",)
    assert np.isfinite(found.grad["lr"])
    assert found.grad["opt"] is None and found.grad["f"] is None and float(found.grad["n"]) == 0.0

    def value(lr):
        return jhpo.hypergrad(make(), HP | {"lr": lr}, KEY, "forward", wrt=["lr"], check=False).value

    if method in ("auto", "reverse", "forward"):
        difference = (value(0.0101) - value(0.0099)) / 0.0002
        np.testing.assert_allclose(found.grad["lr"], difference, rtol=0.02)


def test_without_wrt_all_numbers_are_differentiated() -> None:
    whole = {k: v for k, v in HP.items() if k not in ("n", "pair")}

    class Descent:
        steps = 3

        def init(self, hp, key):
            return jnp.float32(2.0)

        def step(self, hp, w, t):
            assert hp["f"] is double and hp["opt"] == "sgd" and hp["flag"] is True and hp["none"] is None
            return w - hp["lr"] * hp["f"](w)

        def evaluate(self, hp, w):
            return w**2

    found = jhpo.hypergrad(Descent(), whole, KEY)
    assert found.diagnostics.names == ("lr",)
    np.testing.assert_allclose(found.grad["lr"], 4 * 6 * (1 - 0.02) ** 5 * -2.0, rtol=1e-5)


def test_text_of_numpy_is_no_number() -> None:
    for text in ("adam", np.str_("adam")):
        found = jhpo.hypergrad(lambda hp: hp["lr"] ** 2 * len(hp["opt"]), {"lr": 0.5, "opt": text}, KEY)
        assert float(found.grad["lr"]) == 4.0 and found.grad["opt"] is None


def test_online_tuning() -> None:
    with pytest.raises(jhpo.InvalidArgument, match=r"loss: expected a function loss\(hp, state, t\), or None"):
        jhpo.online_tune(make(), HP, KEY, space=space(), loss="loss")  # type: ignore[arg-type]
    with pytest.raises(jhpo.InvalidArgument, match="metric: expected the name of one metric"):
        jhpo.online_tune(make(), HP, KEY, space=space(), metric=["loss"])  # type: ignore[arg-type]
    moved = jhpo.online_tune(make(), HP, KEY, optax.sgd(1e-4), window=3)
    assert seen(moved.hp) and seen(moved.path) and moved.path["lr"].shape == (2,)
    inside = jhpo.online_tune(make(), HP, KEY, space=space(), window=3)
    assert seen(inside.hp) and float(inside.hp["lr"]) != HP["lr"]


def test_values_of_different_types_are_different_parts_of_a_program() -> None:
    one, same, true, real = (jax.tree.structure(Value(v)) for v in (1, 1, True, 1.0))
    assert one == same and one != true and one != real
    assert release(hold(HP, lambda x: not isinstance(x, float))) == HP
    with pytest.raises(jhpo.InvalidArgument, match="hp: s: expected a number, an array, or a hashable value"):
        jhpo.hypergrad(lambda hp: hp["lr"], {"lr": 0.1, "s": bytearray(b"x")}, KEY)
