"""Ranks of members by constraint violation, then value, then position."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.kernels.order import inverse, lexsort

# Up to this number of members all pairs are compared: under vmap faster than sorting many short rows.
PAIRS = 64


def ahead(value: jax.Array, violation: jax.Array | None, other: jax.Array, its: jax.Array | None) -> jax.Array:
    """``bool[n, m]``: whether member m of the second group is better than member n of the first.

    Args:
      value, violation: float[n], of the first group; violations are None without constraints.
      other, its: float[m], values and violations of the second group.
    """
    better = other[None, :] < value[:, None]
    if violation is None or its is None:
        return better
    return (its[None, :] < violation[:, None]) | ((its[None, :] == violation[:, None]) & better)


def ranks(value: jax.Array, violation: jax.Array | None) -> jax.Array:
    """``int32[n]``: the number of members that are better; of equal ones, those before."""
    n = value.shape[0]
    if n > PAIRS:
        return inverse(lexsort((value,) if violation is None else (value, violation)))
    rows = jnp.arange(n, dtype=jnp.int32)
    better = ahead(value, violation, value, violation)
    equal = ~better & ~better.T & (rows[None, :] < rows[:, None])
    return (better | equal).sum(axis=1, dtype=jnp.int32)
