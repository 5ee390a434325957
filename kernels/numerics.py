"""Numerics the Gaussian process rests on: tails of the normal law, and a Cholesky factor with its inverse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# Depth of the continued fraction for Mills' ratio; below -4 it is exact to 1e-15.
_TERMS = 24
_TAIL = -4.0
# Blocks of so many rows are eliminated column by column (LAPACK's own threads fight with XLA's for the cores and were
# seen to take 100 times longer, or for ever); up to the second number they follow one another in a loop.
_LEAF, _LOOPED = 32, 128
_LOG_2PI = float(np.log(2 * np.pi))


def safe_sqrt(x: jax.Array) -> jax.Array:
    """``sqrt(max(x, 0))`` whose derivative at 0 is 0 rather than infinite; any shape, any float dtype."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def log1mexp(x: jax.Array) -> jax.Array:
    """``log(1 - exp(-x))`` for ``x > 0`` without cancellation (Maechler, 2012).

    >>> float(log1mexp(jnp.float32(1e-6))) < -13.8
    True
    """
    small = x < float(np.log(2.0))
    inner = jnp.where(small, x, 1.0)
    outer = jnp.where(small, 1.0, x)
    return jnp.where(small, jnp.log(-jnp.expm1(-inner)), jnp.log1p(-jnp.exp(-outer)))


def _tail_fraction(x: jax.Array) -> jax.Array:
    """T(x) = 1/(x + 2/(x + 3/(x + ...))), so that Mills' ratio is 1 / (x + T), for x >= 4."""
    t = x
    for k in range(_TERMS, 1, -1):  # unrolled: one fused elementwise kernel
        t = x + k / t
    return 1.0 / t


def _log_density(u: jax.Array) -> jax.Array:
    return -0.5 * u * u - 0.5 * _LOG_2PI


def _cdf(u: jax.Array) -> jax.Array:
    return 0.5 * jax.lax.erfc(-u * float(np.sqrt(0.5)))


@jax.custom_jvp
def log_h(u: jax.Array) -> jax.Array:
    """log(phi(u) + u Phi(u)): the logarithm of expected improvement in units of the deviation.

    The tail uses ``h(-x) = phi(x) T / (x + T)`` with T the continued fraction of Mills' ratio: no cancellation, where
    the erfcx form of Ament et al. (2023, "Unexpected improvements to expected improvement", eq. 9) switches twice.

    Args:
        u: float of any shape; finite results down to ``-1e5`` in float32.

    >>> round(float(log_h(jnp.float32(0.0))), 5)  # log(1 / sqrt(2 pi))
    -0.91894
    """
    tail = u < _TAIL
    x = jnp.where(tail, -u, 4.0)
    t = _tail_fraction(x)
    body = jnp.where(tail, 0.0, u)
    near = jnp.log(jnp.exp(_log_density(body)) + body * _cdf(body))
    return jnp.where(tail, _log_density(x) + jnp.log(t) - jnp.log(x + t), near)


@log_h.defjvp
def _log_h_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (u,), (du,) = primals, tangents
    tail = u < _TAIL
    t = _tail_fraction(jnp.where(tail, -u, 4.0))
    body = jnp.where(tail, 0.0, u)
    phi = _cdf(body)
    # h' = Phi; in the tail Phi / h = 1 / T
    slope = jnp.where(tail, 1.0 / t, phi / (jnp.exp(_log_density(body)) + body * phi))
    return log_h(u), slope * du


@jax.custom_jvp
def log_ndtr(u: jax.Array) -> jax.Array:
    """log Phi(u), the log of the normal distribution function, finite with its derivative far into the tail."""
    tail = u < _TAIL
    x = jnp.where(tail, -u, 4.0)
    body = jnp.where(tail, 0.0, u)
    near = jnp.where(body > 0, jnp.log1p(-_cdf(-body)), jnp.log(_cdf(body)))
    return jnp.where(tail, _log_density(x) - jnp.log(x + _tail_fraction(x)), near)


@log_ndtr.defjvp
def _log_ndtr_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (u,), (du,) = primals, tangents
    tail = u < _TAIL
    x = jnp.where(tail, -u, 4.0)
    body = jnp.where(tail, 0.0, u)
    slope = jnp.where(tail, x + _tail_fraction(x), jnp.exp(_log_density(body)) / _cdf(body))
    return log_ndtr(u), slope * du


def _eliminate(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Factor and inverse of one block: elimination of ``[A | I]``, a rank-one update a column."""
    n = matrix.shape[-1]
    rows = jnp.arange(n, dtype=jnp.int32)

    def column(k: jax.Array, both: jax.Array) -> jax.Array:
        row = jax.lax.dynamic_slice_in_dim(both, k, 1, axis=0)
        pivot = jax.lax.dynamic_slice_in_dim(row, k, 1, axis=1)
        row = row / jnp.sqrt(pivot)
        lower = jnp.where((rows > k)[:, None], jax.lax.dynamic_slice_in_dim(both, k, 1, axis=1), 0.0)
        return jnp.where((rows == k)[:, None], row, both - lower / jnp.sqrt(pivot) * row)

    both = jnp.concatenate([matrix, jnp.eye(n, dtype=matrix.dtype)], axis=1)
    both = jax.lax.fori_loop(0, n, column, both)
    # a failed pivot leaves NaN in what follows it, also in the part that is cut away here
    broken = jnp.where(jnp.isfinite(both[-1, -1]), 0.0, jnp.nan).astype(matrix.dtype)
    return jnp.triu(both[:, :n]).T + broken, both[:, n:] + broken


def _blocks(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Factor and inverse of a few leaves, one after the other in a loop, so that the program stays small."""
    n = matrix.shape[-1]
    rows = jnp.arange(n, dtype=jnp.int32)

    def block(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        factor, inverse = carry
        at = i * _LEAF
        own = jax.lax.dynamic_slice_in_dim(factor, at, _LEAF, axis=0)  # [leaf, n], zero from column `at` on
        rest = jax.lax.dynamic_slice_in_dim(matrix, at, _LEAF, axis=1) - factor @ own.T
        corner, corner_inverse = _eliminate(jax.lax.dynamic_slice_in_dim(rest, at, _LEAF, axis=0))
        below = jnp.where((rows >= at + _LEAF)[:, None], rest @ corner_inverse.T, 0.0)
        below = jax.lax.dynamic_update_slice_in_dim(below, corner, at, axis=0)
        factor = jax.lax.dynamic_update_slice_in_dim(factor, below, at, axis=1)
        left = -corner_inverse @ (own @ inverse)
        left = jax.lax.dynamic_update_slice_in_dim(left, corner_inverse, at, axis=1)
        return factor, jax.lax.dynamic_update_slice_in_dim(inverse, left, at, axis=0)

    empty = jnp.zeros_like(matrix)
    return jax.lax.fori_loop(0, n // _LEAF, block, (empty, empty))


def cholesky_inverse(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cholesky factor L and its inverse; NaN where the matrix is not positive definite.

    No LAPACK and no triangular solves: blocks of 32 are eliminated, up to 128 rows in a loop, and everything above is
    recursive halving with matrix products. What follows (posteriors, gradients) needs no solves either.

    Args:
        matrix: float[n, n], symmetric, n a power of two.

    Returns:
        ``(L, inv(L))``, both lower triangular float[n, n].

    >>> L, inverse = cholesky_inverse(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    >>> L.tolist(), (inverse @ L).tolist()
    ([[2.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    n = matrix.shape[-1]
    if n & (n - 1):
        raise ValueError(f"matrix: expected a power of two as size, got {n}")
    if n <= _LEAF:
        return _eliminate(matrix)
    if n <= _LOOPED:
        return _blocks(matrix)
    half = n // 2
    a, a_inverse = cholesky_inverse(matrix[:half, :half])
    b = matrix[half:, :half] @ a_inverse.T
    c, c_inverse = cholesky_inverse(matrix[half:, half:] - b @ b.T)
    zero = jnp.zeros((half, half), matrix.dtype)
    corner = -(c_inverse @ b) @ a_inverse
    return jnp.block([[a, zero], [b, c]]), jnp.block([[a_inverse, zero], [corner, c_inverse]])


def jittered_cholesky_inverse(matrix: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`cholesky_inverse`, adding jitter 0, 1e-8, 1e-6, 1e-4 (times ``scale``, and never below the dtype's resolution)
    to the diagonal until the factor is finite.

    Args:
        matrix: float[n, n]. scale: float[], the size of the diagonal.

    Returns:
        ``(L, inv(L), jitter)``; all NaN only if even the last jitter fails.
    """
    eps = float(np.finfo(matrix.dtype).eps)
    ladder = jnp.asarray([0.0, max(1e-8, 4 * eps), max(1e-6, 64 * eps), 1e-4], matrix.dtype) * scale
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)

    def attempt(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        return cholesky_inverse(matrix + ladder[i] * eye)

    def bad(carry: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        i, _, inverse = carry
        return (i < 3) & ((i < 0) | ~jnp.all(jnp.isfinite(inverse)))

    def retry(carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        i = carry[0] + 1
        return i, *attempt(i)

    empty = jnp.zeros_like(matrix)
    i, factor, inverse = jax.lax.while_loop(bad, retry, (jnp.int32(-1), empty, empty))
    return factor, inverse, ladder[i]
