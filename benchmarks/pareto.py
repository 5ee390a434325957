"""Several objectives: hypervolume on known fronts beside pymoo and Optuna, the speed of NSGA-II beside pymoo and evox.

    python benchmarks/pareto.py quality     # pymoo and Optuna are optional; what is missing is said
    python benchmarks/pareto.py speed --peers pymoo evox --python VENV/bin/python
    python benchmarks/pareto.py many    # four objectives and more: NSGA-III

Quality: the fraction of the true front's hypervolume (or of the best one known) that the evaluations dominate, mean and
standard error over seeds. Speed: whole searches through `jhpo.run`, the second call, beside those of peers
(`pareto_rates.py`, in a Python of their own), in trials per second of a processor: the machine may be shared.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pareto_problems import PROBLEMS, Problem, dtlz2, speed_problem

import jhpo
from jhpo.kernels import niching
from jhpo.kernels.hypervolume import hypervolume, sampled_hypervolume
from jhpo.objectives import front

_volume = jax.jit(hypervolume)


def share(problem: Problem, values: np.ndarray) -> float:
    """Of the best hypervolume, by all rows ``float64[n, m + c]``."""
    m = problem.objectives
    good = values[(values[:, m:] >= 0).all(axis=1), :m]
    good = good[front(good)]
    rows = np.full((-(-max(len(good), 1) // 256) * 256, m), np.inf)
    rows[: len(good)] = good
    with jax.enable_x64(True):
        return float(_volume(jnp.asarray(rows), jnp.asarray(problem.reference))) / problem.best


# -- searches ---------------------------------------------------------------------------------------------------


@functools.cache
def _objective(problem: Problem) -> Callable[[Any], dict[str, Any]]:
    """The same function for every seed, so that all of them share one program."""
    m = problem.objectives

    def objective(hp: Any) -> dict[str, Any]:
        found = [jnp.asarray(v) for v in problem.values(hp["x"], jnp)]
        return {"value": found[:m]} | ({"constraint": found[m:]} if found[m:] else {})

    return objective


def by_jhpo(problem: Problem, budget: int, population: int, seed: int) -> np.ndarray:
    """All values of a search."""
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(problem.dim,))})
    ways = ["minimize"] * problem.objectives
    result = jhpo.minimize(_objective(problem), space, jhpo.NSGA2(population), budget, seed=seed, directions=ways)
    history = result.history
    extra = np.zeros((len(history.value), 0)) if history.constraint is None else history.constraint
    return np.concatenate([np.asarray(history.values, np.float64), extra], axis=1)


def by_pymoo(problem: Problem, budget: int, population: int, seed: int) -> np.ndarray:
    """All values of a search by pymoo's NSGA-II with its defaults."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize

    rows: list[list[float]] = []
    m = problem.objectives

    class Mine(ElementwiseProblem):  # type: ignore[misc,unused-ignore]
        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            found = [float(v) for v in problem.values(x, np)]
            rows.append(found)
            out["F"] = found[:m]
            if found[m:]:
                out["G"] = [-c for c in found[m:]]

    constraints = len(problem.values(np.full(problem.dim, 0.5), np)) - m
    mine = Mine(n_var=problem.dim, n_obj=m, n_ieq_constr=constraints, xl=0.0, xu=1.0)
    minimize(mine, NSGA2(pop_size=population), ("n_eval", budget), seed=seed)
    return np.asarray(rows)


def by_optuna(sampler: str) -> Callable[..., np.ndarray]:
    """A search by one of Optuna's samplers."""

    def search(problem: Problem, budget: int, population: int, seed: int) -> np.ndarray:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        rows: list[list[float]] = []
        m = problem.objectives

        def objective(trial: Any) -> tuple[float, ...]:
            x = np.asarray([trial.suggest_float(f"x{k}", 0.0, 1.0) for k in range(problem.dim)])
            found = [float(v) for v in problem.values(x, np)]
            rows.append(found)
            trial.set_user_attr("constraint", [-c for c in found[m:]])
            return tuple(found[:m])

        limits = {"constraints_func": lambda t: t.user_attrs["constraint"]} if "BNH" in _name(problem) else {}
        if sampler == "NSGA-II":
            made: Any = optuna.samplers.NSGAIISampler(population_size=population, seed=seed, **limits)
        else:
            made = optuna.samplers.TPESampler(seed=seed, **limits)
        study = optuna.create_study(directions=["minimize"] * m, sampler=made)
        study.optimize(objective, n_trials=budget)
        return np.asarray(rows)

    return search


def _name(problem: Problem) -> str:
    return next(name for name, one in PROBLEMS.items() if one is problem)


def there(package: str) -> bool:
    """It can be imported; if not, say so."""
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"({package} is not installed)")
    return found


def quality(budgets: tuple[int, int], seeds: int, slow: bool) -> None:
    """A table of shares."""
    searches: dict[str, Callable[..., np.ndarray]] = {"jhpo NSGA2": by_jhpo}
    if there("pymoo"):
        searches["pymoo NSGA-II"] = by_pymoo
    if there("optuna"):
        searches |= {"Optuna NSGA-II": by_optuna("NSGA-II"), "Optuna TPE": by_optuna("TPE")}
    print(f"| problem | evaluations | {' | '.join(searches)} |\n|---|---|{'---|' * len(searches)}", flush=True)
    for name, problem in sorted(PROBLEMS.items(), key=lambda one: one[1].dim):
        few = problem.dim == 2
        budget, population = (budgets[0], 20) if few else (budgets[1], 40)
        cells = []
        for label, search in searches.items():
            if "Optuna" in label and not (few or slow):
                cells.append("-")  # minutes a study
                continue
            found = [share(problem, search(problem, budget, population, seed)[:budget]) for seed in range(seeds)]
            cells.append(f"{np.mean(found):.3f} ({np.std(found, ddof=1) / np.sqrt(seeds):.3f})")
        print(f"| {name} | {budget} | {' | '.join(cells)} |", flush=True)


def speed(options: argparse.Namespace) -> None:
    """Trials per second of a processor, ours on the wall too."""
    head = (
        "population",
        "who",
        "generations",
        "trials a second of a processor",
        "on the wall",
        "ours is so many times",
    )
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    problem = speed_problem(options.objectives, options.dim)
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(problem.dim,))})
    ways = ["minimize"] * problem.objectives

    def objective(hp: Any) -> list[Any]:
        return problem.values(hp["x"], jnp)

    for population in options.populations:
        rounds = max(options.generations if population <= 10_000 else options.generations // 5, 2)

        def search(key: jax.Array, population: int = population, rounds: int = rounds) -> Any:
            strategy = jhpo.NSGA2(population)
            return jax.block_until_ready(
                jhpo.run(strategy, objective, space, rounds, key, directions=ways, keep="values")
            )

        search(jax.random.key(0))
        begin, wall = time.process_time(), time.perf_counter()
        search(jax.random.key(1))
        ours, on_wall = (population * rounds / t for t in (time.process_time() - begin, time.perf_counter() - wall))
        print(f"| {population:,} | jhpo.run | {rounds} | {ours:,.0f} | {on_wall:,.0f} | |", flush=True)
        for peer in options.peers:
            their = _rate(options, peer, population, rounds)
            made, rate = their["generations"], their["processor"]
            print(f"| | {peer} | {made} | {rate:,.0f} | {their['wall']:,.0f} | {ours / rate:,.0f} |", flush=True)


def _rate(options: argparse.Namespace, peer: str, population: int, generations: int) -> dict[str, float]:
    """What `pareto_rates.py` prints."""
    script = Path(__file__).parent / "pareto_rates.py"
    numbers = (options.objectives, options.dim, population, generations, options.limit)
    done = subprocess.run(
        [options.python, str(script), peer, *map(str, numbers)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def many(seeds: int, generations: int) -> None:
    """A table of NSGA-III on DTLZ2: the last population's distance from the front's directions, and hypervolume."""
    print("| objectives, population | who | IGD | hypervolume |\n|---|---|---|---|", flush=True)
    for m, population in ((3, 92), (4, 84), (5, 126)):
        problem = Problem(m + 9, m, dtlz2(m), (1.1,) * m, float("nan"))
        target = niching.directions(m, population)
        target = target / np.linalg.norm(target, axis=1, keepdims=True)
        searches: dict[str, Callable[[int], np.ndarray]] = {
            "jhpo NSGA3": lambda seed, p=problem, n=population: _last(jhpo.NSGA3(n), p, generations, seed),
            "jhpo NSGA2": lambda seed, p=problem, n=population: _last(jhpo.NSGA2(n), p, generations, seed),
        }
        if there("pymoo"):
            searches["pymoo NSGA-III"] = lambda seed, p=problem, n=population: _last_of_pymoo(p, n, generations, seed)
        for who, search in searches.items():
            found = [search(seed) for seed in range(seeds)]
            away = [np.linalg.norm(target[:, None] - v[None], axis=2).min(axis=1).mean() for v in found]
            sizes = [
                float(sampled_hypervolume(jnp.asarray(v, jnp.float32), jnp.full(m, 1.1), jax.random.key(0))[0])
                for v in found
            ]
            cells = (f"{np.mean(x):.4f} ({np.std(x, ddof=1) / np.sqrt(seeds):.4f})" for x in (away, sizes))
            print(f"| {m}, {population} | {who} | {' | '.join(cells)} |", flush=True)


def _last(strategy: jhpo.NSGA2, problem: Problem, generations: int, seed: int) -> np.ndarray:
    """The values of the last population."""
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(problem.dim,))})
    ways = ["minimize"] * problem.objectives
    key = jax.random.key(seed)
    state, _ = jhpo.run(strategy, _objective(problem), space, generations, key, directions=ways, keep="values")
    return np.asarray(state.values, np.float64)


def _last_of_pymoo(problem: Problem, population: int, generations: int, seed: int) -> np.ndarray:
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.core.problem import Problem as Whole
    from pymoo.optimize import minimize

    vectorised = jax.jit(jax.vmap(lambda x: jnp.stack(problem.values(x, jnp))))

    class Mine(Whole):  # type: ignore[misc,unused-ignore]
        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = np.asarray(vectorised(x.astype(np.float32)), np.float64)

    mine = Mine(n_var=problem.dim, n_obj=problem.objectives, xl=0.0, xu=1.0)
    lines = niching.directions(problem.objectives, population)
    found = minimize(mine, NSGA3(ref_dirs=lines, pop_size=population), ("n_gen", generations), seed=seed)
    return np.asarray(found.algorithm.pop.get("F"))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quality", "speed", "many"])
    parser.add_argument("--few", type=int, default=100, help="evaluations of problems in two dimensions")
    parser.add_argument("--many", type=int, default=4000, help="of the others")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--slow", action="store_true", help="Optuna on every problem, minutes each")
    parser.add_argument("--populations", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--generations", type=int, default=50)
    parser.add_argument("--dim", type=int, default=10)
    parser.add_argument("--objectives", type=int, default=2, choices=[2, 3])
    parser.add_argument("--peers", nargs="*", default=[], choices=["pymoo", "evox"], help="whose speed, too")
    parser.add_argument("--python", default="python3", help="of the peers whose speed is measured")
    parser.add_argument("--limit", type=int, default=120, help="seconds of a processor a peer's search may take")
    options = parser.parse_args()
    if options.what == "quality":
        quality((options.few, options.many), options.seeds, options.slow)
    elif options.what == "many":
        many(options.seeds, options.generations)
    else:
        speed(options)


if __name__ == "__main__":
    main()
