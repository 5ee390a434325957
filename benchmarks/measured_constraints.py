"""`BayesOpt()` on objectives that measure constraints: their number is found out, or was never told.

An objective that JAX traces shows how many constraints it measures, so that they are learned; of a `jhpo.host`
function nobody knows before the first evaluation, and without ``constraints=`` there is a warning. The functions and
the seeds are the same. ``python benchmarks/measured_constraints.py [SEEDS]``
"""

from __future__ import annotations

import sys
import warnings
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

import jhpo

BUDGET = 25


def gramacy(x: Any, xp: ModuleType) -> tuple[Any, list[Any]]:
    """Gramacy et al. 2016: a line under a sine, within a disk; the best feasible value is 0.5998."""
    wave = 0.5 * xp.sin(2 * np.pi * (x[0] ** 2 - 2 * x[1])) + x[0] + 2 * x[1] - 1.5
    return x[0] + x[1], [wave, 1.5 - x[0] ** 2 - x[1] ** 2]


def gardner(x: Any, xp: ModuleType) -> tuple[Any, list[Any]]:
    """Gardner et al. 2014, the first: cosines, feasible in stripes; the best is -2."""
    a, b = 6 * x[0], 6 * x[1]
    return xp.cos(2 * a) * xp.cos(b) + xp.sin(a), [0.5 - xp.cos(a + b)]


def ball(x: Any, xp: ModuleType) -> tuple[Any, list[Any]]:
    """A plane in three dimensions within a small ball; the best is -1.8477."""
    distance = (x[0] - 0.3) ** 2 + (x[1] - 0.6) ** 2 + (x[2] - 0.4) ** 2
    return -(x[0] + x[1] + x[2]), [0.1 - distance]


def main(seeds: int) -> None:
    warnings.simplefilter("ignore")
    for function, dim in ((gramacy, 2), (gardner, 2), (ball, 3)):
        space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(dim,))})

        def traced(hp: dict[str, Any], function: Any = function) -> dict[str, Any]:
            value, limits = function(hp["x"], jnp)
            return {"value": value, "constraint": jnp.stack(limits)}

        def on_host(params: dict[str, Any], function: Any = function) -> dict[str, Any]:
            value, limits = function(np.asarray(params["x"]), np)
            return {"value": float(value), "constraint": [float(limit) for limit in limits]}

        for label, objective in (("learned", traced), ("not learned", jhpo.host(on_host))):
            found = [
                jhpo.minimize(objective, space, jhpo.BayesOpt(), budget=BUDGET, seed=s).value for s in range(seeds)
            ]
            print(
                f"{function.__name__:8} {label:12} mean {np.mean(found):8.4f}  worst {np.max(found):8.4f}", flush=True
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)
