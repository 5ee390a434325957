"""Trials a second of NSGA-II by other libraries.

    python pareto_rates.py PEER OBJECTIVES DIM POPULATION GENERATIONS LIMIT

Started by `pareto.py speed` with a Python that has them. ZDT1, or DTLZ2 with three objectives, whose values are
computed for a whole population at once. After LIMIT seconds of a processor no further generation begins. Prints one
line of JSON: the generations made, and the trials of a second of a processor and of the wall.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from pareto_problems import Problem, speed_problem


def pymoo(problem: Problem, population: int, generations: int) -> Iterator[None]:
    """NSGA-II with its defaults; yields after every generation."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as Whole

    class Mine(Whole):  # type: ignore[misc,unused-ignore]
        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = np.stack(problem.values(x.T, np), axis=1)

    search = NSGA2(pop_size=population)
    search.setup(
        Mine(n_var=problem.dim, n_obj=problem.objectives, xl=0.0, xu=1.0), termination=("n_gen", generations), seed=1
    )
    while search.has_next():
        search.next()
        yield


def evox(problem: Problem, population: int, generations: int) -> Iterator[None]:
    """Its NSGA2 with its defaults, not compiled; yields after every generation."""
    import torch
    from evox.algorithms import NSGA2
    from evox.core import Problem as Whole
    from evox.workflows import StdWorkflow

    torch.set_num_threads(1)
    torch.manual_seed(1)

    class Mine(Whole):  # type: ignore[misc,unused-ignore]
        def evaluate(self, x: Any) -> Any:
            return torch.stack(problem.values(x.T, torch), dim=1)

    low = torch.zeros(problem.dim)
    workflow = StdWorkflow(NSGA2(population, problem.objectives, low, low + 1.0), Mine())
    workflow.init_step()
    yield
    for _ in range(generations - 1):
        workflow.step()
        yield


def main() -> None:
    """One search, after a short one that imports and warms up."""
    search = {"pymoo": pymoo, "evox": evox}[sys.argv[1]]
    objectives, dim, population, generations, limit = map(int, sys.argv[2:7])
    problem = speed_problem(objectives, dim)
    list(search(problem, 100, 2))
    begin, wall, made = time.process_time(), time.perf_counter(), 0
    for _ in search(problem, population, generations):
        made += 1
        if time.process_time() - begin > limit:
            break
    trials, spent, waited = made * population, time.process_time() - begin, time.perf_counter() - wall
    print(json.dumps({"generations": made, "processor": trials / spent, "wall": trials / waited}))


if __name__ == "__main__":
    main()
