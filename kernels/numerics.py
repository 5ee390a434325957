"""Numerics for Gaussian processes: tails of the normal distribution, and the inverse of a Cholesky factor."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.libraries import by_library, triangular_inverse
from jhpo.kernels.shapes import Array, Float

F = TypeVar("F", bound=Callable[..., Any])

# Depth of the continued fraction for Mills' ratio in float64 and in float32; from 4 on its error is 6e-13 and 3e-8.
_TERMS, _TERMS_32 = 24, 12
_TAIL = -4.0
# Blocks of _LEAF rows are eliminated column by column (LAPACK's threads compete with XLA's for the cores, which can
# take 100 times as long, or hang). The two halves of a block of at most _LOOPED rows are computed in a loop, so that
# programs stay small.
_LEAF, _LOOPED = 32, 128
# A matrix of at most so many rows that is factored once is eliminated whole: the smaller program counts for more.
_ONCE = 64
# Triangles of at most _WHOLE rows are multiplied whole: splitting them saves next to nothing.
_WHOLE = 128
_LOG_2PI = float(np.log(2 * np.pi))


def exact_products(f: F) -> F:
    """``f`` whose matrix products, including those of its derivatives, have the full precision of their dtype.

    By default a GPU rounds the factors of a float32 product to 10 bits (TF32), a TPU to 7 (bfloat16). That is fine for
    a network, but not for the Cholesky factor of a covariance. On a CPU nothing changes.

    >>> "HIGHEST" in str(jax.make_jaxpr(exact_products(lambda a: a @ a))(jnp.eye(2)))
    True
    """

    @functools.wraps(f)
    def wrapper(*args: Any, **options: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return f(*args, **options)

    return wrapper  # type: ignore[return-value]


def safe_sqrt(x: Float[Array, "*s"] | float) -> Float[Array, "*s"]:
    """``sqrt(max(x, 0))`` whose derivative at 0 is 0 rather than infinite; any shape, any float dtype."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def held(x: Float[Array, "*s"], low: float, high: float) -> Float[Array, "*s"]:
    """``clip(x, low, high)`` with derivative 1 everywhere, for bounds that ``x`` exceeds by rounding only.

    >>> held(jnp.asarray(1.5), 0.0, 1.0).tolist(), jax.grad(held)(1.5, 0.0, 1.0).tolist()
    (1.0, 1.0)
    """
    return jnp.clip(x, low, high)


@held.defjvp
def _held_jvp(low: float, high: float, primals: tuple[Any], tangents: tuple[Any]) -> tuple[jax.Array, jax.Array]:
    return held(primals[0], low, high), tangents[0]


def log1mexp(x: Float[Array, "*s"] | float) -> Float[Array, "*s"]:
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
    for k in range(_TERMS_32 if x.dtype == jnp.float32 else _TERMS, 1, -1):  # unrolled: one fused elementwise kernel
        t = x + k / t
    return 1.0 / t


def _log_density(u: jax.Array) -> jax.Array:
    return -0.5 * u * u - 0.5 * _LOG_2PI


def _cdf(u: jax.Array) -> jax.Array:
    return 0.5 * jax.lax.erfc(-u * float(np.sqrt(0.5)))


@jax.custom_jvp
def log_h(u: Float[Array, "*s"] | float) -> Float[Array, "*s"]:
    """log(phi(u) + u Phi(u)): the logarithm of expected improvement in units of the standard deviation.

    The tail uses ``h(-x) = phi(x) T / (x + T)`` with T the continued fraction of Mills' ratio, which has no
    cancellation and one switch; the erfcx form of Ament et al. (2023, "Unexpected improvements to expected
    improvement", eq. 9) has two.

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
def log_ndtr(u: Float[Array, "*s"] | float) -> Float[Array, "*s"]:
    """log Phi(u), the log of the normal distribution function; value and derivative are finite far into the tail."""
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


def _eliminate(matrix: jax.Array) -> jax.Array:
    """Inverse of the Cholesky factor of one block: elimination in place, one rank-one update per column.

    Columns to the left of the current one hold the rows of the inverse so far, the others what remains of A.
    """
    n = matrix.shape[-1]
    rows = jnp.arange(n, dtype=jnp.int32)

    def column(k: jax.Array, both: jax.Array) -> jax.Array:
        here, below = rows == k, (rows > k)[:, None]
        row = jax.lax.dynamic_slice_in_dim(both, k, 1, axis=0)
        scale = 1.0 / jnp.sqrt(jax.lax.dynamic_slice_in_dim(row, k, 1, axis=1))
        share = -jax.lax.dynamic_slice_in_dim(both, k, 1, axis=1) * (scale * scale)
        share = jnp.where(below, share, jnp.where(here[:, None], scale, 0.0))
        kept = jnp.where(here[:, None] | (here[None, :] & below), 0.0, both)
        return kept + share * jnp.where(here[None, :], 1.0, row)

    inverse = jnp.tril(jax.lax.fori_loop(0, n, column, matrix))
    # a failed pivot makes the rows below it NaN, but not those above
    return inverse + jnp.where(jnp.isfinite(inverse[-1, -1]), 0.0, jnp.nan).astype(matrix.dtype)


def cholesky_inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse R of the Cholesky factor, R A R^T = I; NaN where the matrix is not positive definite.

    No LAPACK and no triangular solves: blocks of 32 rows are eliminated, larger matrices are halved recursively with
    matrix products. On CUDA, except for large batches, cuSOLVER and cuBLAS compute it in two calls, where this would
    launch a kernel per column. Posteriors and gradients need no solves; log det(A) is ``-2 sum(log(diag(R)))``.

    Args:
        matrix: float[n, n], symmetric, n a power of two.

    Returns:
        Lower triangular float[n, n].

    >>> cholesky_inverse(jnp.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[0.5, 0.0], [-0.25, 0.5]]
    """
    n = matrix.shape[-1]
    if n & (n - 1):
        raise ValueError(f"matrix: expected a power of two as size, got {n}")
    return _factored(matrix)


def _halved(matrix: jax.Array) -> jax.Array:
    """`cholesky_inverse` by recursive halving and elimination."""
    n = matrix.shape[-1]
    if n <= _LEAF:
        return _eliminate(matrix)
    half = n // 2
    upper, corner, lower = matrix[:half, :half], matrix[half:, :half], matrix[half:, half:]
    zero = jnp.zeros_like(upper)
    if n <= _LOOPED:

        def one(i: jax.Array, halves: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            first = halves[1]  # zero in the first iteration, so that nothing is subtracted from the upper half
            below = corner @ first.T
            return first, _halved(jnp.where(i == 0, upper, lower) - below @ below.T), below

        first, second, below = jax.lax.fori_loop(0, 2, one, (zero, zero, zero))
    else:
        first = _halved(upper)
        below = corner @ first.T
        second = _halved(lower - below @ below.T)
    return jnp.block([[first, zero], [-(second @ below) @ first, second]])


_factored = by_library(triangular_inverse)(_halved)
_eliminated = by_library(triangular_inverse)(_eliminate)


def triangle_gram(root: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """R^T R of a lower triangular R, in little more than a third of the operations of a product.

    For the R of `cholesky_inverse` this is the inverse of its matrix.

    Args:
        root: float[n, n], zero above the diagonal.

    >>> triangle_gram(jnp.array([[0.5, 0.0], [-0.25, 0.5]])).tolist()
    [[0.3125, -0.125], [-0.125, 0.25]]
    """
    n = root.shape[-1]
    if n <= _WHOLE or n % 2:
        return root.T @ root
    half = n // 2
    first, below, second = root[:half, :half], root[half:, :half], root[half:, half:]
    corner = second.T @ below
    return jnp.block([[triangle_gram(first) + below.T @ below, corner.T], [corner, triangle_gram(second)]])


def jittered_cholesky_inverse(
    matrix: Float[Array, "n n"], scale: Float[Array, ""]
) -> tuple[Float[Array, "n n"], Float[Array, ""]]:
    """`cholesky_inverse` with the smallest sufficient jitter.

    The first of 0, 1e-8, 1e-6, 1e-4 (times ``scale``, and not below the dtype's resolution) that makes the factor
    finite is added to the diagonal.

    Args:
        matrix: float[n, n]. scale: float[], the size of the diagonal.

    Returns:
        ``(R, jitter)``; NaN only if even the last jitter fails.
    """
    eps = float(np.finfo(matrix.dtype).eps)
    ladder = jnp.asarray([0.0, max(1e-8, 4 * eps), max(1e-6, 64 * eps), 1e-4], matrix.dtype) * scale
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    factored = _eliminated if len(matrix) <= _ONCE else cholesky_inverse

    def bad(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        i, inverse = carry
        return (i < 3) & ((i < 0) | ~jnp.all(jnp.isfinite(inverse)))

    def retry(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        i = carry[0] + 1
        return i, factored(matrix + ladder[i] * eye)

    i, inverse = jax.lax.while_loop(bad, retry, (jnp.int32(-1), jnp.zeros_like(matrix)))
    return inverse, ladder[i]
