"""Hypergradients of data with constant columns and of dead units: finite differences, in every mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.training.trainable import train_and_evaluate

KEY = jax.random.key(0)


def made(name):
    module = optax if hasattr(optax, name) else optax.contrib
    return lambda hp: getattr(module, name)(hp["lr"])


def clipped(clip):
    return lambda hp: optax.chain(clip(1e-2), optax.adam(hp["lr"]))


OPTIMISERS = {name: made(name) for name in ("adam", "amsgrad", "adabelief", "rmsprop", "nadam", "lamb", "adafactor")}
OPTIMISERS |= {clip.__name__: clipped(clip) for clip in (optax.clip_by_global_norm, optax.adaptive_grad_clip)}
METHODS = {"forward": {}, "reverse": {"levels": 0}, "auto": {}}


def task(tx):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 4))
    x[:, 1] = 0.0
    y = x[:, :1] - x[:, 2:3]
    model = (
        # the second unit is dead: nothing goes in, nothing comes out
        lambda key, x: {"a": jax.random.normal(key, (4, 2)) * jnp.array([[1.0, 0.0]]), "b": jnp.array([[1.0], [0.0]])},
        lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"],
    )
    return jhpo.supervised(
        model, tx, "regression", train=(x[:16], y[:16]), valid=(x[16:], y[16:]), batch_size=8, steps=4
    )


# adam and a clip stand for the others in the short suite
SLOW = (
    "amsgrad",
    "adabelief",
    "nadam",
    "lamb",
    "rmsprop",
    "adafactor",
    "adaptive_grad_clip",
)  # the others stand for them


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in OPTIMISERS])
def test_the_gradient_equals_finite_differences(name, x64):
    trainable, at, h = task(OPTIMISERS[name]), 0.02, 1e-5
    value = jax.jit(lambda lr: train_and_evaluate(trainable, {"lr": lr}, KEY).value)
    expected = (value(jnp.float64(at + h)) - value(jnp.float64(at - h))) / (2 * h)
    assert abs(expected) > 1e-4
    for method, options in METHODS.items():
        found = jhpo.hypergrad(trainable, {"lr": jnp.float64(at)}, KEY, method, **options)
        np.testing.assert_allclose(found.grad["lr"], expected, rtol=1e-5)
        assert not found.diagnostics.notes


@pytest.mark.slow
def test_every_level_and_precision():
    trainable = task(OPTIMISERS["adam"])
    found = [jhpo.hypergrad(trainable, {"lr": 0.02}, KEY, "reverse", levels=n, check=False).grad["lr"] for n in (1, 2)]
    found.append(jhpo.hypergrad(trainable, {"lr": 0.02}, KEY, "truncated", window=4, check=False).grad["lr"])
    expected = jhpo.hypergrad(trainable, {"lr": 0.02}, KEY, "forward", check=False).grad["lr"]
    np.testing.assert_allclose(found, [expected] * 3, rtol=1e-4)


def test_online_tuning_moves_on():
    run = jhpo.online_tune(task(OPTIMISERS["adam"]), {"lr": 0.02}, KEY, optax.sgd(1e-5))
    assert np.all(np.isfinite(run.path["lr"])) and len(set(run.path["lr"].tolist())) == 4
