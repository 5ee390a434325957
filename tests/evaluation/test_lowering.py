"""A population's programs lower for CUDA and TPU from a CPU: no operation is missing there, no library is called."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jhpo
from jhpo.evaluation.described import NO_STATIC, StaticValues
from jhpo.evaluation.members import evaluate_program, state_program
from jhpo.programs.devices import member_mesh
from jhpo.search.generations import Told, block_program
from jhpo.strategies.base import Evaluation, Request
from jhpo.training.objective import as_trainable

PLATFORMS = ("cuda", "tpu")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 4, 4, 1)).astype(np.float32)
Y = (X.sum((1, 2, 3)) > 0).astype(np.int32)
LR = jhpo.Float(1e-3, 1.0, log=True)


def function(program: Any) -> Any:
    """What a `Programs` compiles."""
    return program.__wrapped__


def lowered(f, *args) -> str:
    """The program for both platforms."""
    exported = jax.export.export(jax.jit(f), platforms=PLATFORMS)(*args)
    assert exported.platforms == PLATFORMS
    return exported.mlir_module()


class Deep(nn.Module):
    """Layers whose number is a static hyperparameter."""

    depth: int

    @nn.compact
    def __call__(self, x):
        x = x.reshape(len(x), -1)
        for _ in range(self.depth):
            x = nn.Dense(2)(x)
        return x


class Net(nn.Module):
    """Convolution, batch normalisation and dropout."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.Conv(2, (3, 3))(x))
        x = nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1))
        return nn.Dense(2)(nn.Dropout(0.3, deterministic=not train)(x))


NET = Net()


def trained(model=NET, **options):
    options = {"batch_size": 8, "steps": 3} | options
    tx = lambda hp: optax.adam(hp["lr"])  # noqa: E731
    return jhpo.supervised(model, tx, train=(X[:32], Y[:32]), valid=(X[32:], Y[32:]), **options)


def plain(**options):
    init = lambda key, x: {"w": 0.1 * jax.random.normal(key, (16, 2))}  # noqa: E731
    return trained((init, lambda p, x: x.reshape(len(x), -1) @ p["w"]), **options)


FLAT = jhpo.Space({"lr": LR})
BOUNDED = jhpo.Space({"lr": LR, "wd": LR}, constraints=[lambda hp: hp["lr"] - hp["wd"]])
CASES: dict[str, tuple[Any, jhpo.Space, dict[str, Any]]] = {
    "a function": (lambda hp, key: hp["lr"] * jax.random.normal(key), FLAT, {}),
    "a network, replicates": (trained, FLAT, {"replicates": 2}),
    "own batches, lengths, all metrics": (
        lambda: plain(independent_batches=True, steps=lambda hp: jnp.int32(2), max_steps=3, metric="auc"), FLAT, {},
    ),
    "products in bfloat16": (lambda: plain(precision="bf16"), FLAT, {}),
    "a static group": (
        lambda: trained(lambda hp: Deep(hp["depth"])),
        jhpo.Space({"lr": LR, "depth": jhpo.Choice([1, 2], static=True)}),
        {"static": StaticValues({"depth": 2})},
    ),
    "gradients": (plain, FLAT, {"request": Request(grad=True)}),
    "constraints, a share of the training": (plain, BOUNDED, {"request": Request(horizon=0.5)}),
}  # fmt: skip


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    usual = {"request": Request(), "replicates": 1, "metric": None, "static": NO_STATIC}
    return usual | options


@pytest.mark.parametrize("name", CASES)
def test_generations(name) -> None:
    made, space, options = CASES[name]
    trainable = as_trainable(made if name == "a function" else made())
    options = options_of(options) | {"mesh": member_mesh(jax.local_devices()[:1])}

    def program(trainable, units, ids, root):
        key = jax.random.wrap_key_data(root)
        return function(evaluate_program)(trainable, space, units, ids, key, **options)

    units, ids = np.full((4, space.dim), 0.5, np.float32), np.arange(4, dtype=np.uint32)
    text = lowered(program, trainable, units, ids, jax.random.key_data(jax.random.key(0)))
    assert "custom_call" not in text and ("bf16" in text) == ("bfloat16" in name)


def test_trained_states() -> None:
    options = {k: v for k, v in options_of({}).items() if k != "request"} | {"horizon": 1.0}

    def program(trainable, units, ids, root):
        key = jax.random.wrap_key_data(root)
        return function(state_program)(trainable, FLAT, units, ids, key, **options)

    arguments = (np.full((2, 1), 0.5, np.float32), np.arange(2, dtype=np.uint32))
    text = lowered(program, as_trainable(plain()), *arguments, jax.random.key_data(jax.random.key(0)))
    assert "custom_call" not in text


def test_blocks_of_generations() -> None:
    strategy = jhpo.PSO(8)
    objective, key = as_trainable(lambda hp, key: hp["lr"] + jax.random.normal(key)), jax.random.key(0)
    told = Told(jnp.zeros((8, 1)), Evaluation(value=jnp.zeros(8)))
    state = jax.eval_shape(strategy.init, FLAT, key)
    numbers = (jnp.uint32(0), jnp.uint32(0), jnp.int32(5), jnp.int32(40), jnp.float32(1), jnp.float32(0))

    def program(state, told, root, *numbers):
        arguments = (strategy, FLAT, objective, FLAT, state, told, jnp.bool_(True), jax.random.wrap_key_data(root))
        return function(block_program)(
            *arguments, *numbers, rows=8, most=8, request=Request(), replicates=1, masked=False, keep="all", metric=None
        )[0]

    text = lowered(program, state, told, jax.random.key_data(key), *numbers)
    assert "stablehlo.while" in text and "custom_call" not in text
