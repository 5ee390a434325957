"""Coordinates in which a gradient strategy descends: clipped unit coordinates, or unbounded logits."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.space.space import Space

COORDINATES = ("unit", "logit")
EDGE = 1e-4  # least distance of a logit coordinate to a bound


def moved(coordinates: str, best: jax.Array, move: jax.Array) -> jax.Array:
    """Unit rows ``float[n, d]`` after a step; coordinates that do not move keep every bit."""
    if coordinates == "unit":
        return jnp.clip(best + move, 0.0, 1.0)
    inside = jnp.clip(best, EDGE, 1.0 - EDGE)
    there = jax.nn.sigmoid(jnp.log(inside) - jnp.log1p(-inside) + move)
    return jnp.where(move == 0.0, best, there)


def slope(coordinates: str, space: Space, unit: jax.Array, grad: jax.Array) -> jax.Array:
    """The gradient ``float[n, d]`` in the coordinates of the descent, zero where a coordinate cannot move."""
    if coordinates == "unit":
        outwards = ((unit <= 0.0) & (grad > 0.0)) | ((unit >= 1.0) & (grad < 0.0))
        grad = jnp.where(outwards, 0.0, grad)
    else:
        inside = jnp.clip(unit, EDGE, 1.0 - EDGE)
        grad = grad * inside * (1.0 - inside)
    return jnp.where(jnp.asarray(space.cells == 0)[None, :], grad, 0.0)
