"""Sobol points in up to 1,024 dimensions, computed from a counter and Owen-scrambled by hashing."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jhpo.kernels.shapes import Array, Float, Int, UInt

MAX_DIM = 1024
_BITS = 32
_BLOCK = 256  # points that share the upper bits of their index


def _primitive_polynomials(count: int) -> list[int]:
    """The first ``count`` primitive polynomials over GF(2), as bit masks, by degree and value.

    A polynomial p of degree s is primitive if x has order 2^s - 1 modulo p.
    """
    found: list[int] = []
    degree = 1
    while len(found) < count:
        order = 2**degree - 1
        factors = _prime_factors(order)
        for poly in range(2**degree + 1, 2 ** (degree + 1), 2):
            if _power(2, order, poly, degree) == 1 and all(
                _power(2, order // f, poly, degree) != 1 for f in factors if f != order
            ):
                found.append(poly)
                if len(found) == count:
                    break
        degree += 1
    return found


def _prime_factors(n: int) -> list[int]:
    out, p = [], 2
    while p * p <= n:
        if n % p == 0:
            out.append(p)
            while n % p == 0:
                n //= p
        p += 1
    return out + ([n] if n > 1 else [])


def _multiply(a: int, b: int, poly: int, degree: int) -> int:
    out = 0
    while b:
        if b & 1:
            out ^= a
        a <<= 1
        if a >> degree & 1:
            a ^= poly
        b >>= 1
    return out


def _power(base: int, exponent: int, poly: int, degree: int) -> int:
    base = base ^ poly if degree == 1 else base
    out = 1
    while exponent:
        if exponent & 1:
            out = _multiply(out, base, poly, degree)
        base = _multiply(base, base, poly, degree)
        exponent >>= 1
    return out


@functools.cache
def direction_numbers(dim: int) -> np.ndarray:
    """``uint32[dim, 32]`` direction numbers.

    Dimension 0 is the van der Corput sequence; the others follow the recurrence of Bratley and Fox (1988, Algorithm
    659) with odd initial numbers drawn from a generator with a fixed seed. With a random scramble on top their exact
    choice matters little, and no table has to be shipped.

    Raises:
      ValueError: ``dim`` is not in [1, `MAX_DIM`].
    """
    if not 1 <= dim <= MAX_DIM:
        raise ValueError(f"dim: expected an integer in [1, {MAX_DIM}], got {dim}")
    out = np.zeros((dim, _BITS), np.uint64)
    out[0] = 1 << np.arange(_BITS - 1, -1, -1, dtype=np.uint64)
    rng = np.random.default_rng(20220101)
    for j, poly in enumerate(_primitive_polynomials(dim - 1) if dim > 1 else [], start=1):
        s = poly.bit_length() - 1
        m = [int(rng.integers(0, 2**k)) * 2 + 1 for k in range(s)]
        for k in range(s, _BITS):
            new = m[k - s] ^ (m[k - s] << s)
            for i in range(1, s):
                if poly >> (s - i) & 1:
                    new ^= m[k - i] << i
            m.append(new)
        out[j] = [m[k] << (_BITS - 1 - k) for k in range(_BITS)]
    return out.astype(np.uint32)


def _reverse_bits(x: jax.Array) -> jax.Array:
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        m = jnp.uint32(mask)
        x = ((x >> shift) & m) | ((x & m) << shift)
    return (x >> 16) | (x << 16)


def _hash_owen(x: jax.Array, seed: jax.Array) -> jax.Array:
    """Nested uniform scramble of reversed bits: Laine and Karras (2011), constants of Vegdahl (2021)."""
    x = x ^ (x * jnp.uint32(0x3D20ADEA))
    x = x + seed
    x = x * ((seed >> 16) | jnp.uint32(1))
    x = x ^ (x * jnp.uint32(0x05526C56))
    x = x ^ (x * jnp.uint32(0x53A22864))
    return x


def _plain(index: jax.Array, dim: int) -> jax.Array:
    """``uint32[n, dim]``: the points of indices ``uint32[n]``, not scrambled, as 32 binary digits."""
    gray = index ^ (index >> 1)
    directions = jnp.asarray(direction_numbers(dim))
    bits = ((gray[:, None] >> jnp.arange(_BITS, dtype=jnp.uint32)[None]) & jnp.uint32(1)).astype(bool)
    terms = jnp.where(bits[:, None, :], directions[None], jnp.uint32(0))
    return jax.lax.reduce(terms, np.uint32(0), jax.lax.bitwise_xor, (2,))


def sobol(
    start: Int[Array, ""] | UInt[Array, ""] | int,
    n: int,
    dim: int,
    seed: UInt[Array, "dim"] | None = None,
    dtype: DTypeLike | None = None,
) -> Float[Array, "n dim"]:
    """Points ``start, ..., start + n - 1`` of the Sobol sequence, ``float[n, dim]`` in [0, 1).

    Args:
      start: index of the first point, uint32; may be traced.
      n: number of points; blocks of a power of two are balanced in every dimension.
      dim: dimensions, at most `MAX_DIM`.
      seed: ``uint32[dim]`` for an Owen scramble (Owen 1995; hashed), or None for the plain sequence.
      dtype: of the points; float32, or float64 with x64 on, by default.

    >>> sobol(0, 4, 2).tolist()
    [[0.0, 0.0], [0.5, 0.5], [0.75, 0.25], [0.25, 0.75]]
    """
    dtype = jnp.result_type(float) if dtype is None else dtype
    start = jnp.asarray(start, jnp.uint32)
    if n <= 2 * _BLOCK:
        points = _plain(start + jnp.arange(n, dtype=jnp.uint32), dim)
    else:  # a point is the exclusive or of those of the upper and the lower bits of its index; reads would be slower
        upper = (start // np.uint32(_BLOCK) + jnp.arange(n // _BLOCK + 2, dtype=jnp.uint32)) * np.uint32(_BLOCK)
        lower = jnp.arange(_BLOCK, dtype=jnp.uint32)
        blocks = (_plain(upper, dim)[:, None, :] ^ _plain(lower, dim)[None]).reshape(-1, dim)
        points = jax.lax.dynamic_slice_in_dim(blocks, (start % np.uint32(_BLOCK)).astype(jnp.int32), n)
    if seed is not None:
        points = _reverse_bits(_hash_owen(_reverse_bits(points), jnp.asarray(seed, jnp.uint32)[None]))
    # float32 resolves 24 bits below one
    return (points >> 8).astype(dtype) * jnp.asarray(2.0**-24, dtype)
