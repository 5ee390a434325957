"""Real tuning problems of two metrics: minus the validation accuracy, and the seconds of training, of LCBench.

    python benchmarks/pareto_surrogates.py --yahpo DIR    # best hypervolumes, from a long search by NSGA-II

The surrogates of YAHPO Gym predict both for a network of seven hyperparameters that trains 52 epochs (see
`surrogates`). Searches see the space with its integers and logarithms, except BoTorch's and pymoo's: these get the
unit cube, whose integers are rounded.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import surrogates
from pareto_problems import Problem

import jhpo

SECONDS, ACCURACY = 0, 1  # columns of what the network predicts
# A reference point, a tenth of the front's extent beyond its worst values, and the hypervolume up to it; the front is
# the best that five searches of 1,000 x 200 by NSGA2 found.
KNOWN: dict[str, tuple[tuple[float, float], float]] = {
    "7593": ((-71.15594863891602, 1367.6162017822267), 20700.62078326504),
    "167168": ((-34.22624473571777, 395.58324279785154), 20253.90475180968),
}


@functools.cache
def _metrics(folder: Path, instance: str) -> tuple[jhpo.Space, Callable[[Any], jax.Array]]:
    """The space, and float[2] of hyperparameters."""
    space, predicted, rows = surrogates.outputs(folder, "lcbench")

    def metrics(hp: Any) -> jax.Array:
        found = predicted(hp, rows[instance])
        return jnp.stack([-found[ACCURACY], found[SECONDS]])

    return space, metrics


def problem(folder: Path, instance: str) -> Problem:
    """The two metrics of an instance, a number of OpenML's task."""
    space, metrics = _metrics(folder, instance)
    compiled = jax.jit(lambda unit: metrics(space.from_unit(unit)))
    reference, best = KNOWN[instance]

    def values(x: Any, _: Any) -> list[Any]:
        return [float(v) for v in compiled(np.asarray(x, np.float32))]

    return Problem(space.dim, 2, values, reference, best, space)


def problems(folder: Path) -> dict[str, Problem]:
    """All of them by name."""
    return {f"lcbench-{instance}": problem(folder, instance) for instance in KNOWN}


def best_known(folder: Path, instance: str, population: int, generations: int, seeds: int) -> tuple[Any, float]:
    """A reference point, and the hypervolume up to it of everything that long searches found."""
    space, metrics = _metrics(folder, instance)
    found = []
    for seed in range(seeds):
        state, _ = jhpo.run(
            jhpo.NSGA2(population),
            metrics,
            space,
            generations,
            jax.random.key(seed),
            directions=["minimize", "minimize"],
            keep="values",
        )
        found.append(np.asarray(state.values, np.float64))
    rows = np.concatenate(found)
    rows = rows[np.argsort(rows[:, 0])]
    rows = rows[np.append(True, rows[1:, 1] < np.minimum.accumulate(rows[:, 1])[:-1])]
    reference = rows.max(axis=0) + 0.1 * (rows.max(axis=0) - rows.min(axis=0))
    edge = np.append(rows[:, 0], reference[0])
    return tuple(reference.tolist()), float((np.diff(edge) * (reference[1] - rows[:, 1])).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yahpo", type=Path, required=True)
    parser.add_argument("--instances", nargs="+", default=list(KNOWN))
    parser.add_argument("--population", type=int, default=1000)
    parser.add_argument("--generations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    for instance in options.instances:
        reference, best = best_known(options.yahpo, instance, options.population, options.generations, options.seeds)
        print(f'    "{instance}": ({reference}, {best}),', flush=True)


if __name__ == "__main__":
    main()
