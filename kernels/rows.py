"""Reading and writing some rows of an array: consecutive ones, any distinct ones, or all.

A window is all of an array that has no more rows than it.
"""

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
    if rows is None or _is_all(a, rows):
        return a
    if isinstance(rows, Window):
        return lax.dynamic_slice_in_dim(a, rows.start, len(rows.rows))
    return a[rows]


def put(a: jax.Array, rows: Rows, new: jax.Array) -> jax.Array:
    """The array with the given rows, which are distinct, replaced by ``new``."""
    if rows is None or _is_all(a, rows):
        return new
    if isinstance(rows, Window):
        return lax.dynamic_update_slice_in_dim(a, new, rows.start, 0)
    return a.at[rows].set(new, unique_indices=True)


def _is_all(a: jax.Array, rows: Rows) -> bool:
    return isinstance(rows, Window) and a.shape[0] == len(rows.rows)


def joined(a: jax.Array, k: int) -> jax.Array:
    """``float[m / k, k d]``: every k rows of float[m, d] joined into one (see `loops.abreast`)."""
    return a.reshape(-1, k * a.shape[1])


def take_joined(a: jax.Array, rows: Window | None, k: int) -> jax.Array:
    """The given n rows, ``float[n / k, k d]``, of an array whose rows are `joined`.

    A window has to start at a multiple of its length, which k divides.
    """
    return take(a, window(rows.start // k, len(rows.rows) // k) if isinstance(rows, Window) else rows)


def exchanged(numbers: jax.Array, away: Window | None) -> jax.Array:
    """Where rows are, ``int32[...]``, after those of a window have changed places with the first ones; its own inverse.

    Args:
      numbers: of the rows.
      away: starts at a multiple of its length. None if no rows have changed places.

    >>> exchanged(jnp.arange(6), window(4, 2)).tolist()
    [4, 5, 2, 3, 0, 1]
    """
    if away is None:
        return numbers
    n, back = len(away.rows), numbers - away.start
    return jnp.where((back >= 0) & (back < n), back, jnp.where(numbers < n, numbers + away.start, numbers))
