"""Bayesian search of several objectives beside BoTorch and Optuna: hypervolume after 25, 50, ... evaluations.

    python benchmarks/pareto_bayes.py run --who jhpo --output rows.jsonl
    python benchmarks/pareto_bayes.py run --who botorch optuna_tpe --python VENV/bin/python --output more.jsonl
    python benchmarks/pareto_bayes.py table --output rows.jsonl

Peers run in a Python of their own that has botorch, optuna and pymoo (the surrogates: jax and onnx too). Their runs are
stored in `runs/pareto`, so that a change of ours needs only our own; runs that are there or in the file are not
repeated. The table has the fraction of the best known hypervolume that the evaluations dominate, mean and standard
error over seeds.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pareto import share
from pareto_problems import EXPENSIVE, Problem
from pareto_unseen import BY_NAME

import jhpo

HERE = Path(__file__).parent
OURS: dict[str, dict[str, Any]] = {
    "jhpo": {},
    "jhpo_reference": {"reference": True},  # given the point that the table is computed with
    "jhpo_plain": {"warp": "none"},
    "jhpo_nsga2": {},
}
PROBLEMS = dict(BY_NAME)  # and those of pareto_surrogates where their data is at hand
PEERS = ("botorch", "optuna_gp", "optuna_tpe", "optuna_nsga2", "pymoo_nsga2")


@functools.cache
def _objective(name: str) -> Callable[[Any], Any]:
    problem = PROBLEMS[name]

    def objective(params: dict[str, Any]) -> dict[str, Any]:
        unit = params["x"] if problem.space is None else problem.space.encode_some(params)
        found = [float(v) for v in problem.values(np.asarray(unit, np.float64), np)]
        limits = found[problem.objectives :]
        return {"value": found[: problem.objectives]} | ({"constraint": limits} if limits else {})

    return jhpo.host(objective)


def _strategy(who: str, problem: Problem) -> jhpo.strategies.base.Strategy:
    if who == "jhpo_nsga2":
        return jhpo.NSGA2(10)
    limits = len(problem.values(np.full(problem.dim, 0.5), np)) - problem.objectives
    options = OURS[who] | ({"reference": problem.reference} if "reference" in OURS[who] else {})
    return jhpo.BayesOpt(constraints=limits, **options)


def by_jhpo(who: str, name: str, budget: int, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Runs of jhpo, in this process."""
    problem = PROBLEMS[name]
    space = problem.space or jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(problem.dim,))})
    for seed in seeds:
        start = time.process_time()
        found = jhpo.minimize(
            _objective(name), space, _strategy(who, problem), budget, seed=seed,
            directions=["minimize"] * problem.objectives,
        )  # fmt: skip
        spent = time.process_time() - start
        columns = [found.history.values] + ([] if found.history.constraint is None else [found.history.constraint])
        rows = np.concatenate([np.asarray(c, np.float64) for c in columns], axis=1)
        rows = [[float(f"{v:.7g}") for v in row] for row in rows]
        yield {"who": who, "problem": name, "seed": seed, "seconds": round(spent, 2), "rows": rows}


def by_peer(python: str, who: str, name: str, budget: int, seeds: list[int]) -> Iterator[dict[str, Any]]:
    """Runs of a peer, in its own Python."""
    command = [python, str(HERE / "pareto_peers.py"), who, name, str(budget), *map(str, seeds)]
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{who} failed on {name}")


def run(options: argparse.Namespace) -> None:
    """Runs that the file lacks."""
    done = {(r["who"], r["problem"], r["seed"]) for r in _stored(options.output) if len(r["rows"]) >= options.budget}
    for who in options.who:
        for name in options.problems:
            seeds = [seed for seed in range(options.seeds) if (who, name, seed) not in done]
            if not seeds:
                continue
            ours = who in OURS
            some = (by_jhpo if ours else functools.partial(by_peer, options.python))(who, name, options.budget, seeds)
            for row in some:
                with options.output.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                reached = share(PROBLEMS[name], np.asarray(row["rows"]))
                print(who, name, row["seed"], f"{reached:.4f} {row['seconds']} s", flush=True)


def _stored(output: Path) -> list[dict[str, Any]]:
    """The runs of the file, and those of peers that are part of the repository."""
    files = [*([output] if output.exists() else []), *sorted((HERE / "runs" / "pareto").glob("*.jsonl"))]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def table(options: argparse.Namespace) -> None:
    """Means and standard errors."""
    rows = _stored(options.output)
    names = [w for w in (*OURS, *PEERS) if any(r["who"] == w for r in rows)]
    print(f"| problem | evaluations | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
    for problem in PROBLEMS:
        for count in options.at:
            cells = []
            for who in names:
                mine = [np.asarray(r["rows"]) for r in rows if r["who"] == who and r["problem"] == problem]
                found = [share(PROBLEMS[problem], r[:count]) for r in mine if len(r) >= count]
                error = np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
                cells.append(f"{np.mean(found):.4f} ({error:.4f}, {len(found)})" if found else "-")
            if any(cell != "-" for cell in cells):
                print(f"| {problem} | {count} | {' | '.join(cells)} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--who", nargs="+", default=["jhpo"])
    parser.add_argument("--problems", nargs="+", help="those of pareto_problems by default")
    parser.add_argument("--yahpo", type=Path, help="folder of the YAHPO Gym data, for the surrogates")
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--python", default="python3", help="of the peers")
    parser.add_argument("--output", type=Path, default=Path("out/pareto_bayes.jsonl"))
    parser.add_argument("--at", type=int, nargs="+", default=[25, 50])
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.yahpo:
        import pareto_surrogates

        PROBLEMS.update(pareto_surrogates.problems(options.yahpo))
        os.environ["YAHPO"] = str(options.yahpo.resolve())
    options.problems = options.problems or list(EXPENSIVE)
    if unknown := set(options.problems) - set(PROBLEMS):
        parser.error(f"--problems: expected some of {', '.join(PROBLEMS)}, got {', '.join(unknown)}")
    (run if options.what == "run" else table)(options)


if __name__ == "__main__":
    main()
