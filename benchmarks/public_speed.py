"""Whole searches through `jhpo.run` beside evosax's ask and tell: what users call, with defaults, on a plain function.

    taskset -c 0,1 python benchmarks/public_speed.py

Needs evosax in the same Python; without it jhpo's times stand alone. Each search is one jitted program, its start
included, and gives back its last state and every value: evosax's a scan of ask, objective and tell, jhpo's one call
of `run` with ``lambda hp: ((hp["x"] - 0.3) ** 2).sum()``. The two alternate; the best of several repetitions counts.
With ``--separate`` jhpo searches over a dict of 20 floats and sums their squares one by one, as most users write it.
A ratio above 1 says that jhpo is faster. Memory is what the compiled program holds beside its arguments.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jhpo
from jhpo.strategies.base import Strategy

DIM = 20
SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(DIM,))})
SEPARATE = jhpo.Space({f"x{i}": jhpo.Float(0.0, 1.0) for i in range(DIM)})
GENERATIONS = {10: 500, 1_000: 200, 10_000: 50, 100_000: 20}  # of a search of at least so many members
Search = Callable[[jax.Array], tuple[Any, jax.Array]]  # a key to a state and float[generations, n]


class Method(NamedTuple):
    """A row of the table."""

    ours: Callable[[int], Strategy]  # of a population
    theirs: str  # a class of evosax.algorithms
    small: int  # the customary population
    largest: int = 100_000  # beyond it the peer takes minutes
    many: int = 0  # the population of each of many searches, 0 for no such cell


METHODS = {
    "PSO": Method(jhpo.PSO, "PSO", 40, many=40),
    "PSO gbest": Method(lambda n: jhpo.PSO(n, variant="gbest"), "PSO", 40, many=40),
    'PSO gbest, restart="none"': Method(lambda n: jhpo.PSO(n, variant="gbest", restart="none"), "PSO", 40, many=40),
    "CMAES": Method(jhpo.CMAES, "CMA_ES", 32, 10_000, many=16),
    "DifferentialEvolution": Method(jhpo.DifferentialEvolution, "DifferentialEvolution", 32, 1_000, many=32),
}


class Cost(NamedTuple):
    """Of one search, or of many side by side."""

    compiling: float  # seconds
    wall: float  # seconds a generation
    cpu: float  # seconds a generation, of all threads
    memory: float  # MiB


def jhpo_search(strategy: Strategy, generations: int, separate: bool = False) -> Search:
    """``run`` with its state and its values kept."""

    def whole(hp: dict[str, jax.Array]) -> jax.Array:
        return ((hp["x"] - 0.3) ** 2).sum()

    def parts(hp: dict[str, jax.Array]) -> jax.Array:
        return sum((x - 0.3) ** 2 for x in hp.values())  # type: ignore[return-value]

    objective, space = (parts, SEPARATE) if separate else (whole, SPACE)

    def search(key: jax.Array) -> tuple[Any, jax.Array]:
        state, trace = jhpo.run(strategy, objective, space, generations, key)
        return state, trace.value  # type: ignore[union-attr]

    return search


def evosax_search(name: str, n: int, generations: int) -> Search:
    """Ask, objective and tell in a scan."""
    from evosax import algorithms

    peer = getattr(algorithms, name)(population_size=n, solution=jnp.zeros(DIM))
    params = peer.default_params

    def objective(x: jax.Array) -> jax.Array:
        return ((x - 0.3) ** 2).sum(axis=-1)

    def search(key: jax.Array) -> tuple[Any, jax.Array]:
        k_place, k_init, k_run = jax.random.split(key, 3)
        first = jax.random.uniform(k_place, (n, DIM))
        start = (first[0],) if name == "CMA_ES" else (first, objective(first))
        state = peer.init(k_init, *start, params)

        def generation(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            k_ask, k_tell = jax.random.split(key)
            x, state = peer.ask(k_ask, state, params)
            value = objective(x)
            return peer.tell(k_tell, x, value, state, params)[0], value

        return jax.lax.scan(generation, state, jax.random.split(k_run, generations))

    return search


def costs(searches: Sequence[Search], keys: jax.Array, generations: int, repeats: int) -> list[Cost]:
    """Of several searches that take turns; ``keys`` of one search, or of many side by side."""
    programs, compiling, best = [], [], []
    for search in searches:
        begun = time.perf_counter()
        programs.append(jax.jit(jax.vmap(search) if keys.ndim else search).lower(keys).compile())
        compiling.append(time.perf_counter() - begun)
        best.append((float("inf"), float("inf")))
    for _ in range(repeats):
        for i, program in enumerate(programs):
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(program(keys))
            spent = time.perf_counter() - wall, time.process_time() - cpu
            best[i] = min(best[i][0], spent[0]), min(best[i][1], spent[1])
    return [
        Cost(seconds, wall / generations, cpu / generations, held(program))
        for program, seconds, (wall, cpu) in zip(programs, compiling, best)
    ]


def held(program: Any) -> float:
    """MiB of results and temporaries."""
    memory = program.memory_analysis()
    return float(memory.output_size_in_bytes + memory.temp_size_in_bytes) / 2**20


def cell(
    method: Method, n: int, studies: int, generations: int, repeats: int, peer: bool, separate: bool = False
) -> list[Cost]:
    """jhpo's cost and, if it is there, the peer's."""
    searches = [jhpo_search(method.ours(n), generations, separate)]
    if peer:
        searches.append(evosax_search(method.theirs, n, generations))
    key = jax.random.key(0)
    return costs(searches, jax.random.split(key, studies) if studies > 1 else key, generations, repeats)


def line(name: str, members: str, found: list[Cost]) -> str:
    """A row of the table."""
    ours, theirs = found[0], found[-1]
    columns = [name, members, f"{1e3 * ours.wall:.3g}", "", "", f"{ours.compiling:.1f}", f"{ours.memory:.3g}"]
    if len(found) > 1:
        columns[3] = f"{1e3 * theirs.wall:.3g}"
        columns[4] = f"{theirs.wall / ours.wall:.2f} ({theirs.cpu / ours.cpu:.2f})"
        columns[5] += f" / {theirs.compiling:.1f}"
        columns[6] += f" / {theirs.memory:.3g}"
    return "| " + " | ".join(columns) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="beside the small one")
    parser.add_argument("--studies", type=int, default=1_000, help="searches side by side; 0 for none")
    parser.add_argument("--separate", action="store_true", help="a dict of floats, not one array")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a few generations of small searches: does it run?")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.sizes, options.studies, options.repeats = [], 3, 1
    peer = importlib.util.find_spec("evosax") is not None
    if not peer:
        print("evosax is not installed: jhpo's times stand alone")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {cores} cores, d = {DIM}, best of {options.repeats}")
    print("| method | members | jhpo, ms a generation | evosax | ratio (of CPU time) | compiling, s | memory, MiB |")
    print("|---|---|---|---|---|---|---|")
    for name in options.methods:
        method = METHODS[name]
        cells = [(n, 1) for n in (method.small, *options.sizes) if n <= method.largest]
        cells += [(method.many, options.studies)] if options.studies else []
        for n, studies in cells:
            length = GENERATIONS[max(k for k in GENERATIONS if k <= n * studies)]
            steps = 3 if options.tiny else length
            found = cell(method, n, studies, steps, options.repeats, peer, options.separate)
            members = f"{n:,}" if studies == 1 else f"{studies:,} searches of {n}"
            print(line(name, members, found), flush=True)


if __name__ == "__main__":
    main()
