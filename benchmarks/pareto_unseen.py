"""More problems of several objectives: those beside the table, for choices and for checks of choices.

    python benchmarks/pareto_unseen.py     # best hypervolumes, from long searches by NSGA-II

The best hypervolumes are those of two searches of 1,000 x 400; of the rotated DTLZ2 and the plane they are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pareto_problems import EXPENSIVE, Problem, dtlz2, sphere

Values = Callable[[Any, Any], list[Any]]


def linear(objectives: int) -> Values:
    """A plane between the unit points, at the distance of DTLZ2."""

    def values(x: Any, xp: Any) -> list[Any]:
        rest, found = 1.0 + xp.sum((x[objectives - 1 :] - 0.5) ** 2, axis=0), []
        for share in x[: objectives - 1]:
            found.append(rest * share)
            rest = rest * (1.0 - share)
        return [*found, rest]

    return values


def dtlz7(objectives: int) -> Values:
    """Deb et al. 2002: a front in pieces."""

    def values(x: Any, xp: Any) -> list[Any]:
        g = 1.0 + 9.0 * xp.mean(x[objectives - 1 :], axis=0)
        first = [x[k] for k in range(objectives - 1)]
        height = objectives - sum(f / (1.0 + g) * (1.0 + xp.sin(3.0 * np.pi * f)) for f in first)
        return [*first, (1.0 + g) * height]

    return values


def convex_dtlz2(objectives: int) -> Values:
    """Deb and Jain 2014: DTLZ2 bent towards the best values."""

    def values(x: Any, xp: Any) -> list[Any]:
        *others, last = dtlz2(objectives)(x, xp)
        return [*(v**4 for v in others), last**2]

    return values


def rotated_dtlz2(objectives: int, dim: int, seed: int) -> Values:
    """DTLZ2 whose distance is an ellipsoid, turned and moved."""
    rng, k = np.random.default_rng(seed), dim - objectives + 1
    turn, centre = np.linalg.qr(rng.normal(size=(k, k)))[0], rng.uniform(0.2, 0.8, k)
    weights = np.geomspace(0.3, 3.0, k)

    def values(x: Any, xp: Any) -> list[Any]:
        away = weights * (turn @ (x[objectives - 1 :] - centre))
        return sphere(1.0 + xp.sum(away**2), x[: objectives - 1], xp)

    return values


def truss(x: Any, xp: Any) -> list[Any]:
    """Volume and displacement of four bars by their sections (Tanabe and Ishibuchi 2020, RE2-4-1)."""
    root = 2.0**0.5
    low = (1.0, root, root, 1.0)
    a, b, c, d = (low[k] + (3.0 - low[k]) * x[k] for k in range(4))
    volume = 200.0 * (2.0 * a + root * b + xp.sqrt(c) + d)
    return [volume, 0.01 * (2.0 / a + 2.0 * root / b - 2.0 * root / c + 2.0 / d)]


def brake(x: Any, xp: Any) -> list[Any]:
    """Mass, stopping time and violations of a disc brake (Tanabe and Ishibuchi 2020, RE3-4-3)."""
    low, high = (55.0, 75.0, 1000.0, 11.0), (80.0, 110.0, 3000.0, 20.0)
    a, b, force, discs = (low[k] + (high[k] - low[k]) * x[k] for k in range(4))
    area, cube = b**2 - a**2, b**3 - a**3
    limits = [
        b - a - 20.0,
        0.4 - force / (3.14 * area),
        1.0 - 2.22e-3 * force * cube / area**2,
        2.66e-2 * force * discs * cube / area - 900.0,
    ]
    violations = sum(xp.maximum(-limit, 0.0) for limit in limits)
    return [4.9e-5 * area * (discs - 1.0), 9.82e6 * area / (force * discs * cube), violations]


def kursawe(x: Any, xp: Any) -> list[Any]:
    """Kursawe 1991, three variables."""
    z = 10.0 * x - 5.0
    first = -10.0 * xp.sum(xp.exp(-0.2 * xp.sqrt(z[:-1] ** 2 + z[1:] ** 2)))
    return [first, xp.sum(xp.abs(z) ** 0.8 + 5.0 * xp.sin(z**3))]


def fonseca(x: Any, xp: Any) -> list[Any]:
    """Fonseca and Fleming 1995, four variables."""
    z = 8.0 * x - 4.0
    return [1.0 - xp.exp(-xp.sum((z + side * 0.5) ** 2)) for side in (-1.0, 1.0)]


_BALL = {2: 1.1**2 - np.pi / 4, 3: 1.1**3 - np.pi / 6}
UNSEEN = {
    # these had a part in choices
    "linear-3": Problem(6, 3, linear(3), (1.1,) * 3, 1.1**3 - 1.0 / 6.0),
    "DTLZ7": Problem(6, 2, dtlz7(2), (1.1, 4.4), 1.3380471789680237),
    "DTLZ7-3": Problem(6, 3, dtlz7(3), (1.1, 1.1, 6.6), 2.694222759076937),
    # these had none
    "convex-DTLZ2": Problem(6, 2, convex_dtlz2(2), (1.1, 1.1), 0.8765131524632395),
    "convex-DTLZ2-3": Problem(6, 3, convex_dtlz2(3), (1.1,) * 3, 1.2951627563692165),
    "rotated-DTLZ2": Problem(5, 2, rotated_dtlz2(2, 5, 1), (1.1, 1.1), _BALL[2]),
    "rotated-DTLZ2-3": Problem(6, 3, rotated_dtlz2(3, 6, 2), (1.1,) * 3, _BALL[3]),
    "truss": Problem(4, 2, truss, (2886.4, 0.0341), 32.165162191418),
    "brake": Problem(4, 3, brake, (5.9, 4.36, 18.2), 282.0642150339397),
    "Kursawe": Problem(3, 2, kursawe, (-12.0, 2.0), 70.5780179850545),
    "Fonseca": Problem(4, 2, fonseca, (1.1, 1.1), 0.5511116051773612),
}
BY_NAME = EXPENSIVE | UNSEEN


def main() -> None:
    """The best hypervolume of each."""
    import jax
    import jax.numpy as jnp
    from pareto import share

    import jhpo

    for name, problem in UNSEEN.items():
        space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(problem.dim,))})
        objective = lambda hp, problem=problem: {"value": jnp.stack(problem.values(hp["x"], jnp))}  # noqa: E731
        found = []
        for seed in range(2):
            key, ways = jax.random.key(seed), ["minimize"] * problem.objectives
            _, evaluations = jhpo.run(jhpo.NSGA2(1000), objective, space, 400, key, directions=ways)
            found.append(np.asarray(evaluations.values[-10:]).reshape(-1, problem.objectives))
        jax.clear_caches()
        print(name, share(problem, np.concatenate(found)) * problem.best, flush=True)


if __name__ == "__main__":
    main()
