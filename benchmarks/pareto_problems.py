"""Problems of several objectives with a known best hypervolume, of NumPy or JAX, for the scripts beside this one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Problem(NamedTuple):
    """Values of a point of the unit cube, and what counts."""

    dim: int
    objectives: int
    values: Callable[[Any, Any], list[Any]]  # (x [d], array module) to values, then constraints (feasible >= 0)
    reference: tuple[float, ...]
    best: float  # hypervolume of the true front
    space: Any = None  # the `jhpo.Space` whose unit cube it is; None for as many floats between 0 and 1


def zdt(number: int, dim: int = 30) -> Callable[[Any, Any], list[Any]]:
    """Zitzler, Deb and Thiele 2000."""

    def values(x: Any, xp: Any) -> list[Any]:
        g = 1.0 + 9.0 * xp.sum(x[1:], axis=0) / (dim - 1)
        ratio = x[0] / g
        shape = {
            1: 1.0 - xp.sqrt(ratio),
            2: 1.0 - ratio**2,
            3: 1.0 - xp.sqrt(ratio) - ratio * xp.sin(10.0 * np.pi * x[0]),
        }
        return [x[0], g * shape[number]]

    return values


def sphere(radius: Any, angles: Any, xp: Any) -> list[Any]:
    """A point of the sphere of that radius in the positive orthant, by all its angles in quarters of a turn."""
    found, last = [], len(angles)
    for k in range(last + 1):
        value = radius
        for angle in angles[: last - k]:
            value = value * xp.cos(0.5 * np.pi * angle)
        found.append(value * xp.sin(0.5 * np.pi * angles[last - k]) if k else value)
    return found


def dtlz2(objectives: int) -> Callable[[Any, Any], list[Any]]:
    """Deb et al. 2002: a part of a sphere."""

    def values(x: Any, xp: Any) -> list[Any]:
        return sphere(1.0 + xp.sum((x[objectives - 1 :] - 0.5) ** 2, axis=0), x[: objectives - 1], xp)

    return values


def branin_currin(x: Any, xp: Any) -> list[Any]:
    """BoTorch's test problem, both to be minimised."""
    a, b = 15.0 * x[0] - 5.0, 15.0 * x[1]
    branin = (b - 5.1 / (4 * np.pi**2) * a**2 + 5.0 / np.pi * a - 6.0) ** 2
    branin = branin + 10.0 * (1.0 - 1.0 / (8.0 * np.pi)) * xp.cos(a) + 10.0
    top = 2300.0 * x[0] ** 3 + 1900.0 * x[0] ** 2 + 2092.0 * x[0] + 60.0
    factor = 1.0 - xp.exp(-0.5 / xp.maximum(x[1], 1e-9))
    return [branin, factor * top / (100.0 * x[0] ** 3 + 500.0 * x[0] ** 2 + 4.0 * x[0] + 20.0)]


def constrained(x: Any, xp: Any) -> list[Any]:
    """BNH (Binh and Korn 1997): two objectives, two constraints."""
    a, b = 5.0 * x[0], 3.0 * x[1]
    first = 25.0 - (a - 5.0) ** 2 - b**2
    second = (a - 8.0) ** 2 + (b + 3.0) ** 2 - 7.7
    return [4.0 * a**2 + 4.0 * b**2, (a - 5.0) ** 2 + (b - 5.0) ** 2, first, second]


def _under(curve: Callable[[np.ndarray], np.ndarray], reference: tuple[float, float]) -> float:
    """Hypervolume of a front given as its points."""
    points = curve(np.linspace(0.0, 1.0, 20_001))
    points = points[np.lexsort(points.T[::-1])]
    lowest = np.minimum.accumulate(points[:, 1])
    points = points[np.append(True, points[1:, 1] < lowest[:-1])]  # the front: peers have no jhpo to ask for it
    inside = points[(points < np.asarray(reference)).all(axis=1)]
    edge = np.append(inside[:, 0], reference[0])
    return float((np.diff(edge) * (reference[1] - inside[:, 1])).sum())


def _line(shape: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.stack([x, shape(x)], axis=1)


def vehicle_safety(x: Any, xp: Any) -> list[Any]:
    """Mass, acceleration and intrusion of a car by the thickness of five parts (Tanabe and Ishibuchi 2020, RE3-5-4)."""
    a, b, c, d, e = (1.0 + 2.0 * x[k] for k in range(5))
    mass = 1640.2823 + 2.3573285 * a + 2.3220035 * b + 4.5688768 * c + 7.7213633 * d + 4.4559504 * e
    acceleration = 6.5856 + 1.15 * a - 1.0427 * b + 0.9738 * c + 0.8364 * d - 0.3695 * a * d + 0.0861 * a * e
    acceleration = acceleration + 0.3628 * b * d - 0.1106 * a**2 - 0.3437 * c**2 + 0.1764 * d**2
    intrusion = -0.0551 + 0.0181 * a + 0.1024 * b + 0.0421 * c - 0.0073 * a * b + 0.024 * b * c - 0.0118 * b * d
    intrusion = intrusion - 0.0204 * c * d - 0.008 * c * e - 0.0241 * b**2 + 0.0109 * d**2
    return [mass, acceleration, intrusion]


def c2_dtlz2(x: Any, xp: Any) -> list[Any]:
    """DTLZ2 of two objectives of which parts of the front are infeasible (Jain and Deb 2014)."""
    a, b = dtlz2(2)(x, xp)
    ends = xp.minimum((a - 1.0) ** 2 + b**2, (b - 1.0) ** 2 + a**2) - 0.04
    middle = (a - 0.5**0.5) ** 2 + (b - 0.5**0.5) ** 2 - 0.08  # twice the square of the radius, as in BoTorch
    return [a, b, -xp.minimum(ends, middle)]


TWO = (1.1, 1.1)
PROBLEMS = {
    "ZDT1": Problem(30, 2, zdt(1), TWO, _under(_line(lambda x: 1 - np.sqrt(x)), TWO)),
    "ZDT2": Problem(30, 2, zdt(2), TWO, _under(_line(lambda x: 1 - x**2), TWO)),
    "ZDT3": Problem(30, 2, zdt(3), TWO, _under(_line(lambda x: 1 - np.sqrt(x) - x * np.sin(10 * np.pi * x)), TWO)),
    "DTLZ2": Problem(12, 2, dtlz2(2), TWO, 1.1**2 - np.pi / 4),
    "DTLZ2, 3 objectives": Problem(12, 3, dtlz2(3), (1.1,) * 3, 1.1**3 - np.pi / 6),
    "BraninCurrin": Problem(2, 2, branin_currin, (18.0, 6.0), 59.36011874867746),  # the best known, BoTorch's
    # the front lies on x = y up to 3, then along x with y at its bound of 3
    "BNH, constrained": Problem(
        2, 2, constrained, (140.0, 50.0),
        _under(lambda t: np.stack([
            4 * (5 * t) ** 2 + 4 * np.minimum(5 * t, 3) ** 2, (5 * t - 5) ** 2 + (np.minimum(5 * t, 3) - 5) ** 2
        ], axis=1), (140.0, 50.0)),
    ),
}  # fmt: skip

WIDE = (11.0, 11.0)  # BoTorch's reference point for ZDT
# small enough for searches of 50 evaluations
EXPENSIVE = {
    "BraninCurrin": PROBLEMS["BraninCurrin"],
    "DTLZ2": Problem(6, 2, dtlz2(2), TWO, 1.1**2 - np.pi / 4),
    "DTLZ2-3": Problem(6, 3, dtlz2(3), (1.1,) * 3, 1.1**3 - np.pi / 6),
    "DTLZ2-4": Problem(7, 4, dtlz2(4), (1.1,) * 4, 1.1**4 - np.pi**2 / 32),
    "ZDT1": Problem(8, 2, zdt(1, 8), WIDE, _under(_line(lambda x: 1 - np.sqrt(x)), WIDE)),
    "ZDT2": Problem(8, 2, zdt(2, 8), WIDE, _under(_line(lambda x: 1 - x**2), WIDE)),
    "ZDT3": Problem(8, 2, zdt(3, 8), WIDE, _under(_line(lambda x: 1 - np.sqrt(x) - x * np.sin(10 * np.pi * x)), WIDE)),
    # the best known, BoTorch's
    "VehicleSafety": Problem(5, 3, vehicle_safety, (1864.72022, 11.81993945, 0.2903999384), 246.81607081187002),
    "C2-DTLZ2": Problem(4, 2, c2_dtlz2, TWO, 0.3996406303723544),
}


def speed_problem(objectives: int, dim: int) -> Problem:
    """What rates are measured with: ZDT1 of so many dimensions, or DTLZ2 with three objectives."""
    two = PROBLEMS["ZDT1"]._replace(dim=dim, values=zdt(1, dim))
    return two if objectives == 2 else PROBLEMS["DTLZ2, 3 objectives"]
