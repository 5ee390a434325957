"""Overhead of the pure loop: 100 generations of 256 members of a free objective.

    python benchmarks/engine_run.py

Prints compile time, milliseconds a generation, and how many programs a second seed compiles.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

import jhpo

GENERATIONS, MEMBERS, REPEATS = 100, 256, 5


def main() -> None:
    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0, shape=(8,)), "c": jhpo.Choice(["a", "b", "c"])})

    def free(hp):
        return jnp.sum(hp["x"] ** 2) + (hp["c"] == 1)

    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, d = {space.dim}")
    for strategy in (jhpo.RandomSearch(MEMBERS), jhpo.SobolSearch(MEMBERS), jhpo.Greedy(MEMBERS), jhpo.PSO(MEMBERS)):
        times = []
        for seed in range(REPEATS + 1):
            start = time.perf_counter()
            _, trace = jhpo.run(strategy, free, space, GENERATIONS, jax.random.key(seed))
            jax.block_until_ready(trace.value)
            times.append(time.perf_counter() - start)
        each = min(times[1:]) / GENERATIONS
        name = type(strategy).__name__
        print(f"{name:14s} first call {times[0]:6.2f} s, then {1e3 * each:7.3f} ms a generation of {MEMBERS}")


if __name__ == "__main__":
    main()
