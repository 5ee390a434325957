"""Some rows of an array, read and written: neighbouring ones, any distinct ones, or all."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Window(NamedTuple):
    """Neighbouring rows, which are read and written at the speed of a copy."""

    start: jax.Array  # int32[]
    rows: np.ndarray  # bool[n], their number alone matters


Rows = Window | jax.Array | None  # some neighbouring rows, some rows int32[n], all rows in order


def window(start: Any, count: int) -> Window:
    """The ``count`` rows from ``start`` on."""
    return Window(jnp.asarray(start, jnp.int32), np.zeros(count, bool))


def take(a: jax.Array, rows: Rows) -> jax.Array:
    """Those rows of an array."""
    if isinstance(rows, Window):
        return lax.dynamic_slice_in_dim(a, rows.start, len(rows.rows))
    return a if rows is None else a[rows]


def put(a: jax.Array, rows: Rows, new: jax.Array) -> jax.Array:
    """The array with those rows replaced; they are distinct."""
    if isinstance(rows, Window):
        return lax.dynamic_update_slice_in_dim(a, new, rows.start, 0)
    return new if rows is None else a.at[rows].set(new, unique_indices=True)


def take_abreast(a: jax.Array, rows: Rows, k: int) -> jax.Array:
    """Those n rows of float[m, d], k of them side by side: float[n / k, k d].

    A window begins at a multiple of its length, and k divides that; m as well.
    """
    if isinstance(rows, Window):
        return take(a.reshape(-1, k * a.shape[1]), window(rows.start // k, len(rows.rows) // k))
    return take(a, rows).reshape(-1, k * a.shape[1])
