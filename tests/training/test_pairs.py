"""Models that are a pair of plain functions, and what these take by name."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True), "rate": jhpo.Float(0.1, 0.8), "scale": jhpo.Float(0.5, 2.0)})


def made(init: Any, apply: Any) -> Any:
    data: dict[str, Any] = {"train": (X[:48], Y[:48]), "valid": (X[48:], Y[48:])}
    return jhpo.supervised((init, apply), lambda hp: optax.sgd(hp["lr"]), batch_size=16, steps=3, **data)


def start(key, x):
    return {"w": 0.1 * jax.random.normal(key, (x.shape[-1], 2))}


def line(params, x):
    return x @ params["w"]


def test_what_functions_take_by_name() -> None:
    def scaled(key, x, *, hp):
        return {"w": hp["scale"] * start(key, x)["w"]}

    def dropped(params, x, train, hp, key=None):
        return line(params, jhpo.dropout(x, hp["rate"], key, deterministic=not train))

    task = made(scaled, dropped)
    result = jhpo.minimize(task, SPACE, jhpo.RandomSearch(4), budget=4)
    (best,) = result.top(1)
    outputs = task.predict(best.params, best.state, X)
    np.testing.assert_allclose(outputs, line(best.state.params, X), rtol=1e-5, atol=1e-6)  # nothing is dropped
    np.testing.assert_allclose(task.trained_model(best.params, best.state)(X), outputs, rtol=1e-5, atol=1e-6)
    hp = {name: jnp.float32(value) for name, value in best.params.items()}
    begun = [task.init(hp | {"scale": jnp.float32(s)}, jax.random.key(0)).params["w"] for s in (1.0, 2.0)]
    np.testing.assert_allclose(2 * begun[0], begun[1], rtol=1e-6)
    plain = made(start, line)
    steps = [
        t.step(hp, t.init(hp | {"scale": jnp.float32(1.0)}, jax.random.key(0)), 0).params["w"] for t in (task, plain)
    ]
    assert not np.allclose(*steps)  # the training drops inputs


def test_parameters_that_need_no_data() -> None:
    by_key = made(lambda key: start(key, X), line)
    same = made(start, line)
    hp = {"lr": jnp.float32(0.1)}
    states = [jax.jit(task.init)(hp, jax.random.key(0)).params["w"] for task in (by_key, same)]
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize(
    ("init", "apply", "message"),
    [
        (lambda: {}, line, r"with init\(key, x\), which may also take hp by name, got 'init\(\)'"),
        (lambda key, x, rate: {}, line, r"with init\(key, x\), .*, got 'init\(key, x, rate\)'"),
        (start, lambda params: 0.0, r"with apply\(params, x\), .* hp, key and train by name, got 'apply\(params\)'"),
        (start, lambda params, x, dropout: x, r"with apply\(params, x\), .*, got 'apply\(params, x, dropout\)'"),
        (start, lambda hp, params, x: x, r"with apply\(params, x\), .*, got 'apply\(hp, params, x\)'"),
    ],
)
def test_other_arguments_are_refused_at_once(init: Any, apply: Any, message: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=rf"model: expected a pair of functions \(init, apply\) {message}"):
        made(init, apply)


class Initial:
    """A function that cannot be hashed, as a dataclass cannot by default."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, key: jax.Array, x: jax.Array) -> Any:
        return start(key, x)


def test_pairs_are_freed_and_need_no_hash() -> None:
    initial = Initial()
    gone = weakref.ref(initial)
    task = made(initial, line)
    assert task.model.init({}, jax.random.key(0), X)[0]["w"].shape == (4, 2)
    del initial, task
    gc.collect()
    assert gone() is None
