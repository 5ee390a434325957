"""Outputs of 16 bits: losses and metrics are as exact as float32 sums of the outputs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import jhpo
from jhpo.training.trainable import train_state

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5_001, 4)).astype(np.float32)
Y = (X[:, 0] > 0) + (X[:, 1] > 0).astype(int)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("loss", ["classification", "regression", optax.softmax_cross_entropy_with_integer_labels])
def test_values_have_the_digits_of_float32(dtype: Any, loss: Any) -> None:
    model = nn.Dense(1 if loss == "regression" else 3, dtype=dtype)
    y = X[:, 0] if loss == "regression" else Y
    task = jhpo.supervised(
        model, lambda hp: optax.sgd(hp["lr"]), train=(X[:99], y[:99]), valid=(X, y), steps=3, loss=loss
    )
    state = train_state(task, {"lr": jnp.float32(0.1)}, jax.random.key(0))
    value = task.evaluate({"lr": jnp.float32(0.1)}, state)["loss"]
    outputs = np.asarray(model.apply({"params": state.params}, X), np.float64)
    if loss == "regression":
        expected = ((outputs[:, 0] - y) ** 2).mean()
    else:
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        expected = (np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]).mean()
    assert value.dtype == jnp.float32
    if dtype != jnp.float32:
        assert value != value.astype(dtype).astype(jnp.float32)  # it has more digits than the type
    # inside a program the model may round less than its type says
    np.testing.assert_allclose(value, expected, rtol=2e-6 if dtype == jnp.float32 else 1e-3)
