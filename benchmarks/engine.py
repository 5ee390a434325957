"""What the engine itself costs a generation: 100 generations of 256 members of an objective that costs nothing.

    python benchmarks/engine.py --part study     Study with storage on disk (target: at most 20 ms a generation)
    python benchmarks/engine.py --part run       the pure loop (target: at most 1 ms a generation)

Compilation is not counted: every part runs once before it is timed, then five times; the median is reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax

import jhpo

GENERATIONS, MEMBERS, REPEATS = 100, 256, 5
SPACE = jhpo.Space(
    {
        "lr": jhpo.Float(1e-5, 1e-1, log=True),
        "wd": jhpo.Float(1e-6, 1e-1, log=True),
        "momentum": jhpo.Float(0.0, 0.99),
        "width": jhpo.Int(8, 256),
        "opt": jhpo.Choice(["sgd", "adam"]),
    }
)


def free(hp: dict[str, jax.Array]) -> jax.Array:
    """An objective whose cost is nothing beside the engine's."""
    return (hp["lr"] - 1e-3) ** 2 + hp["wd"] + (hp["momentum"] - 0.9) ** 2


def study(strategy: jhpo.Strategy, folder: Path) -> Callable[[int], float]:
    """Seconds of `Study.optimize` with a SQLite file, opening and closing it left out."""

    def once(seed: int) -> float:
        with jhpo.Study(SPACE, strategy, folder / f"{seed}.db", seed=seed) as made:
            # the first generation compiles or fetches what an earlier study compiled, and warms the file
            made.optimize(free, budget=MEMBERS)
            start = time.perf_counter()
            summary = made.optimize(free, budget=MEMBERS * (GENERATIONS + 1))
            seconds = time.perf_counter() - start
        assert summary.evaluations == GENERATIONS * MEMBERS
        return seconds

    return once


def run(strategy: jhpo.Strategy, folder: Path) -> Callable[[int], float]:
    """Seconds of `jhpo.run`, results on the host included."""

    def once(seed: int) -> float:
        start = time.perf_counter()
        _, trace = jhpo.run(strategy, free, SPACE, GENERATIONS, jax.random.key(seed))
        trace.value.block_until_ready()
        return time.perf_counter() - start

    return once


def main() -> None:
    """Print one JSON line a part and strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["run", "study", "all"], default="all")
    parser.add_argument("--strategy", action="append", help="a registered name; repeatable")
    options = parser.parse_args()
    parts = {"study": (study, 20.0), "run": (run, 1.0)}
    for part, (make, target) in parts.items():
        if options.part not in (part, "all"):
            continue
        for name in options.strategy or ["random", "pso"]:
            with tempfile.TemporaryDirectory() as folder:
                once = make(jhpo.make_strategy(name, {"population": MEMBERS}), Path(folder))
                once(0)
                seconds = [once(seed) for seed in range(1, REPEATS + 1)]
            each = [1e3 * s / GENERATIONS for s in seconds]
            figures = {"ms_a_generation": statistics.median(each), "fastest": min(each), "slowest": max(each)}
            print(json.dumps({"part": part, "strategy": name, **figures, "target_ms": target}))


if __name__ == "__main__":
    main()
