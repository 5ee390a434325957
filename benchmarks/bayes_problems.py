"""The development problems of Bayesian optimisation in families, so that what is chosen on some is checked on others.

A search that begins in the middle, or a model that likes axes, must not gain by it: the analytic functions have their
optimum anywhere, most are rotated. A noisy problem is told with noise and judged without. The families "lcbench" and
"rpart" need the data of YAHPO Gym (see `surrogates`); "models" trains estimators of scikit-learn, on the host.
"""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import surrogates
from bayes_tuning import MIXED, MODELS

import jhpo

_LCBENCH = (
    "3945 7593 34539 126025 126026 146212 167083 167104 167149 167152 167161 167168 168329 168868 168908 168910 "
    "189354 189866 189905 189906 189908 189909"
)
_RPART = "3 6 14 16 22 28 31 37 44 54 60 1040 1486 40499"
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "lcbench": tuple(f"lcbench:{i}" for i in _LCBENCH.split()),
    "rpart": tuple(f"rbv2_rpart:{i}" for i in _RPART.split()),
    "smooth": (
        *("moved-branin", "hartmann6", "turned-levy8", "turned-rosen5", "turned-ellipsoid12"),
        *("moved-ellipsoid20", "turned-rosen3"),
    ),
    "rugged": ("turned-ackley5", "turned-ackley10", "moved-rastrigin3", "moved-styblinski6", "turned-griewank4"),
    "plateaus": ("steps5", "basin4", "cliff6", "corner3"),
    "noisy": ("noisy-hartmann6", "noisy-levy4", "noisy-ackley5", "noisy-ellipsoid8"),
    "mixed": ("mixed-ackley8", "integers6", "algorithms", "optimizers"),
    "models": ("svc-wine", "mlp-iris", "boosting-wine", "pipeline-digits"),
}
ALL = tuple(name for names in FAMILIES.values() for name in names)


@dataclasses.dataclass(frozen=True)
class Task:
    """A problem as a benchmark drives it."""

    name: str
    space: jhpo.Space
    told: Callable[[np.ndarray], np.ndarray]  # float[n, d] units to float[n], what the search learns
    truth: Callable[[np.ndarray], np.ndarray] | None = None  # the same without the noise, where there is any
    lowest: float | None = None  # the lowest value there is, where that is known


@functools.cache
def get(name: str, folder: Path | None = None) -> Task:
    """The problem of that name, its objective compiled; the surrogates need the data folder."""
    if name.split(":")[0] in surrogates.SCENARIOS:
        if folder is None:
            raise ValueError(f"problem: {name!r} needs the folder of the YAHPO data (--yahpo DIR)")
        return _surrogate(name, folder)
    if name in MODELS:
        space, score = MODELS[name]()
        return Task(name, space, lambda units: np.array([-score(**space.decode(u)) for u in units]))
    if name in MIXED:
        space, function, lowest = MIXED[name]()
        return Task(name, space, _compiled(space, function), lowest=lowest)
    return _analytic(name)


def lowest(name: str) -> float | None:
    """The lowest value there is, None where nobody knows."""
    return None if ":" in name or name in MODELS else get(name).lowest


@functools.cache
def _scenario(folder: Path, scenario: str) -> tuple[jhpo.Space, Any, dict[str, int]]:
    space, function, rows = surrogates.scenario(folder, scenario)
    one = lambda unit, instance: function(space.from_unit(unit), instance)  # noqa: E731
    return space, jax.jit(jax.vmap(one, in_axes=(0, None))), rows


def _surrogate(name: str, folder: Path) -> Task:
    scenario, instance = name.split(":")
    space, program, rows = _scenario(folder, scenario)
    row = np.int32(rows[instance])
    return Task(name, space, lambda units: np.asarray(program(np.asarray(units, np.float32), row)))


def _compiled(space: jhpo.Space, function: Callable[[Any], jax.Array]) -> Callable[[np.ndarray], np.ndarray]:
    program = jax.jit(jax.vmap(lambda unit: function(space.from_unit(unit))))
    return lambda units: np.asarray(program(np.asarray(units, np.float32)))


# ---------------------------------------------------------------------------------------------------- analytic


def _ellipsoid(z: jax.Array) -> jax.Array:
    """A bowl whose axes differ by a factor of 100 in curvature."""
    return jnp.sum(jnp.asarray(np.logspace(0, 2, z.shape[0]), z.dtype) * z * z)


def _rastrigin(z: jax.Array) -> jax.Array:
    return jnp.sum(z * z + 10.0 - 10.0 * jnp.cos(2 * np.pi * z))


def _griewank(z: jax.Array) -> jax.Array:
    root = jnp.asarray(np.sqrt(np.arange(1, z.shape[0] + 1)), z.dtype)
    return jnp.sum(z * z) / 4000.0 - jnp.prod(jnp.cos(z / root)) + 1.0


def _styblinski(z: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum(z**4 - 16.0 * z * z + 5.0 * z) + 39.16617 * z.shape[0]


def _steps(z: jax.Array) -> jax.Array:
    """A bowl in flat steps."""
    return jnp.floor(4.0 * jnp.sqrt(jnp.sum(z * z)))


def _basin(z: jax.Array) -> jax.Array:
    """Flat but for a basin that a few in a hundred random points hit."""
    return jnp.minimum(jnp.sum(z * z), 1.0)


def _cliff(z: jax.Array) -> jax.Array:
    """A bowl beside a flat bad region, where training diverges; the best place is close to its edge."""
    return jnp.where(z[0] + 0.5 * z[1] > 0.3, 40.0, jnp.sum(z * z))


def _corner(z: jax.Array) -> jax.Array:
    """Values over six orders of magnitude, the best of them in one corner."""
    return jnp.exp(4.0 * jnp.sqrt(jnp.sum(z * z))) - 1.0


# function, width of its domain, where its optimum is in its own coordinates, deviation of its noise
_FUNCTIONS: Mapping[str, tuple[Callable[[jax.Array], jax.Array], float, float, float]] = {
    "levy": (surrogates.levy, 20.0, 1.0, 3.0),
    "rosen": (surrogates.rosenbrock, 4.0, 1.0, 0.0),
    "ellipsoid": (_ellipsoid, 4.0, 0.0, 5.0),
    "ackley": (surrogates.ackley, 30.0, 0.0, 0.7),
    "rastrigin": (_rastrigin, 6.0, 0.0, 0.0),
    "styblinski": (_styblinski, 10.0, -2.903534, 0.0),
    "griewank": (_griewank, 40.0, 0.0, 0.0),
    "steps": (_steps, 2.0, 0.0, 0.0),
    "basin": (_basin, 4.0, 0.0, 0.0),
    "cliff": (_cliff, 4.0, 0.0, 0.0),
    "corner": (_corner, 4.0, 0.0, 0.0),
}


def _analytic(name: str) -> Task:
    """``kind-function`` and the dimension: "moved" has another optimum, "turned" is rotated too (so are all others)."""
    kind, _, body = name.rpartition("-")
    function, d = body.rstrip("0123456789"), int(body[len(body.rstrip("0123456789")) :] or 2)
    generator = np.random.default_rng(zlib.crc32(body.encode()))
    space = jhpo.Space({f"x{i:02d}": jhpo.Float(0.0, 1.0) for i in range(d)})
    row = lambda hp: jnp.stack([hp[f"x{i:02d}"] for i in range(d)])  # noqa: E731
    deviation, lowest = 0.0, 0.0
    if function == "branin":
        clean = lambda hp: surrogates.branin(jnp.stack([15.0 * hp["x00"] - 5.0, 15.0 * hp["x01"]]))  # noqa: E731
        lowest = 0.397887
    elif function == "hartmann":
        clean, lowest, deviation = (lambda hp: surrogates.hartmann6(row(hp))), -3.32237, 0.2
    elif function in _FUNCTIONS:
        f, width, best, deviation = _FUNCTIONS[function]
        # a tenth of the side from the middle at least, and from the bounds
        side = generator.choice([-1.0, 1.0], d)
        optimum = 0.5 + side * (
            generator.uniform(0.3, 0.4, d) if function == "corner" else generator.uniform(0.1, 0.4, d)
        )
        turn = np.eye(d) if kind == "moved" else np.linalg.qr(generator.normal(size=(d, d)))[0]
        matrix, centre = jnp.asarray(width * turn, jnp.float32), jnp.asarray(optimum, jnp.float32)
        clean = lambda hp: f(jnp.matmul(matrix, row(hp) - centre, precision="highest") + jnp.float32(best))  # noqa: E731
    else:
        raise ValueError(f"problem: expected a name of bayes_problems.FAMILIES, got {name!r}")
    if kind != "noisy":
        return Task(name, space, _compiled(space, clean), lowest=lowest)

    def noisy(hp: Any) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(row(hp), jnp.uint32)
        key = functools.reduce(jax.random.fold_in, bits, jax.random.key(0))  # the noise of a point is always the same
        return clean(hp) + deviation * jax.random.normal(key, (), jnp.float32)

    return Task(name, space, _compiled(space, noisy), _compiled(space, clean), lowest)
