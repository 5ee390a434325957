"""Members that factorise matrices, in a fresh process with the threads that JAX starts: they once waited for ever."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import jax
import jax.numpy as jnp
import jhpo

orthogonal = jax.nn.initializers.orthogonal()


class Filter:
    steps = 4

    def init(self, hp, key):
        return {k: orthogonal(jax.random.fold_in(key, n), (32, 32)) for n, k in enumerate("abc")}

    def step(self, hp, state, t):
        return state | {"a": jnp.linalg.solve(state["a"] + hp["x"] * jnp.eye(32), state["b"])}

    def evaluate(self, hp, state):
        return sum(jnp.linalg.eigh(v @ v.T)[0].min() for v in state.values()) + jnp.linalg.svd(state["a"])[1].max()


def definite(hp):
    a = jax.random.normal(jax.random.key(0), (32, 32)) + hp["x"] * jnp.eye(32)
    return jnp.linalg.eigh(a @ a.T)[0].min() + jnp.linalg.solve(a, a.T).max() + jnp.linalg.svd(a)[1].max()


space = jhpo.Space({"x": jhpo.Float(1.0, 2.0)}, constraints=[definite])
for strategy in ("random(population=64)", jhpo.SuccessiveHalving(64, min_steps=1), "pbt(population=64)"):
    print(jhpo.minimize(Filter(), space, strategy, budget=192).value, flush=True)
"""


def test_searches_whose_members_factorise_matrices_end() -> None:
    # of the suite's flags none but quick code generation: the others could hide the hang
    environment = {k: v for k, v in os.environ.items() if k != "NPROC"}
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3 and all(float(value) > 0.0 for value in done.stdout.split())
