"""Problems for the quality benchmarks as jhpo spaces and JAX objectives: analytic functions and YAHPO Gym surrogates.

The surrogates (Pfisterer et al. 2022, https://github.com/slds-lmu/yahpo_gym) are small ONNX networks. `onnx_jax`
turns such a graph into JAX, so that a real tuning problem runs inside ``jit`` and ``vmap``. Their data is not part of
this repository: every benchmark takes its folder as ``--yahpo DIR`` and leaves these problems out without it.

    python benchmarks/surrogates.py --yahpo DIR   # list the problems and time the objectives
    python benchmarks/surrogates.py --yahpo DIR --peers DIR --peers-python PYTHON   # compare them with onnxruntime
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jhpo

ANALYTIC = ("branin", "hartmann6", "levy8", "rosen5")
LCBENCH = ("lcbench:7593", "lcbench:126026", "lcbench:167168", "lcbench:189906")
RPART = ("rbv2_rpart:14", "rbv2_rpart:40499")
PROBLEMS = ANALYTIC + LCBENCH + RPART


@dataclasses.dataclass(frozen=True)
class Problem:
    """A search space, an objective of its hyperparameters to be minimised, and the lowest value known (or None)."""

    name: str
    space: jhpo.Space
    objective: Callable[[Any], jax.Array]
    lowest: float | None


@dataclasses.dataclass(frozen=True)
class Scenario:
    """How a scenario's network is fed: its input columns in order, what is fixed, which output is the target."""

    instance: str
    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    fixed: tuple[tuple[str, float], ...]
    target: int  # this output, an accuracy, is maximised


SCENARIOS = {
    "lcbench": Scenario(
        "OpenML_task_id",
        ("OpenML_task_id",),
        ("epoch", "batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout"),
        (("epoch", 52.0),),
        1,
    ),
    "rbv2_rpart": Scenario(
        "task_id",
        ("task_id", "num.impute.selected.cpo"),
        ("cp", "maxdepth", "minbucket", "minsplit", "trainsize", "repl"),
        (("trainsize", 1.0), ("repl", 10.0)),
        0,
    ),
}


@functools.lru_cache(maxsize=8)
def _network(folder: Path) -> tuple[Callable[..., jax.Array], dict[str, dict[str, int]], list[dict[str, Any]]]:
    config = json.loads((folder / "config_space.json").read_text())
    if config["conditions"]:
        raise ValueError(f"{folder}: expected a scenario without conditions, got {config['conditions']}")
    encoding = json.loads((folder / "encoding.json").read_text())
    from onnx_jax import onnx_function  # here, as the analytic problems do not need onnx

    return onnx_function(folder / "model.onnx"), encoding, config["hyperparameters"]


def _parameter(entry: Mapping[str, Any]) -> Any:
    if entry["type"] == "categorical":
        return jhpo.Choice(list(entry["choices"]))
    kind = {"uniform_int": jhpo.Int, "uniform_float": jhpo.Float}[entry["type"]]
    return kind(entry["lower"], entry["upper"], log=entry["log"])


@functools.lru_cache(maxsize=8)
def outputs(folder: Path, scenario_name: str) -> tuple[jhpo.Space, Callable[[Any, Any], jax.Array], dict[str, int]]:
    """The space, everything a network predicts (float[k]) for hyperparameters and an instance's row, rows by instance.

    One program then serves all instances.
    """
    scenario = SCENARIOS[scenario_name]
    network, encoding, entries = _network(folder / scenario_name)
    given = {scenario.instance, *(k for k, _ in scenario.fixed)}
    space = jhpo.Space({e["name"].replace(".", "_"): _parameter(e) for e in entries if e["name"] not in given})
    # a category's index in the space -> its row in the network's embedding
    rows = {
        e["name"]: np.asarray([encoding[e["name"]][c] for c in e["choices"]], np.int32)
        for e in entries
        if e["type"] == "categorical" and e["name"] not in given
    }

    def predicted(hp: Mapping[str, jax.Array], instance: Any) -> jax.Array:
        def category(column: str) -> jax.Array:
            if column == scenario.instance:
                return jnp.asarray(instance, jnp.int32)
            return jnp.asarray(rows[column])[hp[column.replace(".", "_")]]

        def number(column: str) -> jax.Array:
            fixed = dict(scenario.fixed)  # unless given, as the epoch is where it is the fidelity
            return jnp.asarray(hp[column] if column in hp else fixed[column], jnp.float32)

        categories = jnp.stack([category(c) for c in scenario.categorical])[None, :]
        numbers = jnp.stack([number(c) for c in scenario.numeric])[None, :]
        return network({"x_cat": categories, "x_cont": numbers})[0]

    return space, predicted, encoding[scenario.instance]


@functools.lru_cache(maxsize=8)
def scenario(folder: Path, scenario_name: str) -> tuple[jhpo.Space, Callable[[Any, Any], jax.Array], dict[str, int]]:
    """The same with minus the accuracy in place of everything."""
    space, predicted, rows = outputs(folder, scenario_name)
    target = SCENARIOS[scenario_name].target
    return space, lambda hp, instance: -predicted(hp, instance)[target], rows


def yahpo(folder: Path, name: str) -> Problem:
    """The problem ``scenario:instance``: minus the accuracy that the surrogate predicts."""
    scenario_name, instance = name.split(":")
    space, objective, rows = scenario(folder, scenario_name)
    return Problem(name, space, lambda hp: objective(hp, rows[instance]), None)


# ---------------------------------------------------------------------------------------------------- analytic


def branin(x: jax.Array) -> jax.Array:
    """Dixon & Szego 1978; minimum 0.397887."""
    valley = x[1] - 5.1 / (4 * math.pi**2) * x[0] ** 2 + 5 / math.pi * x[0] - 6
    return valley**2 + 10 * (1 - 1 / (8 * math.pi)) * jnp.cos(x[0]) + 10


_A6 = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
_P6 = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann6(x: jax.Array) -> jax.Array:
    """Hartmann 1973; minimum -3.32237."""
    a, p = jnp.asarray(_A6, x.dtype), jnp.asarray(_P6, x.dtype)
    return -jnp.sum(jnp.asarray([1, 1.2, 3, 3.2], x.dtype) * jnp.exp(-jnp.sum(a * (x[None, :] - p) ** 2, axis=1)))


def levy(x: jax.Array) -> jax.Array:
    """Levy & Montalvo 1985; minimum 0."""
    w = 1 + (x - 1) / 4
    middle = jnp.sum((w[:-1] - 1) ** 2 * (1 + 10 * jnp.sin(math.pi * w[:-1] + 1) ** 2))
    return jnp.sin(math.pi * w[0]) ** 2 + middle + (w[-1] - 1) ** 2 * (1 + jnp.sin(2 * math.pi * w[-1]) ** 2)


def rosenbrock(x: jax.Array) -> jax.Array:
    """Rosenbrock 1960; minimum 0."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def ackley(x: jax.Array) -> jax.Array:
    """Ackley 1987; minimum 0."""
    waves = jnp.exp(jnp.mean(jnp.cos(2 * math.pi * x)))
    return 20 - 20 * jnp.exp(-0.2 * jnp.sqrt(jnp.mean(x * x))) + math.e - waves


_FUNCTIONS: Mapping[str, tuple[Callable[[jax.Array], jax.Array], list[float], list[float], float]] = {
    "branin": (branin, [-5, 0], [10, 15], 0.397887),
    "hartmann6": (hartmann6, [0] * 6, [1] * 6, -3.32237),
    "levy8": (levy, [-10] * 8, [10] * 8, 0.0),
    "rosen5": (rosenbrock, [-2] * 5, [2] * 5, 0.0),
    # more than 20 dimensions, their optimum away from the middle
    "levy40": (levy, [-5] * 40, [10] * 40, 0.0),
    "ackley40": (ackley, [-5] * 40, [10] * 40, 0.0),
    "rosen30": (rosenbrock, [-5] * 30, [10] * 30, 0.0),
    "hartmann6_30": (lambda x: hartmann6(x[:6]), [0] * 30, [1] * 30, -3.32237),
}


def analytic(name: str) -> Problem:
    """A problem by its analytic name; the parameters are x0, x1, ..."""
    function, low, high, lowest = _FUNCTIONS[name]
    space = jhpo.Space({f"x{i}": jhpo.Float(float(a), float(b)) for i, (a, b) in enumerate(zip(low, high))})
    return Problem(name, space, lambda hp: function(jnp.stack([hp[f"x{i}"] for i in range(len(low))])), lowest)


def get(name: str, folder: Path | None = None) -> Problem:
    """The problem of that name; the surrogates need the data folder."""
    if name in _FUNCTIONS:
        return analytic(name)
    if name.split(":")[0] not in SCENARIOS:
        raise ValueError(f"problem: expected one of {PROBLEMS} or scenario:instance, got {name!r}")
    if folder is None:
        raise ValueError(f"problem: {name!r} needs the folder of the YAHPO data (--yahpo DIR)")
    return yahpo(folder, name)


def available(names: tuple[str, ...], folder: Path | None) -> tuple[str, ...]:
    """The problems that can be run; says which are left out and why."""
    kept = tuple(n for n in names if ":" not in n or (folder is not None and (folder / n.split(":")[0]).is_dir()))
    if len(kept) < len(names):
        print(
            f"skipped, for want of --yahpo DIR (YAHPO Gym's data files): {', '.join(n for n in names if n not in kept)}"
        )
    return kept


def configuration(problem: Problem, unit: np.ndarray) -> dict[str, Any]:
    """The host values at a point, under the names that the peers use."""
    names = {"num_impute_selected_cpo": "num.impute.selected.cpo"}
    return {names.get(k, k): v for k, v in problem.space.decode(unit).items()}


def compare(problem: Problem, folder: Path | None, peers: Path, python: str, points: int = 200) -> tuple[float, float]:
    """Largest difference from the peers' objective (onnxruntime for a surrogate), and the spread of its values."""
    units = np.asarray(problem.space.sample_unit(jax.random.key(1), points))
    ours = np.asarray(jax.jit(jax.vmap(lambda u: problem.objective(problem.space.from_unit(u))))(units))
    script = "import sys, json, problems as p; print(json.dumps(list(map(p.get(sys.argv[1]).f, json.load(sys.stdin)))))"
    text = json.dumps([configuration(problem, u) for u in units], default=lambda v: v.item())
    environment = {**os.environ, **({"YAHPO": str(folder)} if folder else {})}
    command = [python, "-B", "-c", script, problem.name]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=peers, env=environment, check=True)
    theirs = np.asarray(json.loads(done.stdout))
    return float(np.max(np.abs(ours - theirs))), float(np.std(theirs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yahpo", type=Path)
    parser.add_argument("--peers", type=Path, help="folder of peers.py and problems.py")
    parser.add_argument("--peers-python", help="interpreter with onnxruntime")
    options = parser.parse_args()
    for name in available(PROBLEMS, options.yahpo):
        problem = get(name, options.yahpo)
        units = problem.space.sample_unit(jax.random.key(0), 1024)
        batch = jax.jit(jax.vmap(lambda u, p=problem: p.objective(p.space.from_unit(u))))
        jax.block_until_ready(batch(units))
        start = time.perf_counter()
        jax.block_until_ready(batch(units))
        line = f"{name:18s} d={problem.space.dim}  {(time.perf_counter() - start) / 1024 * 1e6:6.2f} us a point"
        if options.peers and options.peers_python:
            gap, spread = compare(problem, options.yahpo, options.peers, options.peers_python)
            line += f"  largest difference from the peers' objective {gap:.1e} (values spread {spread:.2g})"
        print(line)


if __name__ == "__main__":
    main()
