"""Whole searches lower for CUDA and TPU from a CPU; only CUDA calls libraries, and only for Cholesky factors."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import pytest

import jhpo
from jhpo.strategies import REGISTRY
from tests.selection import slow_except

SMOOTH = jhpo.Space({"a": jhpo.Float(-2.0, 2.0), "b": jhpo.Float(1e-3, 1.0, log=True)})
MIXED = jhpo.Space({"a": jhpo.Float(-2.0, 2.0), "c": jhpo.Choice(["x", "y", "z"]), "n": jhpo.Int(1, 9)})
SMALL = {"random": 4, "sobol": 4, "pso": 8, "de": 8, "cmaes": 8}


def smooth(hp):
    return (hp["a"] - 0.5) ** 2 + (jnp.log10(hp["b"]) + 1.0) ** 2


def mixed(hp):
    return (hp["a"] - 0.5) ** 2 + jnp.where(hp["c"] != 1, 0.3, 0.0) + 0.1 * jnp.abs(hp["n"] - 4).astype(hp["a"].dtype)


class Descent:
    """A training that can be paused."""

    steps = 4

    def init(self, hp, key):
        return jax.random.normal(key)

    def step(self, hp, w, t):
        return w - hp["b"] * (w - hp["a"])

    def evaluate(self, hp, w):
        return (w - 0.5) ** 2


def search(name: str):
    """Strategy, objective and space."""
    if name == "hypergradient":
        return jhpo.HyperGradient(2), smooth, SMOOTH
    if name == "chain":
        return jhpo.Chain(jhpo.PSO(8), jhpo.HyperGradient(2)), smooth, SMOOTH
    if name == "bayes":
        return jhpo.BayesOpt(initial=2, candidates=64, starts=2), mixed, MIXED
    if name == "freeze-thaw":
        return jhpo.FreezeThaw(4, interval=1, candidates=8, proposer=None), Descent(), SMOOTH
    if name == "asha, pausing":
        return jhpo.ASHA(min_steps=1, batch=4), Descent(), SMOOTH
    if name in ("successive-halving", "hyperband", "pbt"):
        return jhpo.make_strategy(name, {"population": 8}), Descent(), SMOOTH
    return jhpo.make_strategy(name, {"population": SMALL[name]} if name in SMALL else None), mixed, MIXED


# ASHA without a batch stops functions on the host
INSIDE = [name if name != "asha" else "asha, pausing" for name in REGISTRY]
FACTORS = ("bayes", "cmaes", "freeze-thaw")  # which call a library for theirs


@pytest.mark.parametrize("name", slow_except({"grid", "pso", "cmaes", "bayes", "chain", "pbt"}, INSIDE))
def test_a_search_lowers_for_accelerators(name) -> None:
    strategy, objective, space = search(name)

    def program(root):
        return jhpo.run(strategy, objective, space, 3, jax.random.wrap_key_data(root))[1]

    root = jax.random.key_data(jax.random.key(0))
    text = jax.export.export(jax.jit(program), platforms=("cuda", "tpu"))(root).mlir_module()
    assert set(re.findall(r"custom_call @(\w+)", text)) == ({"cusolver_potrf_ffi"} if name in FACTORS else set())
