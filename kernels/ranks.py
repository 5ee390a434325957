"""Ranks of members by violation, then value, then age."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Ranks of so many members come from all pairs: under vmap faster than sorting many short rows.
PAIRS = 64


def ahead(value: jax.Array, violation: jax.Array | None, other: jax.Array, its: jax.Array | None) -> jax.Array:
    """``bool[n, m]``: the second generation's member m is better than the first one's n, by violation, then value.

    Args:
      value, violation: float[n], of the members compared; violations None where there are none.
      other, its: float[m], of those that may be better.
    """
    better = other[None, :] < value[:, None]
    if violation is None or its is None:
        return better
    return (its[None, :] < violation[:, None]) | ((its[None, :] == violation[:, None]) & better)


def ranks(value: jax.Array, violation: jax.Array | None) -> jax.Array:
    """``int32[n]``: how many members are better, equal ones in their order."""
    n = value.shape[0]
    if n > PAIRS:
        order = jnp.argsort(value) if violation is None else jnp.lexsort((value, violation))
        return jnp.zeros((n,), jnp.int32).at[order].set(jnp.arange(n, dtype=jnp.int32))
    rows = jnp.arange(n, dtype=jnp.int32)
    better = ahead(value, violation, value, violation)
    equal = ~better & ~better.T & (rows[None, :] < rows[:, None])
    return (better | equal).sum(axis=1, dtype=jnp.int32)
