"""What the searches with a host cost beside `run`: minimize, a Study in memory, a Study in a SQLite file.

    python benchmarks/search_speed.py             # rates, after the first call
    python benchmarks/search_speed.py --memory    # peak memory of a search by what it keeps, a process each

The objective is a plain function, the sphere in 20 dimensions (5 for studies); the strategy is PSO with its defaults.
Ratios are of the shortest of five calls in turn, each with a seed of its own; compilation is left out.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax

import jhpo

SIZES = ((40, 2000), (1000, 400), (10_000, 60), (100_000, 12))  # particles, generations


def sphere(hp: dict[str, jax.Array]) -> jax.Array:
    return sum((x - 0.3) ** 2 for x in hp.values())


def space(d: int) -> jhpo.Space:
    return jhpo.Space({f"x{i}": jhpo.Float(-2.0, 2.0) for i in range(d)})


def shortest(calls: dict[str, Callable[[int], object]], repeats: int) -> dict[str, float]:
    """Seconds of each call, in turn."""
    seconds = dict.fromkeys(calls, float("inf"))
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call(repeat))
            if repeat:  # the first one compiles
                seconds[name] = min(seconds[name], time.perf_counter() - begin)
    return seconds


def minimize_beside_run(n: int, generations: int, repeats: int) -> None:
    box, swarm = space(20), jhpo.PSO(n)
    run = jax.jit(lambda seed: jhpo.run(swarm, sphere, box, generations, jax.random.key(seed)))
    seconds = shortest(
        {
            "run": run,
            "minimize": lambda seed: jhpo.minimize(sphere, box, swarm, n * generations, seed=seed).history.value,
            "keep best": lambda seed: jhpo.minimize(sphere, box, swarm, n * generations, seed=seed, keep="best").value,
        },
        repeats,
    )
    base = seconds["run"]
    rates = "   ".join(f"{name} {1e3 * s / generations:.3f} ms ({s / base:.2f})" for name, s in seconds.items())
    print(f"{n} particles, {generations} generations: {rates}", flush=True)


def studies(n: int, generations: int, repeats: int) -> None:
    box = space(5)

    def memory(seed: int) -> float:
        return jhpo.Study(box, jhpo.PSO(n), seed=seed).optimize(sphere, budget=n * generations).seconds

    def stored(seed: int) -> float:
        with (
            tempfile.TemporaryDirectory() as folder,
            jhpo.Study(box, jhpo.PSO(n), Path(folder) / "a.db", seed) as study,
        ):
            return study.optimize(sphere, budget=n * generations).seconds

    for name, seconds in shortest({"in memory": memory, "in a SQLite file": stored}, repeats).items():
        print(f"a study {name}, {generations} generations of {n}: {n * generations / seconds:,.0f} trials a second")


def memory(n: int, generations: int, keep: str) -> None:
    value = jhpo.minimize(sphere, space(20), jhpo.PSO(n), n * generations, keep=keep).value
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        f"{n} particles, {generations} generations, keep={keep!r}: {peak:,.0f} MiB at most, best {value:.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="sizes that show that it runs")
    parser.add_argument("--one", nargs=3, metavar=("N", "GENERATIONS", "KEEP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        memory(int(options.one[0]), int(options.one[1]), options.one[2])
    elif options.memory:
        sizes = ((100, 10),) if options.tiny else ((100_000, 10), (100_000, 40))
        for n, generations in sizes:
            for keep in ("all", "best"):
                subprocess.run([sys.executable, __file__, "--one", str(n), str(generations), keep], check=True)
    else:
        for n, generations in ((8, 20),) if options.tiny else SIZES:
            minimize_beside_run(n, generations, 1 if options.tiny else 5)
        studies(40, 5 if options.tiny else 2000, 1 if options.tiny else 5)


if __name__ == "__main__":
    main()
