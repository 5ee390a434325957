"""The swarm variants by name, and how swarms compare what their particles found."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Preset(NamedTuple):
    """What a variant stands for; each entry can be overridden by the option of its name."""

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


def better(violation: jax.Array, value: jax.Array, than_violation: jax.Array, than_value: jax.Array) -> jax.Array:
    """Deb's rules (2000); a failed member, +inf in both, is never better."""
    return (violation < than_violation) | ((violation == than_violation) & (value < than_value))


def lead(value: jax.Array, violation: jax.Array) -> tuple[jax.Array, jax.Array]:
    least = violation.min()
    return jnp.where(violation == least, value, jnp.inf).min(), least


def merit_of(value: jax.Array, violation: jax.Array, constraint: jax.Array | None) -> jax.Array:
    """One number a particle, lower is better: its value, or its rank by Deb's rules where there are constraints."""
    if constraint is None or constraint.shape[-1] == 0:
        return jnp.where(violation == 0, value, jnp.inf)
    order = jnp.lexsort((value, violation))
    rank = jnp.zeros_like(value).at[order].set(jnp.arange(value.shape[0], dtype=value.dtype), unique_indices=True)
    return jnp.where(jnp.isinf(violation), jnp.inf, rank)
