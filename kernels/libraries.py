"""Factorisations by CUDA's libraries, since a loop over columns launches at least one kernel per column."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

F = TypeVar("F", bound=Callable[[jax.Array], jax.Array])

# Largest batch for the library, whose time grows with the batch; that of a loop, bound by launches, does not.
_FEW = 64


def by_library(library: Callable[[jax.Array], jax.Array]) -> Callable[[F], F]:
    """Decorates a function of one matrix, float[n, n], to call ``library`` on CUDA instead.

    The function itself runs on every other platform, and on CUDA for batches of more than 64 matrices under ``vmap``.

    >>> inverse = by_library(lambda a: jnp.linalg.inv(a))(lambda a: 1.0 / a)
    >>> inverse(jnp.array([[4.0]])).tolist()
    [[0.25]]
    """

    def decorator(own: F) -> F:
        @jax.custom_batching.custom_vmap
        def batch(matrices: jax.Array) -> jax.Array:
            rows = jax.vmap(own) if len(matrices) > 1 else lambda a: own(a[0])[None]
            if len(matrices) > _FEW:
                return rows(matrices)
            return jax.lax.platform_dependent(matrices, cuda=jax.vmap(library), default=rows)

        @batch.def_vmap
        def batches(size: int, batched: list[bool], matrices: jax.Array) -> tuple[jax.Array, bool]:
            return batch(matrices.reshape(-1, *matrices.shape[2:])).reshape(matrices.shape), True

        @functools.wraps(own)
        def wrapper(matrix: jax.Array) -> jax.Array:
            return batch(matrix[None])[0]

        return wrapper  # type: ignore[return-value]

    return decorator


def triangular_inverse(matrix: jax.Array) -> jax.Array:
    """The inverse of the Cholesky factor, float[n, n], in two calls; NaN if the matrix is not positive definite."""
    root = jax.lax.linalg.cholesky(matrix, symmetrize_input=False)
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    return jnp.tril(jax.lax.linalg.triangular_solve(root, eye, left_side=True, lower=True))
