"""Random numbers as a pure function of (seed, counter): cheap enough to be fused into the loop that uses them.

A stream is two 32-bit words, made from a JAX key. Element ``i`` of a stream is a keyed bijection of the 32-bit
integers at ``i``: a Weyl step, then three rounds of xor-shift and multiplication with the constants of Wellons'
``triple32`` (bias .021, https://github.com/skeeto/hash-prospector), with a key word before the first and the second
round. It uses integer arithmetic only, so a seed gives the same bits on every device, with and without ``vmap``.

Nothing is stored: XLA computes the numbers in registers inside the consumer's loop. The generator is meant for
search and simulation, not for cryptography; a stream holds at most 2**32 numbers.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from jhpo.kernels import threefry
from jhpo.kernels.shapes import Array, Float, Int, Key, UInt

_WEYL = np.uint32(0x9E3779B9)  # 2**32 / golden ratio, odd: a bijection that spreads small counters
_ROUNDS = tuple(np.uint32(c) for c in (0xED5AD4BB, 0xAC4C1B51, 0x31848BAB))
_SECOND = np.array([0x6A09E667, 0xBB67AE85], np.uint32)  # xor with a seed: the seed of the low words of doubles
_THIRD = np.array([0x3C6EF372, 0xA54FF53A], np.uint32)  # xor with a seed: the seed of the second doubles of pairs
_FOURTH = np.array([0x510E527F, 0x9B05688C], np.uint32)  # xor with the words of a key: the seed of its seeds


def seeds(key: Key[Array, ""], streams: int) -> UInt[Array, "streams 2"]:
    """Seeds of independent streams, ``uint32[streams, 2]``, from a key of any of JAX's implementations.

    >>> import jax
    >>> seeds(jax.random.key(0), 3).shape
    (3, 2)
    """
    return threefry.bits(key, (streams, 2))


def more_seeds(key: Key[Array, ""], streams: int) -> UInt[Array, "streams 2"]:
    """As `seeds`, from a key that is itself random, like one made by `jax.random.fold_in`: at the cost of one hash.

    JAX's own generator makes them in a loop of rounds, each of which takes as long as a move of forty particles.
    """
    word = jax.random.key_data(key).reshape(-1, 2)
    return scramble(jnp.arange(2 * streams, dtype=jnp.uint32).reshape(streams, 2), word[-1] ^ _FOURTH)


def bits(seed: UInt[Array, "2"], shape: tuple[int, ...]) -> UInt[Array, "..."]:
    """``uint32[shape]``: the element with row-major index i is the stream's i-th word.

    Args:
      seed: uint32[2].
      shape: at most 2**32 elements.

    Raises:
      ValueError: the shape has more elements than a stream.
    """
    if math.prod(shape) > 2**32:
        raise ValueError(f"shape: expected at most 2**32 elements, got {shape}")
    # the seed is added before the axes are broadcast together: only one short vector per axis is independent of it,
    # so XLA cannot hoist an array with a word per element out of a loop
    counter, stride = jnp.broadcast_to(seed[0], (1,) * len(shape)), 1
    for axis in reversed(range(len(shape))):
        place = jnp.arange(shape[axis], dtype=jnp.uint32) * np.uint32(stride % 2**32)
        counter = counter + place.reshape(tuple(-1 if a == axis else 1 for a in range(len(shape))))
        stride *= shape[axis]
    return _mix(counter, seed[1])


def scramble(counter: UInt[Array, "*s"], seed: UInt[Array, "2"]) -> UInt[Array, "*s"]:
    """The stream's words at given counters, ``uint32[...]``; different counters have different words."""
    return _mix(counter + seed[0], seed[1])


def _mix(shifted: jax.Array, word: jax.Array) -> jax.Array:
    h = shifted * _WEYL
    h = (h ^ (h >> np.uint32(17))) * _ROUNDS[0] ^ word
    h = (h ^ (h >> np.uint32(11))) * _ROUNDS[1]
    h = (h ^ (h >> np.uint32(15))) * _ROUNDS[2]
    return h ^ (h >> np.uint32(14))


def uniform(seed: UInt[Array, "2"], shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Float[Array, "..."]:
    """``float[shape]`` in [0, 1): multiples of 2**-24 in float32, of 2**-53 in float64.

    >>> import jax
    >>> u = uniform(seeds(jax.random.key(0), 1)[0], (1000, 10))
    >>> bool((u >= 0).all() and (u < 1).all() and abs(u.mean() - 0.5) < 0.01)
    True
    """
    word = bits(seed, shape)
    if jnp.dtype(dtype) == jnp.float32:
        return unit(word)
    low = bits(seed ^ _SECOND, shape)
    high = (word >> np.uint32(5)).astype(jnp.int32).astype(dtype)
    return (high * jnp.asarray(2.0**26, dtype) + (low >> np.uint32(6)).astype(jnp.int32).astype(dtype)) * jnp.asarray(
        2.0**-53, dtype
    )


def unit(words: UInt[Array, "*s"]) -> Float[Array, "*s"]:
    """``float32[...]`` in [0, 1): the upper 24 bits of words."""
    # via int32, whose conversion to float is one instruction on every processor
    return (words >> np.uint32(8)).astype(jnp.int32).astype(jnp.float32) * np.float32(2.0**-24)


def uniform_pair(
    seed: UInt[Array, "2"], shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> tuple[jax.Array, jax.Array]:
    """Two independent ``float[shape]`` in (0, 1), in float32 for the cost of one.

    In float32 they are the halves of one word, odd multiples of 2**-17: fine enough for the weights of two attractions,
    too coarse for positions. In float64 they are as fine as those of `uniform`.

    >>> import jax
    >>> a, b = uniform_pair(seeds(jax.random.key(0), 1)[0], (1000, 10))
    >>> bool((a > 0).all() and (b < 1).all() and abs(jnp.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.05)
    True
    """
    if jnp.dtype(dtype) != jnp.float32:
        return uniform(seed, shape, dtype), uniform(seed ^ _THIRD, shape, dtype)
    word = bits(seed, shape)
    halves = (word >> np.uint32(16), word & np.uint32(0xFFFF))
    return tuple((h.astype(jnp.int32).astype(dtype) + np.float32(0.5)) * np.float32(2.0**-16) for h in halves)  # type: ignore[return-value]


def normal(seed: UInt[Array, "2"], shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> jax.Array:
    """``float[shape]`` of the standard normal distribution, by inversion; within 5.4 standard deviations in float32."""
    return invert(uniform(seed, shape, dtype))


def invert(u: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Standard normal numbers from the output of `uniform` or `unit`: the quantiles at the centres of its cells."""
    half = jnp.asarray(2.0**-25 if u.dtype == jnp.float32 else 2.0**-54, u.dtype)
    centred = 2 * (u - jnp.asarray(0.5, u.dtype) + half)
    return jnp.asarray(math.sqrt(2.0), u.dtype) * lax.erf_inv(centred)


def integers(seed: UInt[Array, "2"], shape: tuple[int, ...], below: jax.Array | int) -> Int[Array, "..."]:
    """``int32[shape]`` in [0, below); the share of a value is off by at most ``below`` / 2**32."""
    return scale(bits(seed, shape), below)


def scale(words: UInt[Array, "*s"], below: jax.Array | int) -> Int[Array, "*s"]:
    """``int32[...]`` in [0, below): floor(word * below / 2**32), without a division.

    The 64-bit product is assembled from the products of 16-bit halves.
    """
    half, mask, below = np.uint32(16), np.uint32(0xFFFF), jnp.asarray(below, jnp.uint32)
    high, low, by_high, by_low = words >> half, words & mask, below >> half, below & mask
    middle = high * by_low + (low * by_low >> half)
    carry = (low * by_high + (middle & mask)) >> half
    return (high * by_high + (middle >> half) + carry).astype(jnp.int32)
