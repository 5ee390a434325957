"""Particle-dimensions per second of one swarm step: jhpo beside pyswarms and evosax, on a nearly free objective.

Run on two cores, one Python for all (pyswarms and evosax are optional; what is missing is said):

    taskset -c 0,1 python benchmarks/swarm_speed.py

Each line is the best of several repetitions. The memory bandwidth is that of a <- b + s a over arrays of
the swarm's size in the same run and by the same compiler; 24 bytes per particle-dimension are the least a step moves
(read x, v, p; write x, v, p; float32).
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import swarm
from jhpo.strategies.pso import PSO

DIM = 20
BYTES = 24


def objective(x: jax.Array) -> jax.Array:
    """A shifted sphere, ``float[n, d]`` to ``float[n]``."""
    return ((x - 0.3) ** 2).sum(axis=-1)


def coefficients(variant: str) -> swarm.Coefficients:
    strategy = PSO(population=64, variant=variant)
    return swarm.Coefficients(*(jnp.float32(getattr(strategy, n)) for n in swarm.Coefficients._fields))


RULES = {
    "gbest": swarm.Rule(graph="global", solo=False),
    "gbest threefry": swarm.Rule(graph="global", solo=False, generator="threefry"),
    "spso2006": swarm.Rule(),
}


def step(rule: swarm.Rule, c: swarm.Coefficients, s: swarm.Swarm, key: jax.Array) -> tuple[swarm.Swarm, None]:
    s, rows, x, v = swarm.move(rule, c, s, key)
    s = swarm.placed(s, rows, x, v)
    value = objective(s.position)
    improved = value < s.merit
    merit = jnp.where(improved, value, s.merit)
    return swarm.remember(rule, s, rows, s.position, improved, merit), None


@functools.partial(jax.jit, static_argnames=("rule", "generations"), donate_argnums=2)
def advance(rule: swarm.Rule, c: swarm.Coefficients, s: swarm.Swarm, key: jax.Array, generations: int) -> swarm.Swarm:
    return jax.lax.scan(lambda s, k: step(rule, c, s, k), s, jax.random.split(key, generations))[0]


@functools.partial(jax.jit, static_argnames=("rule", "generations"), donate_argnums=2)
def advance_many(rule: swarm.Rule, c: swarm.Coefficients, s: swarm.Swarm, keys: jax.Array, generations: int):
    one = functools.partial(step, rule, c)
    ks = jax.vmap(lambda k: jax.random.split(k, generations), out_axes=1)(keys)
    return jax.lax.scan(lambda s, k: jax.vmap(one)(s, k), s, ks)[0]


@functools.partial(jax.jit, static_argnames=("rule", "n"))
def start(rule: swarm.Rule, key: jax.Array, n: int) -> swarm.Swarm:
    first, second = jax.random.split(key)
    return swarm.create(rule, first, jax.random.uniform(second, (n, DIM)), 0.0, 1.0)


def seconds(work: Callable[[], None], repeats: int) -> float:
    work()  # compiles
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def jhpo_rate(name: str, n: int, generations: int, repeats: int) -> float:
    rule, c = RULES[name], coefficients(name.split()[0])
    held = start(rule, jax.random.key(0), n)

    def work() -> None:
        nonlocal held
        held = jax.block_until_ready(advance(rule, c, held, jax.random.key(1), generations))

    return n * DIM * generations / seconds(work, repeats)


def many_rate(name: str, swarms: int, n: int, generations: int, repeats: int) -> float:
    rule, c = RULES[name], coefficients(name)
    keys = jax.random.split(jax.random.key(0), swarms)
    held = jax.vmap(lambda k: start(rule, k, n))(keys)

    def work() -> None:
        nonlocal held
        held = jax.block_until_ready(advance_many(rule, c, held, keys, generations))

    return swarms * n * DIM * generations / seconds(work, repeats)


def pyswarms_rate(n: int, generations: int, repeats: int) -> float:
    from pyswarms.single import GlobalBestPSO
    from pyswarms.utils.reporter import Reporter

    def free(x: np.ndarray) -> np.ndarray:
        return ((x - 0.3) ** 2).sum(axis=1)

    def work() -> None:
        bounds = (np.zeros(DIM), np.ones(DIM))
        options = {"c1": 1.49618, "c2": 1.49618, "w": 0.7298}
        optimizer = GlobalBestPSO(n, DIM, options, bounds=bounds)
        optimizer.rep = Reporter(log_path=os.devnull)
        optimizer.optimize(free, generations, verbose=False)

    return n * DIM * generations / seconds(work, repeats)


def evosax_rate(n: int, generations: int, repeats: int) -> float:
    from evosax.algorithms import PSO as Peer

    peer = Peer(population_size=n, solution=jnp.zeros(DIM))
    params = peer.default_params
    first = jax.random.uniform(jax.random.key(2), (n, DIM))
    state = peer.init(jax.random.key(0), first, objective(first), params)

    def generation(state, key):
        ask, tell = jax.random.split(key)
        x, state = peer.ask(ask, state, params)
        return peer.tell(tell, x, objective(x), state, params)[0], None

    @functools.partial(jax.jit, donate_argnums=0)
    def run(state, key):
        return jax.lax.scan(generation, state, jax.random.split(key, generations))[0]

    state = jax.tree.map(lambda a: jnp.array(a, copy=True), state)

    def work() -> None:
        nonlocal state
        state = jax.block_until_ready(run(state, jax.random.key(1)))

    return n * DIM * generations / seconds(work, repeats)


def bandwidth(n: int, repeats: int) -> float:
    """Bytes per second of a <- b + s a in place over arrays of a swarm's size, many times in one program."""

    @functools.partial(jax.jit, donate_argnums=0)
    def scaled_sum(a: jax.Array, b: jax.Array, scale: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 50, lambda _, a: b + scale * a, a)

    held, other = (jnp.full((n * DIM,), v, jnp.float32) for v in (1.0, 2.0))

    def work() -> None:
        nonlocal held
        held = jax.block_until_ready(scaled_sum(held, other, jnp.float32(0.5)))

    return 50 * 3 * 4 * n * DIM / seconds(work, repeats)


def own_peak() -> float:
    """KiB of resident memory at the most. A child's ``ru_maxrss`` begins with its parent's, Linux's VmHWM does not."""
    status = Path("/proc/self/status")
    if status.exists():
        return float(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def peak_memory() -> float:
    """GiB of resident memory at the most, of a fresh process that moves one swarm of a million particles."""
    command = [sys.executable, __file__, "--million"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes alone")
    parser.add_argument("--sizes", type=int, nargs="+", choices=(1_000, 10_000, 100_000, 1_000_000), help="swarms")
    parser.add_argument("--million", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.million:
        jhpo_rate("gbest", 1_000_000, 3, 1)
        print(own_peak() / 2**20)
        return
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"jax {jax.__version__}, {device.device_kind}, {cores} cores, d = {DIM}, float32, best of {args.repeats}")
    peers = {"pyswarms": pyswarms_rate, "evosax": evosax_rate}
    there = {name: f for name, f in peers.items() if importlib.util.find_spec(name)}
    for name in peers.keys() - there.keys():
        print(f"{name} is not installed: not compared")
    generations = {1_000: 2_000, 10_000: 200, 100_000: 50, 1_000_000: 10}
    for n in args.sizes or ([1_000] if args.quick else list(generations)):
        g = generations[n]
        band = bandwidth(n, args.repeats)
        print(f"\nN = {n:,}: bandwidth {band / 1e9:.1f} GB/s, so at most {band / BYTES / 1e6:.0f} M a second")
        rates = {name: jhpo_rate(name, n, g, args.repeats) for name in RULES}
        for name, rate in rates.items():
            share = rate * BYTES / band
            print(f"  jhpo {name:15s} {rate / 1e6:8.1f} M particle-dimensions/s, {share:5.1%} of the bandwidth")
        if n == 1_000_000:
            print(f"  peak resident memory of a process that does only this: {peak_memory():.2f} GiB")
        for name, rate in there.items():
            if name == "pyswarms" and n > 10_000:  # its N x N matrix of distances
                continue
            other = rate(n, 100 if name == "pyswarms" else g, args.repeats)
            print(f"  {name:20s} {other / 1e6:8.1f} M; jhpo gbest is {rates['gbest'] / other:.2f} times as fast")
    if args.sizes:
        return
    swarms = 1_000 if args.quick else 10_000
    for name in ("gbest", "spso2006"):
        rate = many_rate(name, swarms, 40, 10, args.repeats)
        print(f"\n{swarms:,} swarms of 40, {name}: {rate / 1e6:.1f} M particle-dimensions/s")


if __name__ == "__main__":
    main()
