"""Numerics the Gaussian process rests on: tails of the normal law, and a Cholesky factor with its inverse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# Depth of the continued fraction for Mills' ratio; below -4 it is exact to 1e-15.
_TERMS = 24
_TAIL = -4.0
# Size below which a block is factorised directly. Small enough that LAPACK stays on one thread:
# its own threads fight with XLA's for the cores, and were seen to take 100 times longer.
_LEAF = 32
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


def inverse_lower(lower: jax.Array) -> jax.Array:
    """Inverse of a lower triangular matrix by doubling: log2(n) rounds of batched products.

    No triangular solve, so it runs at the speed of matrix products, vmaps without a loop and never enters the
    threads of BLAS.

    Args:
        lower: float[n, n], n a power of two; entries above the diagonal are ignored.
    """
    n = lower.shape[-1]
    if n & (n - 1):
        raise ValueError(f"lower: expected a power of two as size, got {n}")
    inverse = (1.0 / jnp.diagonal(lower)).reshape(n, 1, 1)
    size = 1
    while size < n:  # static
        pairs = n // (2 * size)
        blocks = lower.reshape(pairs, 2 * size, pairs, 2 * size)
        own = blocks[jnp.arange(pairs), :, jnp.arange(pairs), :]  # [pairs, 2 size, 2 size], the diagonal blocks
        top, bottom = inverse[0::2], inverse[1::2]
        corner = -bottom @ own[:, size:, :size] @ top
        upper = jnp.concatenate([top, jnp.zeros_like(top)], axis=2)
        inverse = jnp.concatenate([upper, jnp.concatenate([corner, bottom], axis=2)], axis=1)
        size *= 2
    return inverse[0]


def cholesky_inverse(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cholesky factor L and its inverse, by recursive halving; NaN where the matrix is not positive definite.

    Everything above a 32 x 32 leaf is matrix products. What follows (posteriors, gradients) then needs no
    triangular solves at all.

    Args:
        matrix: float[n, n], symmetric, n a power of two.

    Returns:
        ``(L, inv(L))``, both lower triangular float[n, n].

    >>> L, inverse = cholesky_inverse(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    >>> L.tolist(), (inverse @ L).tolist()
    ([[2.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    n = matrix.shape[-1]
    if n <= _LEAF:
        factor = jnp.linalg.cholesky(matrix, symmetrize_input=False)
        return factor, inverse_lower(factor)
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
