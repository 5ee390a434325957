"""A name that a space does not have is answered by those that it has."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen

import jhpo
from jhpo.errors import LIBRARIES
from jhpo.words.lookups import names_there

SPACE = jhpo.Space({
    "lr": jhpo.Float(0.1, 1.0), "net": {"width": jhpo.Int(1, 4)}, "b2": jhpo.Float(0.0, 1.0, when={"net.width": 4})
})  # fmt: skip


class Descent:
    steps = 2

    def init(self, hp, key):
        return jnp.ones(())

    def step(self, hp, w, t):
        return w - hp["rate"] * w

    def evaluate(self, hp, w):
        return w


def of_a_tree(hp):
    return jax.tree.map(lambda x: x * hp["learning_rate"], 1.0)


TRACED: dict[str, tuple[Any, str]] = {
    "function": (lambda hp: hp["rate"], "hp has 'b2', 'lr', 'net'"),
    "nested": (lambda hp: hp["net"]["wdith"] * 1.0, "hp['net'] has 'width'"),
    "trainable": (Descent(), "hp has 'b2', 'lr', 'net'"),
    "closure": (of_a_tree, "hp has 'b2', 'lr', 'net'"),
    "pop": (lambda hp: hp.pop("rate"), "hp has 'b2', 'lr', 'net'"),
    "attribute": (lambda hp: hp.lr, 'hyperparameters are entries of a dict: hp["lr"]'),
    "optuna": (
        lambda trial: trial.suggest_float("lr", 0.0, 1.0),
        "hyperparameters are declared in a Space; jhpo.interop.optuna.run runs functions that suggest",
    ),
}


@pytest.mark.parametrize("name", TRACED)
def test_traced_objectives(name: str) -> None:
    objective, there = TRACED[name]
    with pytest.raises(jhpo.InvalidArgument, match=rf"(?m)test_lookups\.py\); {re.escape(there)}$"):
        jhpo.minimize(objective, SPACE, jhpo.RandomSearch(2), budget=2)


def test_host_functions_name_what_is_active() -> None:
    def fit(params: dict[str, Any]) -> float:
        return float(params["b2"] + params["net"]["width"])

    study = jhpo.Study(SPACE, "random")
    study.enqueue({"lr": 0.5, "net": {"width": 2}})
    study.optimize(jhpo.host(fit), budget=1)
    assert study.failures[0].reason.endswith("test_lookups.py); params has 'lr', 'net'")


def test_constraints() -> None:
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)}, constraints=[lambda hp: hp["y"]])
    with pytest.raises(jhpo.InvalidSpace, match=r"test_lookups\.py\); hp has 'x';"):
        jhpo.minimize(lambda hp: hp["x"], space, jhpo.RandomSearch(2), budget=2)


class Module(linen.Module):
    hp: dict[str, Any]

    def __call__(self, x):
        return x * self.hp["scale"]


def raised(call: Callable[[], object]) -> KeyError:
    with pytest.raises(KeyError) as caught:
        call()
    return caught.value


def test_what_is_found_and_what_is_not() -> None:
    many = {f"p{k:02}": 0.0 for k in range(25)}
    assert names_there(raised(lambda: many["x"]), LIBRARIES).endswith("'p19' and 5 more")
    assert names_there(raised(lambda: Module({"width": 1})(2.0)), LIBRARIES) == "; self.hp has 'width'"
    assert names_there(raised(lambda: {}["x"]), LIBRARIES) == ""  # no variable
    assert names_there(raised(lambda: dict(many)["x"]), LIBRARIES) == ""  # nothing is called again
    assert names_there(raised(lambda: SPACE.names.index(many["x"])), (__name__.split(".")[0],)) == ""
    assert names_there(ValueError("x"), LIBRARIES) == ""


def test_an_argument_of_another_entry_point_names_that_one():
    from jhpo.words.advice import answer

    for name, there in (("directions", "minimize"), ("keep", "run"), ("stop", "optimize"), ("chunk", "optimize")):
        assert f"{name}=" in answer(name, ["objective"]) and there in answer(name, ["objective"])
    assert "Study" in answer("fold_by_fold", ["objective"]) and answer("keep", ["keep"]) == "did you mean keep?"
