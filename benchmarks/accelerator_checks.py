"""Promises that accelerator.py checks on the device: a line with ``holds`` false is a failure of the run."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from accelerator_tasks import SPACE, mlp, timed

import jhpo
from jhpo.strategies import REGISTRY

Lines = Iterator[dict[str, Any]]
# Largest gap in the unit cube: rounding of float32 after a few generations. The maximum of an acquisition is flat:
# a value known to 1e-6 places it to 1e-3.
ROUNDING = {"bayes": 2e-2}
MIXED = jhpo.Space(
    {
        "a": jhpo.Float(-2.0, 2.0),
        "b": jhpo.Float(1e-3, 1.0, log=True),
        "c": jhpo.Choice(["x", "y", "z"]),
        "n": jhpo.Int(1, 9),
    }
)
SMOOTH = jhpo.Space({"a": jhpo.Float(-2.0, 2.0), "b": jhpo.Float(1e-3, 1.0, log=True)})


def bowl(hp: dict[str, jax.Array]) -> jax.Array:
    """Smooth in the floats."""
    return (hp["a"] - 0.5) ** 2 + (jnp.log10(hp["b"]) + 1.0) ** 2


def mixed(hp: dict[str, jax.Array]) -> jax.Array:
    """The bowl with steps for the category and the integer."""
    value = bowl(hp)
    wrong, steps = (jnp.asarray(x, value.dtype) for x in (hp["c"] != 1, hp["n"] - 4))
    return value + 0.3 * wrong + 0.1 * jnp.abs(steps)


def searches() -> dict[str, tuple[Any, Any, Any, int]]:
    """Every registered strategy that searches a function: itself, objective, space, generations."""
    small = {
        "random": {"population": 16}, "sobol": {"population": 16}, "grid": {}, "greedy": {}, "pso": {"population": 16},
        "de": {"population": 16}, "cmaes": {"population": 8}, "bayes": {},
    }  # fmt: skip
    chain = jhpo.Chain(jhpo.PSO(8), jhpo.HyperGradient(4))
    made: dict[str, tuple[Any, Any, Any, int]] = {}
    for name in REGISTRY:
        if name == "hypergradient":
            made[name] = (jhpo.HyperGradient(4), bowl, SMOOTH, 4)
        elif name == "chain":
            made[name] = (chain, bowl, SMOOTH, 6)
        else:
            strategy = jhpo.make_strategy(name, small.get(name))
            if strategy.continues or strategy.early_stop:  # they stop members of a training, see `promises`
                continue
            made[name] = (strategy, mixed, MIXED, 12 if name == "bayes" else 3)
    return made


def agreement(run: Any) -> Lines:
    """Every strategy: twice on the device bit for bit, and the CPU's trace but for rounding."""
    chip, cpu = jax.devices()[0], jax.devices("cpu")[0]
    for name, (strategy, objective, space, generations) in searches().items():
        if run.tiny and name == "bayes":
            generations = 8

        def search(device: Any, s: Any = strategy, o: Any = objective, p: Any = space, g: int = generations) -> Any:
            with jax.default_device(device):
                trace = jhpo.run(s, o, p, g, jax.random.key(3))[1]
                parts = trace if isinstance(trace, tuple) and not hasattr(trace, "units") else (trace,)
                return [np.asarray(x) for part in parts for x in (part.units, part.value)]

        first, here = timed(lambda f=search: f(chip))
        again = search(chip)
        same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(here, again))
        there = search(cpu)
        gap = [float(np.abs(a.astype(float) - b).max()) for a, b in zip(here, there)]
        yield {
            "what": f"{name}: trace on {chip.platform} and on the CPU",
            "holds": same and max(gap[0::2]) < ROUNDING.get(name, 1e-3) and all(np.isfinite(a).all() for a in here),
            "twice_bit_for_bit": same,
            "largest_gap_of_units": max(gap[0::2]),
            "gap_of_first_generation": float(np.abs(here[0][0].astype(float) - there[0][0]).max()),
            "generations": generations,
            "first_s": round(first, 2),
        }


def promises(run: Any) -> Lines:
    """Chunks, a training beside the CPU's, hypergradients by two modes, resumption."""
    count, steps = (16, 3) if run.tiny else (256, 50)
    units, ids, key = np.random.default_rng(1).random((count, 2)), np.arange(count), jax.random.key(0)
    task = mlp(steps)
    with jax.default_matmul_precision("highest"):
        values = {
            (chunk, turn): jhpo.Population(task, SPACE, chunk=chunk).evaluate(units, ids, key).value
            for chunk, turn in ((count, 0), (count, 1), (count // 4, 0))
        }
        whole, again, quarter = values.values()
        yield {"what": "a fixed chunk, twice", "holds": bool(np.array_equal(whole, again)), "members": count}
        gap = np.abs(quarter / whole - 1)
        yield {
            "what": "another chunk",
            "holds": bool(np.median(gap) < 1e-3),
            "largest": float(gap.max()),
            "median": float(np.median(gap)),
        }
        cpu = jhpo.Population(task, SPACE, devices=jax.devices("cpu")[:1]).evaluate(units, ids, key).value
        gap = np.abs(cpu / whole - 1)
        yield {
            "what": f"training of {steps} steps beside the CPU's",
            "holds": bool(np.median(gap) < 1e-3),
            "largest": float(gap.max()),
            "median": float(np.median(gap)),
        }
        sgd = mlp(steps, tx=lambda hp: optax.sgd(hp["lr"], hp["momentum"]))
        hp = {"lr": 0.05, "momentum": 0.9}
        grads = [jhpo.hypergrad(sgd, hp, key, method, check=False).grad for method in ("forward", "reverse")]
        gap = max(abs(float(grads[0][k] / grads[1][k]) - 1) for k in hp)
        yield {"what": "hypergradient, forward beside reverse", "holds": gap < 1e-2, "largest": gap}
    default = jhpo.Population(task, SPACE, chunk=count).evaluate(units, ids, key).value
    gap = np.abs(default / whole - 1)
    yield {
        "what": "products in the device's default precision beside exact ones",
        "largest": float(gap.max()),
        "median": float(np.median(gap)),
    }
    if importlib.util.find_spec("sqlalchemy") is None:
        yield {"what": "a study resumed from its file", "not_run": "SQLAlchemy is not installed"}
        url = None
    else:
        url = "sqlite:///{}"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("pso", "bayes"):
            strategy = jhpo.make_strategy(name, {"population": 8} if name == "pso" else None)
            half, full = (16, 32) if name == "pso" else (5, 10)
            straight = jhpo.Study(SMOOTH, strategy, seed=1)
            straight.optimize(bowl, budget=full)
            broken = jhpo.Study(SMOOTH, strategy, seed=1, storage=url and url.format(Path(folder) / f"{name}.db"))
            broken.optimize(bowl, budget=half)
            if url:
                broken.close()
                broken = jhpo.Study.load(url.format(Path(folder) / f"{name}.db"))
            broken.optimize(bowl, budget=full)
            a, b = ([s[i].value for i in range(len(s))] for s in (straight, broken))
            how = "resumed from its file" if url else "stopped and continued in memory"
            yield {"what": f"a study ({name}) {how}", "holds": a == b and len(a) == full, "trials": len(a)}
            broken.close()
