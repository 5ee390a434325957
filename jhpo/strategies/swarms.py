"""Swarm variants by name, initial positions, and comparison of results."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jhpo.errors import invalid, is_concrete
from jhpo.kernels import counter_random, threefry
from jhpo.kernels.sobol import MAX_DIM, sobol
from jhpo.kernels.stability import swarm_radius
from jhpo.kernels.swarm import Rule
from jhpo.space.space import Space


class Preset(NamedTuple):
    """Options of a variant; each can be overridden by the option of the same name."""

    motion: str
    topology: str
    inertia: float
    cognitive: float
    social: float
    schedule: str = "constant"
    inertia_end: float = 0.4
    clamp: float = float("inf")
    solo: bool = False


_W, _C = 1.0 / (2.0 * np.log(2.0)), 0.5 + np.log(2.0)  # SPSO-2006, from Clerc's analysis of stagnation
_CHI, _PHI = 0.7298, 4.1  # Clerc & Kennedy 2002
PRESETS: dict[str, Preset] = {
    "gbest": Preset("attract", "global", _CHI, _CHI * _PHI / 2, _CHI * _PHI / 2),
    "spso2006": Preset("attract", "informants", float(_W), float(_C), float(_C), solo=True),
    "spso2011": Preset("sphere", "informants", float(_W), float(_C), float(_C)),
    "ring": Preset("attract", "ring", _CHI, _CHI * _PHI / 2, _CHI * _PHI / 2),
    "vonneumann": Preset("attract", "vonneumann", _CHI, _CHI * _PHI / 2, _CHI * _PHI / 2),
    "random": Preset("attract", "random", _CHI, _CHI * _PHI / 2, _CHI * _PHI / 2),
    "fips": Preset("informed", "vonneumann", _CHI, 0.0, _CHI * _PHI),
    "clpso": Preset("exemplar", "global", 0.9, 0.0, 1.49445, "linear", 0.4, 0.2),
    "cso": Preset("compete", "global", 1.0, 0.0, 1.0),
}


def one_of(name: str, value: object, options: tuple[str, ...]) -> None:
    """Raises `InvalidArgument` if the value is not among the options."""
    if value not in options:
        raise invalid(name, f"one of {list(options)}", value)


def check_stability(rule: Rule, inertia: object, cognitive: object, social: object) -> None:
    """Raises `InvalidArgument` if a swarm with these coefficients diverges; traced ones are not checked."""
    if not all(is_concrete(x) for x in (inertia, cognitive, social)):
        return
    slots = {"ring": 2, "vonneumann": 4}.get(rule.graph, rule.informants)
    got = [float(x) for x in (inertia, cognitive, social)]  # type: ignore[arg-type]
    radius = swarm_radius(rule.motion, rule.schedule, got[0], got[1], got[2], slots)
    if not radius < 1.0:
        wanted = f"coefficients of a swarm that converges (spectral radius of its second moments < 1, not {radius:.3f})"
        raise invalid("inertia, cognitive, social", wanted, dict(zip(("inertia", "cognitive", "social"), got)))


def better(violation: jax.Array, value: jax.Array, than_violation: jax.Array, than_value: jax.Array) -> jax.Array:
    """Whether the first is better by Deb's rules (2000), elementwise; a failed member, +inf in both, never is."""
    return (violation < than_violation) | ((violation == than_violation) & (value < than_value))


def merit_of(value: jax.Array, violation: jax.Array, constraint: jax.Array | None) -> jax.Array:
    """One number per particle, lower is better: the value, or with constraints a number that orders by Deb's rules.

    With constraints it is made from bits: feasible values become negative numbers, violations positive ones, each
    without the last two bits of the mantissa, so that nothing has to be sorted.
    """
    if constraint is None or constraint.shape[-1] == 0:
        return jnp.where(violation == 0, value, jnp.inf)
    unsigned, bits = (jnp.uint32, 32) if value.dtype == jnp.float32 else (jnp.uint64, 64)
    sign, quarter = (unsigned(1 << (bits - k)) for k in (1, 4))
    value, lack = (lax.bitcast_convert_type(a + jnp.zeros((), a.dtype), unsigned) for a in (value, violation))
    rising = jnp.where(value >= sign, ~value, value | sign)  # unsigned integers in the order of the values
    feasible = ~((rising >> unsigned(2)) + quarter)
    infeasible = (lack >> unsigned(2)) + unsigned(2) * quarter
    number = lax.bitcast_convert_type(jnp.where(violation == 0, feasible, infeasible), violation.dtype)
    return jnp.where(jnp.isinf(violation), jnp.inf, number)


def places(space: Space, key: jax.Array, m: int, dtype: jnp.dtype, even: bool) -> jax.Array:
    """Initial positions ``float[m, d]`` of particles.

    Random points of the space if it has priors or constraints; otherwise scrambled Sobol points if ``even``, or
    uniform points, which are cheaper.
    """
    if space.has_constraints or any(getattr(p, "prior", None) is not None for p in space.parameters):
        return space.sample_unit(key, m, dtype)
    if even and space.dim <= MAX_DIM:
        return sobol(jnp.zeros((), jnp.uint32), m, space.dim, threefry.bits(key, (space.dim,)), dtype)
    return counter_random.uniform(counter_random.seeds(key, 1)[0], (m, space.dim), dtype)


def owners(position: jax.Array, units: jax.Array) -> jax.Array:
    """``int32[n]``: for each of ``units`` float[n, d] the particle whose ``position`` float[m, d] equals it, m if none.

    By a digest of the coordinates and binary search, as comparing all pairs would be too expensive.
    """
    m = position.shape[0]

    def digest(x: jax.Array) -> jax.Array:
        words = lax.bitcast_convert_type(x, jnp.uint32).reshape(len(x), -1)  # two for each number in float64
        place = jnp.arange(words.shape[1], dtype=jnp.uint32)[None, :] * np.uint32(0x9E3779B9)
        return counter_random.scramble(words + place, jnp.zeros((2,), jnp.uint32)).sum(axis=1, dtype=jnp.uint32)

    known, order = lax.sort_key_val(digest(position), jnp.arange(m, dtype=jnp.int32))
    row = order[jnp.minimum(jnp.searchsorted(known, digest(units)), m - 1)]
    return jnp.where((position[row] == units).all(axis=1), row, jnp.int32(m))
