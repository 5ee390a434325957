"""How many kernels a step starts: what an accelerator waits for where the arrays are small.

    python benchmarks/launches.py                     every program, a table
    python benchmarks/launches.py --only bayes swarm  some of them

A GPU needs some 5 to 17 microseconds for a kernel that waits for the one before, whatever is in it. Without a GPU
nothing compiles for one, so two counts stand for it, each of what one step executes, loops counted trip by trip:

* *CPU kernels*: fusions, products, sums, sorts, calls of libraries in the program that XLA compiled for this CPU. Other
  fusions than a GPU's, but a real compiler's.
* *CUDA at least*: in the program that JAX lowers for CUDA (with the branches that it takes there), before any compiler:
  products, convolutions, sums, sorts, scatters and calls of libraries, each of which is a kernel at least, and one for
  every trip of a loop without any of these. What is elementwise is fused with its neighbours and counts nothing.

*Decisions* are the conditions that the host waits for in the program for CUDA: of branches, and of loops that end when
a condition says so, one a trip and one that ends it. The trips are counted while the very program runs, on the CPU.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jhpo
from jhpo.gradients import Spec, estimate
from jhpo.strategies.base import Evaluation

sys.path.insert(0, str(Path(__file__).resolve().parent))
from accelerator_tasks import SPACE, mlp
from launch_counts import Function, count


def bowl(hp: dict[str, jax.Array]) -> jax.Array:
    """Smooth, nearly free of charge."""
    return jnp.sum((hp["x"] - 0.3) ** 2)


def box(d: int) -> jhpo.Space:
    """``d`` coordinates."""
    return jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(d,))})


def generation(strategy: Any, space: jhpo.Space) -> tuple[Function, tuple[Any, ...]]:
    """One generation of a search, after a few others."""

    def step(state: Any, key: jax.Array) -> Any:
        units, state = strategy.ask(state, key)
        value = jax.vmap(lambda u: bowl(space.from_unit(u)))(units)
        return strategy.tell(state, units, Evaluation(value=value))

    state = strategy.init(space, jax.random.key(0))
    for g in range(3):
        state = jax.jit(step)(state, jax.random.key(g))
    return step, (state, jax.random.key(9))


def training(members: int) -> tuple[Function, tuple[Any, ...]]:
    """A step of Adam of a population of digits networks."""
    task = mlp(4)
    units = jnp.asarray(np.random.default_rng(0).random((members, 2)), jnp.float32)
    hp = jax.vmap(SPACE.from_unit)(units)
    state = jax.vmap(task.init)(hp, jax.random.split(jax.random.key(0), members))
    return jax.vmap(lambda hp, state, t: task.step(hp, state, t), (0, 0, None)), (hp, state, jnp.int32(1))


def suggestion(trials: int, studies: int = 1) -> tuple[Function, tuple[Any, ...]]:
    """An ask of BayesOpt after some trials, in eight dimensions; of several studies side by side."""
    space = box(8)
    strategy = jhpo.BayesOpt().prepare(trials + 1)

    def known(key: jax.Array) -> Any:
        units = jax.random.uniform(key, (trials, 8))
        value = jax.vmap(lambda u: bowl(space.from_unit(u)))(units)
        return strategy.absorb(strategy.init(space, key), units, Evaluation(value=value))

    keys = jax.random.split(jax.random.key(0), studies)
    if studies == 1:
        return strategy.ask, (jax.jit(known)(keys[0]), keys[0])
    return jax.vmap(strategy.ask), (jax.jit(jax.vmap(known))(keys), keys)


def hypergradient(method: str, steps: int) -> tuple[Function, tuple[Any, ...]]:
    """A hypergradient through the training of a digits network."""
    task = mlp(steps, tx=lambda hp: optax.sgd(hp["lr"], hp["momentum"]))
    spec = Spec("forward") if method == "forward" else Spec("reverse", levels=1)
    hp = {"lr": jnp.float32(0.05), "momentum": jnp.float32(0.9)}
    return lambda hp: estimate(task, hp, jax.random.key(0), spec)[:2], (hp,)


class Case(NamedTuple):
    """A row of the table."""

    what: str
    make: Callable[[], tuple[Function, tuple[Any, ...]]]
    steps: int = 1


def cases(tiny: bool = False) -> dict[str, list[Case]]:
    """What is counted, by a word for ``--only``."""
    n, m, t, few, many, s = (8, 2, 3, 10, 40, 2) if tiny else (1000, 256, 100, 50, 200, 64)
    hyper = [
        Case(f"hypergradient, {m}, a step", functools.partial(hypergradient, m, t), t) for m in ("reverse", "forward")
    ]
    return {
        "swarm": [
            Case(f"{type(s).__name__}({n}), a generation", functools.partial(generation, s, box(20)))
            for s in (jhpo.PSO(n), jhpo.CMAES(population=n), jhpo.DifferentialEvolution(population=n))
        ],
        "training": [Case(f"{m} digits networks, a step of Adam", functools.partial(training, m))],
        "hypergradient": hyper,
        "bayes": [
            Case(f"BayesOpt, a suggestion after {few} trials", functools.partial(suggestion, few)),
            Case(f"BayesOpt, a suggestion after {many} trials", functools.partial(suggestion, many)),
            Case(f"{s} studies side by side, a suggestion after {few} trials", functools.partial(suggestion, few, s)),
        ],
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(cases()))
    options = parser.parse_args()
    print("| a step of | CPU kernels | CUDA at least | decisions |\n|---|---|---|---|")
    for word, rows in cases().items():
        for case in rows if not options.only or word in options.only else ():
            found = count(case.make, case.steps)
            print(
                f"| {case.what} | " + " | ".join(f"{x:,.0f}" if x >= 100 else f"{x:.3g}" for x in found) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
