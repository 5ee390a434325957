"""JAX's usual generator, threefry-2x32, as one kernel: the keys and bits of `jax.random`.

On a CPU `jax.random` hashes in a loop of rounds, which is some eight kernels and as many copies a hash, to compile and
to run. Here the rounds are written out, and what comes of them is computed once, however many consumers there are.

What is no part of a traced program is left to `jax.random`, which has compiled it already; so are keys of other
generators, and all but `fold_in` where ``jax_threefry_partitionable`` is off.

Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", with 20 rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jhpo.kernels.internals import is_traced
from jhpo.kernels.loops import apart

IMPL = "threefry2x32"
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
W = TypeVar("W")


def rounds(key: tuple[W, W], counter: tuple[W, W], wrapped: Callable[[Any], W]) -> tuple[W, W]:
    """The hash of a counter by a key, two words each: uint32, or wider integers that ``wrapped`` cuts to 32 bits."""
    a, b = key
    schedule: Any = (a, b, a ^ b ^ _PARITY)  # type: ignore[operator]
    x: Any = wrapped(counter[0] + a)  # type: ignore[operator]
    y: Any = wrapped(counter[1] + b)  # type: ignore[operator]
    for i in range(5):
        for by in _ROTATIONS[i % 2]:
            x = wrapped(x + y)
            y = (wrapped(y << by) | (y >> (32 - by))) ^ x
        x = wrapped(x + schedule[(i + 1) % 3])
        y = wrapped(y + schedule[(i + 2) % 3] + (i + 1))
    return x, y


def is_key(leaf: object) -> bool:
    """Whether it is a typed key, an array of them, or the abstract value of one.

    >>> is_key(jax.random.key(0)), is_key(jax.random.PRNGKey(0)), is_key("key")
    (True, False, False)
    """
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def usual(key: jax.Array) -> bool:
    """Whether it is a typed key of JAX's usual generator."""
    return is_key(key) and str(jax.random.key_impl(key)) == IMPL


def fold_in(key: jax.Array, data: ArrayLike) -> jax.Array:
    """`jax.random.fold_in` of a key, typed or not.

    >>> bool(fold_in(jax.random.key(0), 7) == jax.random.fold_in(jax.random.key(0), 7))
    True
    """
    number = jnp.asarray(data, jnp.uint32)
    if not _compiled(key):
        return jax.random.fold_in(key, number)
    return jax.random.wrap_key_data(_pairs(None, jax.random.key_data(key), number), impl=IMPL)


def split(key: jax.Array, num: int = 2) -> jax.Array:
    """`jax.random.split`: ``key[num]``.

    >>> bool((split(jax.random.key(0), 3) == jax.random.split(jax.random.key(0), 3)).all())
    True
    """
    if not _counted(key):
        return jax.random.split(key, num)
    counter = jnp.arange(num, dtype=jnp.uint32)
    return jax.random.wrap_key_data(_pairs(None, jax.random.key_data(key), counter), impl=IMPL)


def bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`jax.random.bits` of 32 bits: ``uint32[shape]``.

    >>> bool((bits(jax.random.key(0), (2, 3)) == jax.random.bits(jax.random.key(0), (2, 3))).all())
    True
    """
    if not _counted(key):
        return jax.random.bits(key, shape, jnp.uint32)
    counter = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    return _words(None, jax.random.key_data(key), counter)


def _compiled(key: jax.Array) -> bool:
    """Whether the key is one of the usual generator, in a program that is being traced."""
    return is_traced(key) and usual(key)


def _counted(key: jax.Array) -> bool:
    """Whether it is `_compiled`, and each of several words is the hash of its own number."""
    config: Any = jax.config
    return bool(config.jax_threefry_partitionable) and _compiled(key)


@apart
def _pairs(_: None, key: jax.Array, low: jax.Array) -> jax.Array:
    """``uint32[..., 2]``: the hashes of counters (0, low)."""
    x, y = _hashed(key, low)
    first = jnp.arange(2, dtype=jnp.uint32) == 0
    return jnp.where(first, x[..., None], y[..., None])  # XLA writes out both ends of a concatenation, all rounds twice


@apart
def _words(_: None, key: jax.Array, low: jax.Array) -> jax.Array:
    """``uint32[...]``: a word of each."""
    x, y = _hashed(key, low)
    return x ^ y


def _hashed(key: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
    return rounds((key[0], key[1]), (jnp.zeros_like(low), low), lambda word: word)
