"""What NSGA-II costs in a study of digits networks: processor time of the strategy within that of the whole.

    python benchmarks/pareto_share.py --population 256 --generations 100

The study of examples/digits_pareto.py with two or three objectives, through `Study.optimize`. Turns (telling one
generation and asking for the next, one call of a program) are timed where the study makes them; the first three
generations, which compile, are left out. Processor time, children included, because the machine may be shared.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import digits_pareto

import jhpo
from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation

WARM = 3


class Counted:
    """`Driver.turn` that adds up the processor time of its calls."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0
        self._turn = Driver.turn

    def __enter__(self) -> Counted:
        turn, counted = self._turn, self

        def timed(driver: Driver, units: np.ndarray | None, result: Evaluation) -> np.ndarray:
            begin = time.process_time()
            found = turn(driver, units, result)
            counted.seconds += time.process_time() - begin
            counted.calls += 1
            return found

        Driver.turn = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Driver.turn = self._turn  # type: ignore[method-assign]


def measure(population: int, generations: int, objectives: int) -> dict[str, float]:
    """Seconds of a processor after the first generations: of the whole, and of the strategy's turns."""
    ways = dict(list(digits_pareto.tuning.directions.items())[:objectives])  # type: ignore[union-attr]
    study = jhpo.Study(digits_pareto.space, jhpo.NSGA2(population), directions=ways, seed=0)
    marks: list[tuple[float, float, int]] = []
    with Counted() as counted:

        def heard(update: Any) -> None:
            if update.generation >= WARM:
                marks.append((time.process_time(), counted.seconds, counted.calls))

        study.optimize(digits_pareto.trainable, budget=population * generations, callback=heard)
    (begin, before, first), (end, after, last) = marks[0], marks[-1]
    return {"whole": end - begin, "turns": after - before, "number": last - first}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--population", type=int, default=256)
    parser.add_argument("--generations", type=int, default=100)
    parser.add_argument("--objectives", type=int, nargs="+", default=[2, 3], choices=[2, 3])
    options = parser.parse_args()
    print("| objectives | generations measured | whole, s | strategy, s | ms a generation | share |", flush=True)
    print("|---|---|---|---|---|---|", flush=True)
    for objectives in options.objectives:
        found = measure(options.population, options.generations, objectives)
        whole, turns, number = found["whole"], found["turns"], found["number"]
        each, share = 1e3 * turns / number, turns / whole
        print(f"| {objectives} | {number:.0f} | {whole:.1f} | {turns:.2f} | {each:.2f} | {share:.2%} |", flush=True)


if __name__ == "__main__":
    main()
