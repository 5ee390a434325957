"""Trainables with known hypergradients, for the tests of jhpo.hypergrad."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.mixed import mixed_grad

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Descent:
    """Gradient descent on h w^2 / 2 from w = 1: d(w_T^2/2)/d eta = -T h (1 - eta h)^(2T - 1)."""

    steps: int = 10
    h: float = 1.0
    noise: float = 0.0

    def init(self, hp, key):
        return jnp.ones((), jnp.result_type(float)), key

    def step(self, hp, state, t):
        w, key = state
        slope = self.h * w
        if self.noise:
            slope = slope + self.noise * jax.random.normal(jax.random.fold_in(key, t), (), w.dtype)
        return w - hp["lr"] * slope, key

    def evaluate(self, hp, state):
        return state[0] ** 2 / 2


@dataclasses.dataclass(frozen=True)
class Ridge:
    """Full-batch descent on |Xw - y|^2/2 + e^l |w|^2/2, judged on other rows; converges in a few hundred steps."""

    steps: int = 300
    rate: float = 0.03

    @property
    def data(self):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(12, 3)), rng.normal(size=(12,))
        return [jnp.asarray(a, jnp.result_type(float)) for a in (x[:8], y[:8], x[8:], y[8:])]

    def init(self, hp, key):
        return {"w": jnp.zeros((3,), jnp.result_type(float))}

    def params(self, state):
        return state["w"]

    def with_params(self, state, params):
        return {"w": params}

    def train_loss(self, hp, w):
        x, y, _, _ = self.data
        return jnp.sum((x @ w - y) ** 2) / 2 + jnp.exp(hp["log_l2"]) * jnp.sum(w**2) / 2

    def step(self, hp, state, t):
        return {"w": state["w"] - hp.get("rate", self.rate) * mixed_grad(lambda w: self.train_loss(hp, w))(state["w"])}

    def evaluate(self, hp, state):
        _, _, x, y = self.data
        return jnp.sum((x @ state["w"] - y) ** 2) / 2


def ridge_gradient(log_l2):
    """-(A^-1 v) . w e^l, with A = X'X + e^l, in NumPy."""
    x, y, xv, yv = (np.asarray(a, np.float64) for a in Ridge().data)
    system = x.T @ x + np.exp(log_l2) * np.eye(3)
    w = np.linalg.solve(system, x.T @ y)
    return -np.linalg.solve(system, xv.T @ (xv @ w - yv)) @ w * np.exp(log_l2)


def closed_form(eta, steps=10):
    return -steps * (1 - eta) ** (2 * steps - 1)
