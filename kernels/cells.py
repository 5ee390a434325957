"""Whether unit coordinates lie in the same cell: the centre of a category or an integer has more than one rounding."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Coordinates that are closer are the same: programs round the centre of a cell differently.
SAME = 1e-6


def distinct(difference: jax.Array) -> jax.Array:
    """``bool[...]``: whether coordinates of discrete parameters that differ by so much are different values.

    >>> distinct(jnp.array([0.0, 1e-8, 0.5])).tolist()
    [False, False, True]
    """
    return jnp.abs(difference) > SAME
