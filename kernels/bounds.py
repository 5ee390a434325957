"""How particles are kept within the bounds of a box: absorb, reflect or periodic, all in closed form."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jhpo.kernels.internals import is_traced
from jhpo.kernels.swarm_parts import Rule

BOUNDS = ("absorb", "reflect", "periodic")
REBOUND = -0.5  # an absorbing bound reverses and halves the velocity


class Box(NamedTuple):
    """Bounds, float[1, 1] or float[1, d] each; repeated along the axis where several rows are joined into one."""

    low: jax.Array
    high: jax.Array


def box(low: ArrayLike, high: ArrayLike, dtype: DTypeLike) -> Box:
    """A `Box` from bounds that are scalars or float[d].

    Raises:
      ValueError: concrete bounds that are not finite or not in order.
    """
    if not any(is_traced(b) for b in (low, high)):
        a, b = np.asarray(low, float), np.asarray(high, float)
        if not (np.isfinite(a).all() and np.isfinite(b).all() and np.all(a < b)):
            raise ValueError(f"bounds: expected finite low < high, got low={a}, high={b}")
    return Box(*(jnp.asarray(b, dtype).reshape(1, -1) for b in (low, high)))


def shortest(rule: Rule, within: Box, delta: jax.Array) -> jax.Array:
    """The difference of two positions; with periodic bounds the shortest one."""
    if rule.bounds != "periodic":
        return delta
    width = within.high - within.low
    return delta - width * jnp.round(delta / width)


def rebound(rule: Rule, x: jax.Array, v: jax.Array, within: Box) -> jax.Array:
    """The velocity after an absorbing bound: reversed and halved if the particle is at the bound and moves outwards."""
    if rule.bounds != "absorb":
        return v
    outward = ((x <= within.low) & (v < 0)) | ((x >= within.high) & (v > 0))
    return jnp.where(outward, jnp.asarray(REBOUND, v.dtype) * v, v)


def inside(rule: Rule, x: jax.Array, v: jax.Array, within: Box, step: ArrayLike = 1.0) -> tuple[jax.Array, jax.Array]:
    """The position after ``step`` and the velocity kept. Reflection and wrapping in closed form: no loops."""
    low, high = within
    y, width = x + jnp.asarray(step, x.dtype) * v, high - low
    if rule.bounds == "reflect":
        u = jnp.mod(y - low, 2 * width)
        y, v = low + jnp.minimum(u, 2 * width - u), jnp.where(u > width, -v, v)
    elif rule.bounds == "periodic":
        y = low + jnp.mod(y - low, width)
    return clip(y, low, high), v


def limited(v: jax.Array, within: Box, clamp: jax.Array) -> jax.Array:
    """Velocities clipped to ``clamp`` times the width of the box."""
    limit = clamp * (within.high - within.low)
    return clip(v, -limit, limit)


def clip(a: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """As `jnp.clip`, NaN included, but by comparisons: the maximum of IEEE 754-2019 takes four instructions."""
    a = jnp.where(a <= low, low, a)
    return jnp.where(a >= high, high, a)
