"""Quality of swarms and evolution beside their peers: a table of five functions, BBOB 1-24, and surrogates of tuning.

    python benchmarks/swarm_quality.py table --peers-python PYTHON --results table.jsonl
    python benchmarks/swarm_quality.py bbob --peers-python PYTHON --results bbob.jsonl
    python benchmarks/swarm_quality.py hpo --yahpo DIR --peers DIR --peers-python PYTHON --results hpo.jsonl

Beside jhpo, hpo needs `onnx` and bbob needs `coco-experiment`. A results file keeps what was measured: only what is
missing is run, and ``--seconds`` spreads it over several calls.
jhpo's methods run all seeds (table) or all problems (bbob) side by side; everything computes in float64, in the box
[-5, 5]^d, from random starts.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import comparison
import jax
import jax.numpy as jnp
import numpy as np
import surrogates
import swarm_problems as sp
from comparison import Line

import jhpo
from jhpo.strategies.base import Evaluation, Strategy

HERE = Path(__file__).parent.resolve()
TABLE_PEERS = ("pyswarms", "evosax_pso", "evosax_cma", "evosax_de", "cmaes")
BBOB_PEERS = ("pyswarms", "cmaes")
HPO_BUDGET = 200
HPO_PEERS = ("random", "pyswarms", "cmaes", "optuna_tpe")
Job = tuple[tuple[Any, ...], Callable[[], list[Line]]]  # method and problem, and what runs it
CUSTOMARY = {d: 4 + int(3 * math.log(d)) for d in range(2, 100)}  # CMA-ES's population


def table_methods(evaluations: int) -> dict[str, Strategy]:
    """jhpo's rows of the table: 40 particles or members, CMA-ES with its customary population."""
    variants = ("gbest", "spso2006", "spso2011", "ring", "vonneumann", "fips", "clpso", "cso")
    swarms = {f"jhpo {v}": jhpo.PSO(40, variant=v, horizon=evaluations / 40) for v in variants}
    return swarms | {
        "jhpo cmaes": jhpo.CMAES(CUSTOMARY[10], start="random"),
        "jhpo cmaes bipop": jhpo.CMAES(CUSTOMARY[10], start="random", restarts="bipop"),
        "jhpo de rand1": jhpo.DifferentialEvolution(40, variant="rand1"),
        "jhpo de current_to_pbest": jhpo.DifferentialEvolution(40, variant="current_to_pbest"),
        "jhpo lshade": jhpo.DifferentialEvolution(40),
    }


def bbob_methods(d: int) -> dict[str, Strategy]:
    """jhpo's curves on BBOB."""
    return {
        "jhpo pso": jhpo.PSO(40),
        "jhpo spso2011": jhpo.PSO(40, variant="spso2011"),
        "jhpo cmaes": jhpo.CMAES(CUSTOMARY[d], start="random"),
        "jhpo cmaes bipop": jhpo.CMAES(CUSTOMARY[d], start="random", restarts="bipop"),
        "jhpo lshade": jhpo.DifferentialEvolution(40),
    }


def hpo_methods(d: int) -> dict[str, Strategy]:
    """jhpo's rows on the surrogates: swarms of ten, as the peers', CMA-ES with its customary population.

    The grid has as many values for each coordinate as fit into the budget, two at least.
    """
    return {
        "jhpo random": jhpo.RandomSearch(10),
        "jhpo sobol": jhpo.SobolSearch(8),
        "jhpo grid": jhpo.GridSearch(max(2, int(HPO_BUDGET ** (1.0 / d) + 1e-9)), 10),
        "jhpo greedy": jhpo.Greedy(10),
        "jhpo pso steady": jhpo.PSO(1, variant="gbest", particles=10),
        "jhpo pso gbest": jhpo.PSO(10, variant="gbest"),
        "jhpo cmaes": jhpo.CMAES(CUSTOMARY[d]),
        "jhpo lshade": jhpo.DifferentialEvolution(10),
    }


def table(options: argparse.Namespace) -> Iterator[Job]:
    """Runs of 25 seeds on `swarm_problems.FUNCTIONS`."""
    for method, strategy in table_methods(options.evaluations).items():
        yield (method, "all"), functools.partial(table_run, method, strategy, options)
    for peer in TABLE_PEERS if options.peers_python else ():
        for name in sp.FUNCTIONS:
            yield (
                (peer, name),
                functools.partial(peer_run, options, "table", peer, name, options.evaluations, options.seeds),
            )


def table_run(method: str, strategy: Strategy, options: argparse.Namespace) -> list[Line]:
    """All functions and seeds in one program."""
    space, functions = cube(10), [sp.function(name, 10, jnp) for name in sp.FUNCTIONS]
    generations = options.evaluations // strategy.population

    def search(which: jax.Array, key: jax.Array) -> jax.Array:
        value = lambda hp: jnp.stack([f(hp["u"]) for f in functions])[which]  # noqa: E731
        return jhpo.run(strategy, value, space, generations, key)[1].value

    keys, which = jax.random.split(jax.random.key(1), options.seeds), jnp.arange(len(functions))
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(search, (None, 0)), (0, None)))(which, keys))
    return [
        sp.table_line(method, name, s, values[f, s].ravel())
        for f, name in enumerate(sp.FUNCTIONS)
        for s in range(options.seeds)
    ]


def table_report(lines: list[Line], options: argparse.Namespace) -> None:
    """Medians, and how many runs solved each function."""
    print(
        f"\nd = 10, {options.evaluations} evaluations, {options.seeds} seeds: median of the best value; solved to 1e-8"
    )
    print("(median evaluations of the solved ones in brackets)")
    print("| method | " + " | ".join(sp.FUNCTIONS) + " |\n|---|" + "---|" * len(sp.FUNCTIONS))
    for method in dict.fromkeys(x["method"] for x in lines):
        cells = []
        for name in sp.FUNCTIONS:
            runs = [x for x in lines if x["method"] == method and x["function"] == name]
            solved = [x["first"] for x in runs if x["first"] > 0]
            if not runs:
                cells.append("not run")
                continue
            text = f"{np.median([x['best'] for x in runs]):.1e}" if len(solved) < len(runs) else "solved"
            effort = f" ({np.median(solved):.0f})" if solved else ""
            cells.append(f"{text} {len(solved)}/{len(runs)}{effort}")
        print(f"| {method} | " + " | ".join(cells) + " |")


def cube(d: int) -> jhpo.Space:
    """The unit cube as a space of one array."""
    return jhpo.Space({"u": jhpo.Float(0.0, 1.0, shape=(d,))})


def peer_run(options: argparse.Namespace, task: str, peer: str, *arguments: Any) -> list[Line]:
    """Lines of `swarm_peers.py` in the peers' interpreter."""
    command = [options.peers_python, "-W", "ignore", "-B", str(HERE / "swarm_peers.py"), task, peer]
    folder = options.peers if task == "hpo" else HERE
    return comparison.run_peer([*command, *(str(a) for a in arguments)], folder, options.yahpo)


def bbob_search(strategy: Strategy, problems: Sequence, d: int, budget: int) -> list[np.ndarray]:
    """The values of one search on every problem, all asked and told together."""
    space, strategy = cube(d), strategy.prepare(budget)
    keys = jax.random.split(jax.random.key(d), len(problems))
    states = jax.jit(jax.vmap(lambda k: strategy.init(space, k)))(keys)

    def turn(state, units, value, key):
        state = strategy.tell(state, units, Evaluation(value=value))
        return strategy.ask(state, key)

    first = jax.jit(jax.vmap(strategy.ask))
    step = jax.jit(jax.vmap(turn), donate_argnums=0)
    split = jax.jit(lambda g: jax.vmap(lambda k: jax.random.fold_in(k, g))(keys))
    units, states = first(states, split(jnp.uint32(0)))
    told: list[np.ndarray] = []
    for generation in range(1, -(-budget // strategy.population) + 1):
        x = 10.0 * np.asarray(units) - 5.0
        value = np.array([[problem(row) for row in rows] for (_, _, problem, _), rows in zip(problems, x)])
        told.append(value)
        if generation * strategy.population < budget:
            units, states = step(states, units, jnp.asarray(value), split(jnp.uint32(generation)))
    return list(np.concatenate(told, axis=1)[:, :budget])


def bbob(options: argparse.Namespace) -> Iterator[Job]:
    """Hits of COCO's targets, one curve a method and dimension."""
    for d in options.dimensions:
        budget = options.budget * d
        for method, strategy in bbob_methods(d).items():
            yield (method, d, "all"), functools.partial(bbob_run, method, strategy, d, budget, options.instances)
        for group in [g for g in sp.GROUPS if g != "all"] if options.peers_python else ():
            for peer in BBOB_PEERS:
                arguments = (group, d, budget, options.instances)
                yield (peer, d, group), functools.partial(peer_run, options, "bbob", peer, *arguments)


def bbob_run(method: str, strategy: Strategy, d: int, budget: int, instances: int) -> list[Line]:
    """One method on all problems at once."""
    problems = sp.bbob(d, instances)
    values = bbob_search(strategy, problems, d, budget)
    return [sp.bbob_line(method, d, f, i, v, best) for (f, i, _, best), v in zip(problems, values)]


def bbob_report(lines: list[Line], options: argparse.Namespace) -> None:
    """Share of the targets reached by budget, and by group of functions at the end."""
    for d in options.dimensions:
        print(f"\nBBOB 1-24, d = {d}, {options.instances} instances: percent of the 51 targets 1e2..1e-8 reached")
        shares = [b for b in (10, 100, 1000, 10_000) if b < options.budget] + [options.budget]
        groups = [g for g in sp.GROUPS if g != "all"]
        head = [*(f"all, {b} d" for b in shares), *(f"{g}, {options.budget} d" for g in groups)]
        print("| method | " + " | ".join(head) + " |\n|---|" + "---|" * len(head))
        here = [x for x in lines if x["dimension"] == d]
        for method in dict.fromkeys(x["method"] for x in here):
            if sum(x["method"] == method for x in here) < 24 * options.instances:
                print(f"| {method} | not complete |")
                continue
            cells = [share(here, method, "all", b * d) for b in shares]
            cells += [share(here, method, g, options.budget * d) for g in groups]
            print(f"| {method} | " + " | ".join(f"{100 * c:.1f}" for c in cells) + " |")


def share(lines: Sequence[comparison.Line], method: str, group: str, budget: int) -> float:
    """Share of (function, instance, target) that was reached within the budget."""
    hits = np.array([x["hits"] for x in lines if x["method"] == method and x["function"] in sp.GROUPS[group]])
    return float(((hits > 0) & (hits <= budget)).mean())


def hpo(options: argparse.Namespace) -> Iterator[Job]:
    """Searches with a budget of 200 on the problems of `surrogates`."""
    for name in surrogates.available(tuple(options.problems), options.yahpo):
        d = surrogates.get(name, options.yahpo).space.dim
        for method, strategy in hpo_methods(d).items():
            yield (method, name), functools.partial(hpo_run, method, strategy, name, options)
        for peer in HPO_PEERS if options.peers and options.peers_python else ():
            yield (peer, name), functools.partial(peer_run, options, "hpo", peer, name, HPO_BUDGET, 0, options.seeds)


def hpo_run(method: str, strategy: Strategy, name: str, options: argparse.Namespace) -> list[Line]:
    """One method on one problem, every seed."""
    run = functools.partial(comparison.run_jhpo, method, strategy, name, options.yahpo, HPO_BUDGET)
    return [run(seed) for seed in range(options.seeds)]


def hpo_report(lines: list[Line], options: argparse.Namespace) -> None:
    """Regret and mean ranks."""
    names = surrogates.available(tuple(options.problems), options.yahpo)
    comparison.report(lines, names, [50, 100, HPO_BUDGET], options.yahpo)


def identity(line: Line) -> tuple[Any, ...]:
    """What a job's name and the line of one of its runs have in common."""
    if "peer" in line:
        return line["peer"], line["problem"]
    if "hits" in line:
        group = next(g for g in sp.GROUPS if line["function"] in sp.GROUPS[g])
        return line["method"], line["dimension"], group
    return line["method"], line["function"]


TASKS = {"table": (table, table_report), "bbob": (bbob, bbob_report), "hpo": (hpo, hpo_report)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines: read, and appended to")
    parser.add_argument("--peers-python", help="interpreter in which the peers are installed")
    parser.add_argument("--peers", type=Path, help="hpo: folder of peers.py and problems.py")
    parser.add_argument("--yahpo", type=Path, help="hpo: folder of the YAHPO Gym data")
    parser.add_argument("--problems", nargs="+", default=surrogates.PROBLEMS, help="hpo: names, or scenario:instance")
    parser.add_argument("--seeds", type=int, default=None, help="table: 25, hpo: 10")
    parser.add_argument("--evaluations", type=int, default=100_000, help="table: of every run")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[5, 10], help="bbob")
    parser.add_argument("--budget", type=int, default=10_000, help="bbob: evaluations in multiples of the dimension")
    parser.add_argument("--instances", type=int, default=3, help="bbob: of every function")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no run after so long; call again")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="run those methods alone")
    parser.add_argument("--peer-seeds", type=int, default=None, help="table: of the peers that run one after another")
    options = parser.parse_args()
    comparison.fix_threads()
    jax.config.update("jax_enable_x64", options.task != "hpo")
    options.results.touch()
    options.seeds = options.seeds or {"table": 25, "hpo": 10}.get(options.task, 1)
    jobs, report = TASKS[options.task]
    lines = comparison.load([options.results])
    done, begun, left = {identity(x) for x in lines}, time.perf_counter(), 0
    for name, run in jobs(options):
        if options.only and name[0] not in options.only:
            continue
        if name in done or (name[-1] == "all" and any(d[:-1] == name[:-1] for d in done)):
            continue
        if time.perf_counter() - begun > options.seconds:
            left += 1
            continue
        start = time.perf_counter()
        for line in run():
            comparison.append(options.results, line)
            lines.append(line)
        print(f"{', '.join(str(n) for n in name)}: {time.perf_counter() - start:.0f} s", flush=True)
    if left:
        print(f"{left} runs are left: call again")
    else:
        report(lines, options)


if __name__ == "__main__":
    main()
