"""Reading and writing some rows of an array: consecutive ones, any distinct ones, or all."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike


class Window(NamedTuple):
    """Consecutive rows, which are read and written at the speed of a copy."""

    start: jax.Array  # int32[]
    rows: np.ndarray  # bool[n], used for its length only


Rows = Window | jax.Array | None  # consecutive rows, any rows int32[n], all rows in order


def window(start: ArrayLike, count: int) -> Window:
    """The ``count`` rows from ``start`` on."""
    return Window(jnp.asarray(start, jnp.int32), np.zeros(count, bool))


def take(a: jax.Array, rows: Rows) -> jax.Array:
    """The given rows of an array, ``[n, ...]``."""
    if isinstance(rows, Window):
        return lax.dynamic_slice_in_dim(a, rows.start, len(rows.rows))
    return a if rows is None else a[rows]


def put(a: jax.Array, rows: Rows, new: jax.Array) -> jax.Array:
    """The array with the given rows, which are distinct, replaced by ``new``."""
    if isinstance(rows, Window):
        return lax.dynamic_update_slice_in_dim(a, new, rows.start, 0)
    return new if rows is None else a.at[rows].set(new, unique_indices=True)


def take_abreast(a: jax.Array, rows: Rows, k: int) -> jax.Array:
    """The given n rows of float[m, d], with k rows joined into one: float[n / k, k d].

    A window has to start at a multiple of its length; k has to divide the length and m.
    """
    if isinstance(rows, Window):
        return take(a.reshape(-1, k * a.shape[1]), window(rows.start // k, len(rows.rows) // k))
    return take(a, rows).reshape(-1, k * a.shape[1])
