"""Test functions of the swarm benchmarks for both interpreters (jhpo's and the peers'): NumPy or JAX, and BBOB's."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

FUNCTIONS = ("sphere", "rosenbrock", "rastrigin", "rotated_rastrigin", "rotated_ellipsoid")
TARGET = 1e-8
# COCO's default targets: 51 precisions, evenly spaced in logarithms
PRECISIONS = 10.0 ** np.linspace(2, -8, 51)
GROUPS = {
    "separable 1-5": range(1, 6),
    "moderate 6-9": range(6, 10),
    "ill-conditioned 10-14": range(10, 15),
    "multimodal 15-19": range(15, 20),
    "weak structure 20-24": range(20, 25),
    "all": range(1, 25),
}


def geometry(d: int) -> tuple[np.ndarray, np.ndarray]:
    """A rotation and the optimum's place in [-2.5, 2.5]^d, the same for every method."""
    generator = np.random.default_rng(2024)
    q, r = np.linalg.qr(generator.normal(size=(d, d)))
    return q * np.sign(np.diag(r)), generator.uniform(-2.5, 2.5, d)


def function(name: str, d: int, xp: Any) -> Callable[[Any], Any]:
    """``f(u)`` of unit rows ``float[..., d]``, standing for the box [-5, 5]^d; its minimum is 0."""
    rotation, shift = geometry(d)
    scale = 10.0 ** (6.0 * np.arange(d) / (d - 1))

    def shifted(u: Any) -> Any:
        return 10.0 * u - 5.0 - xp.asarray(shift, u.dtype).reshape((1,) * (u.ndim - 1) + (d,))

    def rotated(u: Any) -> Any:
        return shifted(u) @ xp.asarray(rotation.T, u.dtype)

    def rosenbrock(u: Any) -> Any:
        z = shifted(u) + 1.0
        return (100.0 * (z[..., 1:] - z[..., :-1] ** 2) ** 2 + (1.0 - z[..., :-1]) ** 2).sum(-1)

    def rastrigin(z: Any) -> Any:
        return (z * z - 10.0 * xp.cos(2.0 * np.pi * z) + 10.0).sum(-1)

    def ellipsoid(u: Any) -> Any:
        z = rotated(u)
        return (xp.asarray(scale, u.dtype).reshape((1,) * (u.ndim - 1) + (d,)) * z * z).sum(-1)

    return {
        "sphere": lambda u: (shifted(u) ** 2).sum(-1),
        "rosenbrock": rosenbrock,
        "rastrigin": lambda u: rastrigin(shifted(u)),
        "rotated_rastrigin": lambda u: rastrigin(rotated(u)),
        "rotated_ellipsoid": ellipsoid,
    }[name]


def table_line(method: str, name: str, seed: int, values: np.ndarray) -> dict[str, Any]:
    """What one run on one of `FUNCTIONS` reached; ``values`` in the order of evaluation."""
    best = np.fmin.accumulate(np.asarray(values, float))
    reached = best <= TARGET
    first = int(reached.argmax()) + 1 if reached[-1] else -1
    return dict(method=method, function=name, seed=seed, n=len(values), best=float(best[-1]), first=first)


def bbob(dimension: int, instances: int, group: str = "all") -> list[tuple[int, int, Any, float]]:
    """BBOB's noiseless problems (Hansen et al. 2009): function, instance, ``f(x)`` on [-5, 5]^d, optimal value.

    Raises ImportError without the package coco-experiment.
    """
    import cocoex

    def suite() -> Any:
        functions = ",".join(str(n) for n in GROUPS[group])
        return cocoex.Suite("bbob", f"instances:1-{instances}", f"dimensions:{dimension} function_indices:{functions}")

    # the optimum's place is only given as a file in the working directory
    optimal, here = [], os.getcwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stack.callback(os.chdir, here)
        os.chdir(folder)
        for problem in suite():
            problem._best_parameter("print")
            optimal.append(float(problem(np.loadtxt("._bbob_problem_best_parameter.txt"))))
    problems, keep = [], suite()
    for i, best in enumerate(optimal):
        problem = keep.get_problem(i)
        problems.append((problem.id_function, problem.id_instance, problem, best))
    return problems


def bbob_line(
    method: str, dimension: int, number: int, instance: int, values: np.ndarray, best: float
) -> dict[str, Any]:
    """Evaluations after which each of `PRECISIONS` was reached, -1 if never."""
    error = np.minimum.accumulate(np.asarray(values, float) - best)
    hits = np.searchsorted(-error, -PRECISIONS) + 1
    hits = np.where(hits > len(error), -1, hits)
    return dict(
        method=method, dimension=dimension, function=number, instance=instance, n=len(values), hits=hits.tolist()
    )
