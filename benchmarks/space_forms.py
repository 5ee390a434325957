"""Whole searches through `jhpo.run` over the forms of spaces that users write: is one of them much slower than another?

    taskset -c 0,1 python benchmarks/space_forms.py

Ten hyperparameters each: one array of floats (``array``), a dict of ten floats (``floats``), integers on a logarithmic
scale (``integers``), categories (``choices``), eight floats of which a category activates four (``conditional``), and
floats under a constraint that half of the space satisfies (``constrained``). The objective is the sum of the squares of
the numbers, written as one would. Rows are strategies with their defaults; cells are milliseconds a generation of one
jitted program that keeps its last state and all values, the best of several calls, in parentheses over ``array``'s.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jhpo
from jhpo.strategies.base import Strategy

sys.path.insert(0, str(Path(__file__).resolve().parent))
from public_speed import Search, costs

STRATEGIES: dict[str, Callable[[int], Strategy]] = {
    "RandomSearch": jhpo.RandomSearch,
    "SobolSearch": jhpo.SobolSearch,
    "Greedy": jhpo.Greedy,
    "PSO": jhpo.PSO,
    "CMAES": jhpo.CMAES,
    "DifferentialEvolution": jhpo.DifferentialEvolution,
    "NSGA2": jhpo.NSGA2,
}


def _floats(count: int, **options: Any) -> dict[str, jhpo.Float]:
    return {f"x{i}": jhpo.Float(-1.0, 1.0, **options) for i in range(count)}


def _halves() -> dict[str, Any]:
    """Eight floats of which the first or the last four are active."""
    conditions = [{"half": "first"}] * 4 + [{"half": "last"}] * 4
    return {f"x{i}": jhpo.Float(-1.0, 1.0, when=when) for i, when in enumerate(conditions)}


FORMS: dict[str, jhpo.Space] = {
    "array": jhpo.Space({"x": jhpo.Float(-1.0, 1.0, shape=(10,))}),
    "floats": jhpo.Space(_floats(10)),
    "integers": jhpo.Space({f"x{i}": jhpo.Int(1, 1000, log=True) for i in range(10)}),
    "choices": jhpo.Space({f"x{i}": jhpo.Choice([0.0, 0.3, 0.7, 1.0]) for i in range(10)}),
    "conditional": jhpo.Space({"half": jhpo.Choice(["first", "last"]), **_halves()}),
    "constrained": jhpo.Space(_floats(10), constraints=[lambda hp: hp["x0"] + hp["x1"]]),
}


def squares(hp: dict[str, Any]) -> jax.Array:
    """The sum of the squares of all numbers."""
    numbers = [jnp.asarray(x, jnp.float32) for name, x in hp.items() if name != "half"]
    return sum(jnp.sum(jnp.square(x)) for x in numbers)  # type: ignore[return-value]


def search_of(strategy: Strategy, space: jhpo.Space, generations: int) -> Search:
    """``run`` with its state and its values kept."""

    def search(key: jax.Array) -> tuple[Any, jax.Array]:
        state, trace = jhpo.run(strategy, squares, space, generations, key)
        return state, trace.value  # type: ignore[union-attr]

    return search


def row(name: str, n: int, forms: Sequence[str], generations: int, repeats: int) -> str:
    """A row of the table."""
    searches = [search_of(STRATEGIES[name](n), FORMS[form], generations) for form in forms]
    found = [1e3 * cost.wall for cost in costs(searches, jax.random.key(0), generations, repeats)]
    cells = [f"{found[0]:.3g}"] + [f"{each:.3g} ({each / found[0]:.1f})" for each in found[1:]]
    return "| " + " | ".join([f"{name}({n})", *cells]) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[40, 1_000])
    parser.add_argument("--generations", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args(arguments)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, best of {options.repeats}")
    print("| | " + " | ".join(options.forms) + " |\n|" + "---|" * (1 + len(options.forms)))
    for name in options.strategies:
        for n in options.sizes:
            print(row(name, n, options.forms, options.generations, options.repeats), flush=True)


if __name__ == "__main__":
    main()
