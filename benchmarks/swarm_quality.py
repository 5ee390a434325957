"""Quality of swarms and evolution beside their peers: a table of five functions, BBOB 1-24, and surrogates of tuning.

    python benchmarks/swarm_quality.py table --peers-python PYTHON --results table.jsonl
    python benchmarks/swarm_quality.py bbob --peers-python PYTHON --results bbob.jsonl
    python benchmarks/swarm_quality.py hpo --yahpo DIR --peers DIR --peers-python PYTHON --results hpo.jsonl

A results file keeps what was measured: only what is missing is run. jhpo's methods run all seeds (table) or all
problems (bbob) side by side; everything computes in float64, in the box [-5, 5]^d, from random starts.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import comparison
import jax
import jax.numpy as jnp
import numpy as np
import surrogates
import swarm_problems as sp

import jhpo
from jhpo.strategies.base import Evaluation, Strategy

HERE = Path(__file__).parent.resolve()
TABLE_PEERS = ("pyswarms", "evosax_pso", "evosax_cma", "evosax_de", "cmaes")
BBOB_PEERS = ("pyswarms", "cmaes")
HPO_PEERS = ("random", "pyswarms", "cmaes", "optuna_tpe")
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
    """jhpo's rows on the surrogates: swarms of ten, as the peers', CMA-ES with its customary population."""
    return {
        "jhpo pso": jhpo.PSO(10),
        "jhpo cmaes": jhpo.CMAES(CUSTOMARY[d]),
        "jhpo lshade": jhpo.DifferentialEvolution(10),
    }


def table(options: argparse.Namespace) -> None:
    """Medians of 25 seeds on `swarm_problems.FUNCTIONS`."""
    jax.config.update("jax_enable_x64", True)
    d, space = 10, jhpo.Space({"u": jhpo.Float(0.0, 1.0, shape=(10,))})
    lines = comparison.load([options.results])
    done = lambda method, name: any(x["method"] == method and x["function"] == name for x in lines)  # noqa: E731
    for method, strategy in table_methods(options.evaluations).items():
        start = time.perf_counter()
        for name in [n for n in sp.FUNCTIONS if not done(method, n)]:
            f = sp.function(name, d, jnp)

            def search(key: jax.Array, f=f, strategy=strategy) -> jax.Array:
                generations = options.evaluations // strategy.population
                return jhpo.run(strategy, lambda hp: f(hp["u"]), space, generations, key)[1].value

            values = np.asarray(jax.jit(jax.vmap(search))(jax.random.split(jax.random.key(1), options.seeds)))
            new = [sp.table_line(method, name, s, values[s].ravel()) for s in range(options.seeds)]
            keep(options.results, lines, new)
        print(f"{method}: {time.perf_counter() - start:.0f} s", flush=True)
    for peer in TABLE_PEERS if options.peers_python else ():
        if not all(done(peer, name) for name in sp.FUNCTIONS):
            start = time.perf_counter()
            command = [options.peers_python, "-B", str(HERE / "swarm_peers.py"), "table", peer]
            sizes = [str(options.evaluations), str(options.seeds)]
            keep(options.results, lines, comparison.run_peer([*command, *sizes], HERE))
            print(f"{peer}: {time.perf_counter() - start:.0f} s", flush=True)
    print(
        f"\nd = {d}, {options.evaluations} evaluations, {options.seeds} seeds: median of the best value; solved to 1e-8"
    )
    print("(median evaluations of the solved ones in brackets)")
    print("| method | " + " | ".join(sp.FUNCTIONS) + " |\n|---|" + "---|" * len(sp.FUNCTIONS))
    for method in dict.fromkeys(x["method"] for x in lines):
        cells = []
        for name in sp.FUNCTIONS:
            runs = [x for x in lines if x["method"] == method and x["function"] == name]
            solved = [x["first"] for x in runs if x["first"] > 0]
            text = f"{np.median([x['best'] for x in runs]):.1e}" if len(solved) < len(runs) else "solved"
            effort = f" ({np.median(solved):.0f})" if solved else ""
            cells.append(f"{text} {len(solved)}/{len(runs)}{effort}")
        print(f"| {method} | " + " | ".join(cells) + " |")


def bbob_search(strategy: Strategy, problems: Sequence, d: int, budget: int) -> list[np.ndarray]:
    """The values of one search on every problem, all asked and told together."""
    space = jhpo.Space({"u": jhpo.Float(0.0, 1.0, shape=(d,))})
    strategy = strategy.prepare(budget)
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


def bbob(options: argparse.Namespace) -> None:
    """Share of COCO's targets reached by budget."""
    jax.config.update("jax_enable_x64", True)
    lines = comparison.load([options.results])
    try:
        import cocoex  # noqa: F401
    except ImportError:
        print("skipped: BBOB needs the package coco-experiment in both interpreters")
        return
    for d in options.dimensions:
        budget = options.budget * d
        done = {x["method"] for x in lines if x["dimension"] == d and x["n"] <= budget}
        for method, strategy in bbob_methods(d).items():
            if method not in done:
                start, problems = time.perf_counter(), sp.bbob(d, options.instances)
                values = bbob_search(strategy, problems, d, budget)
                rows = [sp.bbob_line(method, d, f, i, v, best) for (f, i, _, best), v in zip(problems, values)]
                keep(options.results, lines, rows)
                print(f"{method}, d = {d}: {time.perf_counter() - start:.0f} s", flush=True)
        for peer in BBOB_PEERS if options.peers_python else ():
            if peer not in done:
                start = time.perf_counter()
                command = [options.peers_python, "-B", str(HERE / "swarm_peers.py"), "bbob", peer]
                sizes = [str(n) for n in (d, budget, options.instances)]
                keep(options.results, lines, comparison.run_peer([*command, *sizes], HERE))
                print(f"{peer}, d = {d}: {time.perf_counter() - start:.0f} s", flush=True)
        print(f"\nBBOB 1-24, d = {d}, {options.instances} instances: percent of the 51 targets 1e2..1e-8 reached")
        shares = [b for b in (10, 100, 1000, 10_000) if b <= options.budget]
        groups = [g for g in sp.GROUPS if g != "all"]
        head = [*(f"all, {b} d" for b in shares), *(f"{g}, {options.budget} d" for g in groups)]
        print("| method | " + " | ".join(head) + " |\n|---|" + "---|" * len(head))
        here = [x for x in lines if x["dimension"] == d]
        for method in dict.fromkeys(x["method"] for x in here):
            cells = [share(here, method, "all", b * d) for b in shares]
            cells += [share(here, method, g, budget) for g in groups]
            print(f"| {method} | " + " | ".join(f"{100 * c:.1f}" for c in cells) + " |")


def share(lines: Sequence[comparison.Line], method: str, group: str, budget: int) -> float:
    """Share of (function, instance, target) that was reached within the budget."""
    hits = np.array([x["hits"] for x in lines if x["method"] == method and x["function"] in sp.GROUPS[group]])
    return float(((hits > 0) & (hits <= budget)).mean())


def hpo(options: argparse.Namespace) -> None:
    """Regret and mean ranks on the surrogates with a budget of 200."""
    names = surrogates.available(surrogates.PROBLEMS, options.yahpo)
    lines = comparison.load([options.results])
    have = {(x["peer"], x["problem"], x["seed"]) for x in lines}
    budget = 200
    for seed in range(options.seeds):
        for name in names:
            d = surrogates.get(name, options.yahpo).space.dim
            for method, strategy in hpo_methods(d).items():
                if (method, name, seed) not in have:
                    line = comparison.run_jhpo(method, strategy, name, options.yahpo, budget, seed)
                    keep(options.results, lines, [line])
            for peer in HPO_PEERS if options.peers and options.peers_python else ():
                if (peer, name, seed) not in have:
                    script = str((options.peers / "peers.py").resolve())
                    command = [options.peers_python, "-W", "ignore", "-B", script, peer, name, str(budget), str(seed)]
                    keep(options.results, lines, comparison.run_peer(command, options.peers, options.yahpo)[-1:])
    comparison.report(lines, names, [50, 100, budget], options.yahpo)


def keep(path: Path, lines: list[comparison.Line], new: Sequence[comparison.Line]) -> None:
    """Add lines to the file and to those in memory."""
    for line in new:
        comparison.append(path, line)
        lines.append(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("table", "bbob", "hpo"))
    parser.add_argument("--results", type=Path, required=True, help="JSON lines: read, and appended to")
    parser.add_argument("--peers-python", help="interpreter in which the peers are installed")
    parser.add_argument("--peers", type=Path, help="hpo: folder of peers.py and problems.py")
    parser.add_argument("--yahpo", type=Path, help="hpo: folder of the YAHPO Gym data")
    parser.add_argument("--seeds", type=int, default=None, help="table: 25, hpo: 10")
    parser.add_argument("--evaluations", type=int, default=100_000, help="table: of every run")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[5, 10], help="bbob")
    parser.add_argument("--budget", type=int, default=10_000, help="bbob: evaluations in multiples of the dimension")
    parser.add_argument("--instances", type=int, default=3, help="bbob: of every function")
    options = parser.parse_args()
    comparison.fix_threads()
    options.results.touch()
    options.seeds = options.seeds or {"table": 25, "hpo": 10}.get(options.task, 1)
    {"table": table, "bbob": bbob, "hpo": hpo}[options.task](options)


if __name__ == "__main__":
    main()
