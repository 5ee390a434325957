"""Swarm and evolution peers, run in a Python of their own; prints JSON lines. Started by swarm_quality.py.

    python swarm_peers.py table METHOD FUNCTION EVALUATIONS SEEDS          # d = 10
    python swarm_peers.py bbob METHOD GROUP DIMENSION BUDGET INSTANCES
    python swarm_peers.py hpo METHOD PROBLEM BUDGET FIRST_SEED SEEDS       # with peers.py and problems.py on the path

METHOD: pyswarms, cmaes (with IPOP restarts, as its README shows), and for the table evosax_pso, evosax_cma, evosax_de;
for hpo a name from peers.py.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings

import numpy as np
import swarm_problems

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)


class Enough(Exception):
    """The budget is spent or the target reached."""


class Recorder:
    """Evaluates unit rows and keeps the values until the budget ends."""

    def __init__(self, f, budget, stop_at=None):
        self.f, self.budget, self.stop_at, self.values = f, budget, stop_at, []

    def __call__(self, units):
        out = np.asarray(self.f(np.atleast_2d(units)))
        self.values.extend(out.tolist())
        if len(self.values) >= self.budget or (self.stop_at is not None and out.min() <= self.stop_at):
            raise Enough
        return out

    def array(self):
        return np.asarray(self.values[: self.budget])


def run_pyswarms(record, d, seed):
    """Global best with constriction's coefficients, 40 particles: its default topology and bounds."""
    import pyswarms

    np.random.seed(seed)
    options = dict(c1=1.49618, c2=1.49618, w=0.7298)
    swarm = pyswarms.single.GlobalBestPSO(40, d, options=options, bounds=(np.zeros(d), np.ones(d)))
    swarm.optimize(record, record.budget, verbose=False)


def run_cmaes(record, d, seed):
    """IPOP-CMA-ES: the population doubles when should_stop() says so."""
    from cmaes import CMA

    generator = np.random.default_rng(seed)
    size, bounds = 4 + int(3 * np.log(d)), np.stack([np.zeros(d), np.ones(d)], axis=1)
    while True:
        optimizer = CMA(
            mean=generator.random(d),
            sigma=0.25,
            bounds=bounds,
            seed=int(generator.integers(2**31)),
            population_size=size,
        )
        while not optimizer.should_stop():
            points = [optimizer.ask() for _ in range(size)]
            optimizer.tell(list(zip(points, record(np.stack(points)).tolist())))
        size *= 2


NUMPY_METHODS = {"pyswarms": run_pyswarms, "cmaes": run_cmaes}


def evosax_table(method, name, evaluations, seeds, d=10):
    """All seeds in one program, float64; defaults, but for a first deviation of a quarter of the range."""
    import jax
    import jax.numpy as jnp
    from evosax.algorithms import CMA_ES, PSO, DifferentialEvolution

    jax.config.update("jax_enable_x64", True)
    kind, size = {"evosax_pso": (PSO, 40), "evosax_cma": (CMA_ES, 10), "evosax_de": (DifferentialEvolution, 40)}[method]
    algorithm = kind(population_size=size, solution=jnp.zeros(d))
    parameters = algorithm.default_params
    if method == "evosax_cma":
        parameters = parameters.replace(std_init=jnp.asarray(0.25))
    f = swarm_problems.function(name, d, jnp)

    def search(key):
        first, rest = jax.random.split(key)
        start = jax.random.uniform(first, (size, d))
        if method == "evosax_cma":
            state = algorithm.init(first, start[0], parameters)
        else:
            state = algorithm.init(first, start, f(start), parameters)

        def generation(state, key):
            a, b = jax.random.split(key)
            points, state = algorithm.ask(a, state, parameters)
            value = f(points)
            state, _ = algorithm.tell(b, points, value, state, parameters)
            return state, value

        return jax.lax.scan(generation, state, jax.random.split(rest, evaluations // size))[1]

    values = np.asarray(jax.jit(jax.vmap(search))(jax.random.split(jax.random.key(0), seeds)))
    return [swarm_problems.table_line(method, name, seed, values[seed].ravel()) for seed in range(seeds)]


def table(method, name, evaluations, seeds, d=10):
    if method not in NUMPY_METHODS:
        return evosax_table(method, name, evaluations, seeds)
    lines = []
    for seed in range(seeds):
        record = Recorder(swarm_problems.function(name, d, np), evaluations, swarm_problems.TARGET)
        search(method, record, d, seed)
        lines.append(swarm_problems.table_line(method, name, seed, record.array()))
    return lines


def search(method, record, d, seed):
    try:
        NUMPY_METHODS[method](record, d, seed)
    except Enough:
        return


def bbob(method, group, dimension, budget, instances):
    lines = []
    for number, instance, problem, best in swarm_problems.bbob(dimension, instances, group):
        evaluate = lambda units, f=problem: [f(x) for x in 10.0 * units - 5.0]  # noqa: E731
        record = Recorder(evaluate, budget, best + swarm_problems.TARGET)
        search(method, record, dimension, 100 * number + instance)
        lines.append(swarm_problems.bbob_line(method, dimension, number, instance, record.array(), best))
    return lines


def hpo(method, name, budget, first, seeds):
    import peers
    import problems

    lines = []
    for seed in range(first, first + seeds):
        values, spent = getattr(peers, f"run_{method}")(problems.get(name), budget, seed)
        values = [round(float(v), 6) for v in values]
        lines.append(dict(peer=method, problem=name, seed=seed, n=budget, ask_s=round(spent, 3), ys=values))
    return lines


if __name__ == "__main__":
    task, method, subject, *numbers = sys.argv[1:]
    for line in {"table": table, "bbob": bbob, "hpo": hpo}[task](method, subject, *(int(n) for n in numbers)):
        print(json.dumps(line), flush=True)
