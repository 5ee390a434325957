"""Several objectives: hypervolume on known fronts beside pymoo and Optuna, and the speed of NSGA-II beside pymoo.

    python benchmarks/pareto.py quality     # pymoo and Optuna are optional; what is missing is said
    python benchmarks/pareto.py speed

Quality: the fraction of the true front's hypervolume (or of the best one known) that the evaluations dominate, mean and
standard error over seeds. Speed: whole searches through `jhpo.run`, the second call, beside
`pymoo.optimize.minimize` with the same operators, in trials per second of a processor: the machine may be shared.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jhpo
from jhpo.kernels.hypervolume import hypervolume
from jhpo.objectives import front


class Problem(NamedTuple):
    """Values of a point of the unit cube, and what counts."""

    dim: int
    objectives: int
    values: Callable[[Any, Any], list[Any]]  # (x [d], array module) to values, then constraints (feasible >= 0)
    reference: tuple[float, ...]
    best: float  # hypervolume of the true front


def zdt(number: int, dim: int = 30) -> Callable[[Any, Any], list[Any]]:
    """Zitzler, Deb and Thiele 2000."""

    def values(x: Any, xp: Any) -> list[Any]:
        g = 1.0 + 9.0 * xp.sum(x[1:]) / (dim - 1)
        ratio = x[0] / g
        shape = {
            1: 1.0 - xp.sqrt(ratio),
            2: 1.0 - ratio**2,
            3: 1.0 - xp.sqrt(ratio) - ratio * xp.sin(10.0 * np.pi * x[0]),
        }
        return [x[0], g * shape[number]]

    return values


def dtlz2(objectives: int) -> Callable[[Any, Any], list[Any]]:
    """Deb et al. 2002: a part of a sphere."""

    def values(x: Any, xp: Any) -> list[Any]:
        radius = 1.0 + xp.sum((x[objectives - 1 :] - 0.5) ** 2)
        found = []
        for k in range(objectives):
            value = radius
            for angle in x[: objectives - 1 - k]:
                value = value * xp.cos(0.5 * np.pi * angle)
            found.append(value * xp.sin(0.5 * np.pi * x[objectives - 1 - k]) if k else value)
        return found

    return values


def branin_currin(x: Any, xp: Any) -> list[Any]:
    """BoTorch's test problem, both to be minimised."""
    a, b = 15.0 * x[0] - 5.0, 15.0 * x[1]
    branin = (b - 5.1 / (4 * np.pi**2) * a**2 + 5.0 / np.pi * a - 6.0) ** 2
    branin = branin + 10.0 * (1.0 - 1.0 / (8.0 * np.pi)) * xp.cos(a) + 10.0
    top = 2300.0 * x[0] ** 3 + 1900.0 * x[0] ** 2 + 2092.0 * x[0] + 60.0
    factor = 1.0 - xp.exp(-0.5 / xp.maximum(x[1], 1e-9))
    return [branin, factor * top / (100.0 * x[0] ** 3 + 500.0 * x[0] ** 2 + 4.0 * x[0] + 20.0)]


def constrained(x: Any, xp: Any) -> list[Any]:
    """BNH (Binh and Korn 1997): two objectives, two constraints."""
    a, b = 5.0 * x[0], 3.0 * x[1]
    first = 25.0 - (a - 5.0) ** 2 - b**2
    second = (a - 8.0) ** 2 + (b + 3.0) ** 2 - 7.7
    return [4.0 * a**2 + 4.0 * b**2, (a - 5.0) ** 2 + (b - 5.0) ** 2, first, second]


def _under(curve: Callable[[np.ndarray], np.ndarray], reference: tuple[float, float]) -> float:
    """Hypervolume of a front given as its points."""
    points = curve(np.linspace(0.0, 1.0, 20_001))
    points = points[front(points)]
    inside = points[(points < np.asarray(reference)).all(axis=1)]
    edge = np.append(inside[:, 0], reference[0])
    return float((np.diff(edge) * (reference[1] - inside[:, 1])).sum())


def _line(shape: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.stack([x, shape(x)], axis=1)


TWO = (1.1, 1.1)
PROBLEMS = {
    "ZDT1": Problem(30, 2, zdt(1), TWO, _under(_line(lambda x: 1 - np.sqrt(x)), TWO)),
    "ZDT2": Problem(30, 2, zdt(2), TWO, _under(_line(lambda x: 1 - x**2), TWO)),
    "ZDT3": Problem(30, 2, zdt(3), TWO, _under(_line(lambda x: 1 - np.sqrt(x) - x * np.sin(10 * np.pi * x)), TWO)),
    "DTLZ2": Problem(12, 2, dtlz2(2), TWO, 1.1**2 - np.pi / 4),
    "DTLZ2, 3 objectives": Problem(12, 3, dtlz2(3), (1.1,) * 3, 1.1**3 - np.pi / 6),
    "BraninCurrin": Problem(2, 2, branin_currin, (18.0, 6.0), 59.36011874867746),  # the best known, BoTorch's
    # the front lies on x = y up to 3, then along x with y at its bound of 3
    "BNH, constrained": Problem(
        2, 2, constrained, (140.0, 50.0),
        _under(lambda t: np.stack([
            4 * (5 * t) ** 2 + 4 * np.minimum(5 * t, 3) ** 2, (5 * t - 5) ** 2 + (np.minimum(5 * t, 3) - 5) ** 2
        ], axis=1), (140.0, 50.0)),
    ),
}  # fmt: skip


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


def speed(populations: list[int], generations: int, dim: int, objectives: int) -> None:
    """Trials per second of a processor."""
    print("| population | jhpo.run | pymoo | ratio |\n|---|---|---|---|", flush=True)
    problem = (
        PROBLEMS["ZDT1"]._replace(dim=dim, values=zdt(1, dim)) if objectives == 2 else PROBLEMS["DTLZ2, 3 objectives"]
    )
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(problem.dim,))})
    peer = there("pymoo")
    for population in populations:
        rounds = max(generations if population <= 10_000 else generations // 5, 2)

        def objective(hp: Any) -> list[Any]:
            return problem.values(hp["x"], jnp)

        def search(
            key: jax.Array, population: int = population, rounds: int = rounds, objective: Any = objective
        ) -> Any:
            strategy = jhpo.NSGA2(population)
            ways = ["minimize"] * problem.objectives
            return jax.block_until_ready(
                jhpo.run(strategy, objective, space, rounds, key, directions=ways, keep="values")
            )

        search(jax.random.key(0))
        begin = time.process_time()
        search(jax.random.key(1))
        ours = population * rounds / (time.process_time() - begin)
        theirs = _pymoo_rate(problem, population) if peer and population <= 2000 else float("nan")
        print(f"| {population:,} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.0f} |", flush=True)


def _pymoo_rate(problem: Problem, population: int) -> float:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as Whole
    from pymoo.optimize import minimize

    vectorised = jax.jit(jax.vmap(lambda x: jnp.stack(problem.values(x, jnp))))

    class Mine(Whole):  # type: ignore[misc,unused-ignore]
        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = np.asarray(vectorised(x.astype(np.float32)), np.float64)

    mine = Mine(n_var=problem.dim, n_obj=problem.objectives, xl=0.0, xu=1.0)
    rounds = 10 if population <= 1000 else 3
    vectorised(np.zeros((population, problem.dim), np.float32))
    begin = time.process_time()
    minimize(mine, NSGA2(pop_size=population), ("n_gen", rounds), seed=1)
    return population * rounds / (time.process_time() - begin)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["quality", "speed"])
    parser.add_argument("--few", type=int, default=100, help="evaluations of problems in two dimensions")
    parser.add_argument("--many", type=int, default=4000, help="of the others")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--slow", action="store_true", help="Optuna on every problem, minutes each")
    parser.add_argument("--populations", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--generations", type=int, default=50)
    parser.add_argument("--dim", type=int, default=10)
    parser.add_argument("--objectives", type=int, default=2, choices=[2, 3])
    options = parser.parse_args()
    if options.what == "quality":
        quality((options.few, options.many), options.seeds, options.slow)
    else:
        speed(options.populations, options.generations, options.dim, options.objectives)


if __name__ == "__main__":
    main()
