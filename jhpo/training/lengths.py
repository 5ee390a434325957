"""Numbers of steps, rounded up, but by no more than a rounding."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np


def whole_steps(number: float) -> int:
    """Steps for a number of them.

    >>> 0.07 * 100, whole_steps(0.07 * 100), whole_steps(7.1)
    (7.000000000000001, 7, 8)
    """
    return math.ceil(number * (1.0 - 1e-12))


def traced_steps(number: jax.Array) -> jax.Array:
    """`whole_steps` of a traced number, ``int32[]``, whose roundings are those of float32.

    >>> import jax.numpy as jnp
    >>> x = jnp.float32(300) * jnp.float32(0.09)
    >>> float(x) > 27.0, int(traced_steps(x)), int(traced_steps(jnp.float32(7.1)))
    (True, 27, 8)
    """
    nearest = jnp.rint(number)
    same = jnp.abs(number - nearest) <= 4.0 * float(np.finfo(np.float32).eps) * nearest
    return jnp.where(same, nearest, jnp.ceil(number)).astype(jnp.int32)
