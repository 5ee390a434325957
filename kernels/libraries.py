"""Factorisations by CUDA's libraries, since a loop over columns launches at least one kernel per column."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

F = TypeVar("F", bound=Callable[[jax.Array], Any])

# Largest batch for the library, whose time grows with the batch; that of a loop, bound by launches, does not.
_FEW = 64


def by_library(library: Callable[[jax.Array], Any]) -> Callable[[F], F]:
    """Decorates a function of one matrix, float[n, n], to call ``library`` on CUDA instead; both return arrays.

    The function itself runs on every other platform, and on CUDA for batches of more than 64 matrices under ``vmap``.

    >>> inverse = by_library(lambda a: jnp.linalg.inv(a))(lambda a: 1.0 / a)
    >>> inverse(jnp.array([[4.0]])).tolist()
    [[0.25]]
    """

    def decorator(own: F) -> F:
        @jax.custom_batching.custom_vmap
        def batch(matrices: jax.Array) -> Any:
            rows = jax.vmap(own) if len(matrices) > 1 else lambda a: jax.tree.map(lambda x: x[None], own(a[0]))
            if len(matrices) > _FEW:
                return rows(matrices)
            return jax.lax.platform_dependent(matrices, cuda=jax.vmap(library), default=rows)

        @batch.def_vmap
        def batches(size: int, batched: list[bool], matrices: jax.Array) -> tuple[Any, Any]:
            made = batch(matrices.reshape(-1, *matrices.shape[2:]))
            return jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), made), jax.tree.map(lambda _: True, made)

        @functools.wraps(own)
        def wrapper(matrix: jax.Array) -> Any:
            return jax.tree.map(lambda x: x[0], batch(matrix[None]))

        return wrapper  # type: ignore[return-value]

    return decorator


def triangular_inverse(matrix: jax.Array) -> jax.Array:
    """The inverse of the Cholesky factor, float[n, n], in two calls; NaN if the matrix is not positive definite."""
    return _inverse(jax.lax.linalg.cholesky(matrix, symmetrize_input=False))


def _inverse(root: jax.Array) -> jax.Array:
    eye = jnp.eye(root.shape[-1], dtype=root.dtype)
    return jnp.tril(jax.lax.linalg.triangular_solve(root, eye, left_side=True, lower=True))


def finite_factor(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cholesky factor and its inverse, float[n, n] each, in three calls; finite for every finite symmetric matrix.

    A matrix that is not positive definite by rounding gets as much on its diagonal as rounding can have taken. Of any
    other the diagonal alone is taken.

    >>> root, inverse = finite_factor(jnp.ones((2, 2)))
    >>> bool(jnp.isfinite(inverse).all()), root.round(2).tolist()
    (True, [[1.0, 0.0], [1.0, 0.0]])
    """
    eps, tiny = float(jnp.finfo(matrix.dtype).eps), float(jnp.finfo(matrix.dtype).tiny)
    diagonal = jnp.maximum(jnp.diagonal(matrix), tiny)
    more = jnp.diag(2.0 * len(matrix) * eps * diagonal.max() * jnp.ones_like(diagonal))
    root = jnp.diag(jnp.sqrt(diagonal))
    for tried in (matrix + more, matrix):
        made = jnp.tril(jax.lax.linalg.cholesky(tried, symmetrize_input=False))
        root = jnp.where(jnp.isfinite(made).all(), made, root)
    return root, _inverse(root)
