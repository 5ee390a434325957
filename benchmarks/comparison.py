"""Sequential comparisons of optimisers: runs as JSON lines, peers in another Python, normalised regret and mean ranks.

A line is what the peers print: ``{"peer", "problem", "seed", "n", "ask_s", "ys"}`` with the values in order of
evaluation and the seconds spent suggesting; ``"q"`` is the batch size, 1 if absent.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import surrogates

from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation, Strategy

THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NPROC": "1"}
REFERENCE_POINTS = 2**17
Line = dict[str, Any]


def fix_threads() -> None:
    """Start again with one thread for every library, unless the environment says otherwise, and print the setting."""
    if any(name not in os.environ for name in THREADS):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], {**THREADS, **os.environ})
    print("threads:", " ".join(f"{name}={os.environ[name]}" for name in THREADS), f"({os.cpu_count()} cores)")


def load(paths: Iterable[Path]) -> list[Line]:
    """The lines of several files; a torn last line is an error, as every other."""
    return [json.loads(text) for path in paths for text in path.read_text().splitlines() if text.startswith("{")]


def append(path: Path, line: Line) -> None:
    """One line more, on the disk at once."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def run_peer(command: Sequence[str], folder: Path, yahpo: Path | None = None, limit: float = 3600.0) -> list[Line]:
    """The JSON lines of a peer in its own interpreter, with ``folder`` on its path and a scratch working directory.

    Raises RuntimeError with what it said if it failed or printed none.
    """
    environment = {**os.environ, "PYTHONPATH": str(folder.resolve())}
    environment |= {"YAHPO": str(yahpo.resolve())} if yahpo else {}
    with tempfile.TemporaryDirectory() as scratch:  # some peers write log files where they stand
        done = subprocess.run(
            list(command), cwd=scratch, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    lines = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("{")]
    if done.returncode or not lines:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}: {done.stderr[-2000:]}")
    return lines


@functools.cache
def problem_of(name: str, yahpo: Path | None) -> tuple[surrogates.Problem, Any]:
    """The problem and its compiled objective of unit rows."""
    problem = surrogates.get(name, yahpo)
    batch = jax.jit(jax.vmap(lambda unit: problem.objective(problem.space.from_unit(unit))))
    return problem, batch


def run_jhpo(label: str, strategy: Strategy, name: str, yahpo: Path | None, budget: int, seed: int) -> Line:
    """One search by jhpo, as `jhpo.minimize` drives it: one program a generation, on the host."""
    problem, batch = problem_of(name, yahpo)
    if type(strategy).grow is Strategy.grow:  # as minimize does
        strategy = strategy.prepare(budget)
    driver = Driver(strategy, problem.space, jax.random.key(seed))
    values: list[float] = []
    units, result, seconds = None, Evaluation(value=np.zeros(strategy.population, np.float32)), 0.0
    while len(values) < budget:
        start = time.perf_counter()
        units = driver.turn(units, result)
        seconds += time.perf_counter() - start
        result = Evaluation(value=np.asarray(batch(units.astype(np.float32))))
        values += [round(float(v), 6) for v in result.value]
    line = dict(peer=label, problem=name, seed=seed, n=budget, ask_s=round(seconds, 3), ys=values[:budget])
    return {**line, "q": strategy.population}


@functools.cache
def reference(name: str, yahpo: Path | None) -> tuple[float, float]:
    """Lowest and median value at uniformly random points (the lowest known instead where there is one)."""
    problem, batch = problem_of(name, yahpo)
    values = np.asarray(batch(problem.space.sample_unit(jax.random.key(2024), REFERENCE_POINTS)))
    lowest = float(values.min()) if problem.lowest is None else problem.lowest
    return lowest, float(np.median(values))


def best_so_far(lines: Sequence[Line], peer: str, problem: str, budget: int) -> np.ndarray:
    """``float[seeds]``: the lowest value among the first ``budget``; failed evaluations do not count."""
    runs = [x for x in lines if x["peer"] == peer and x["problem"] == problem and len(x["ys"]) >= budget]
    return np.array([np.nanmin(np.asarray(x["ys"][:budget], float)) for x in runs])


def ranks(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Expected rank of each method against one random seed of every other: 1 + sum P(other lower) + ties / 2."""
    out = np.ones(len(samples))
    for i, mine in enumerate(samples):
        for j, other in enumerate(samples):
            if i != j:
                lower, equal = other[None, :] < mine[:, None], other[None, :] == mine[:, None]
                out[i] += float((lower + 0.5 * equal).mean())
    return out


def mean_ranks(cells: Sequence[Sequence[np.ndarray]], resamples: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Mean over problems of `ranks`, and its standard error by a bootstrap over the seeds."""
    generator = np.random.default_rng(0)
    mean = np.mean([ranks(cell) for cell in cells], axis=0)
    again = [
        np.mean([ranks([generator.choice(s, len(s)) for s in cell]) for cell in cells], axis=0)
        for _ in range(resamples)
    ]
    return mean, np.std(again, axis=0)


def report(lines: Sequence[Line], problems: Sequence[str], budgets: Sequence[int], yahpo: Path | None) -> None:
    """Print the normalised regret (mean over seeds) by problem, mean ranks, seeds and seconds a suggestion."""
    peers = sorted({x["peer"] for x in lines})
    complete = lambda p: all(len(best_so_far(lines, p, name, max(budgets))) for name in problems)  # noqa: E731
    left_out, peers = [p for p in peers if not complete(p)], [p for p in peers if complete(p)]
    if left_out:
        print(f"not in the table, for lack of a run of {max(budgets)} on every problem: {', '.join(left_out)}")
    count = {p: min(len(best_so_far(lines, p, name, max(budgets))) for name in problems) for p in peers}
    print("seeds:", ", ".join(f"{p} {count[p]}" for p in peers))
    for budget in budgets:
        cells = [[best_so_far(lines, p, name, budget) for p in peers] for name in problems]
        mean, error = mean_ranks(cells)
        order = np.argsort(mean)
        print(f"\nafter {budget} evaluations: regret / (median random point - lowest known), mean over seeds")
        print("| method | mean rank | " + " | ".join(problems) + " |\n|---|---|" + "---|" * len(problems))
        regrets = []
        for name, cell in zip(problems, cells):
            lowest, middle = reference(name, yahpo)
            lowest = min(lowest, *(min(x["ys"]) for x in lines if x["problem"] == name))
            regrets.append([float(np.mean((s - lowest) / (middle - lowest))) for s in cell])
        for i in order:
            row = " | ".join(f"{r[i]:.4f}" for r in regrets)
            print(f"| {peers[i]} | {mean[i]:.2f} ± {error[i]:.2f} | {row} |")
        others = [i for i, p in enumerate(peers) if not p.startswith("jhpo")]
        print("| *median peer* | | " + " | ".join(f"{np.median(np.take(r, others)):.4f}" for r in regrets) + " |")
    print("\nseconds a suggestion:", end=" ")
    spent = {p: [x["ask_s"] / x["n"] for x in lines if x["peer"] == p] for p in peers}
    print(", ".join(f"{p} {np.median(spent[p]):.3f}" for p in peers))
