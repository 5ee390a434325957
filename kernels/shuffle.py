"""Random permutations evaluated pointwise in O(1) memory, for the order of the training data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jhpo.kernels.counter_random import scramble, seeds
from jhpo.kernels.shapes import Array, Int, Key, UInt

# An element that no round swaps stays in place, and two neighbours that every round treats alike stay neighbours. With
# 12 rounds either happens to 1 in 4,096 more than by chance, too few to matter in minibatches (the tests measure both).
# Cryptographic use, which this is not meant for, needs several times log2(n) rounds.
ROUNDS = 12

# `checkpoint_name` of the rows of batches, for rematerialisation policies: small, but expensive to recompute.
ROWS = "jhpo.kernels.shuffle.rows"


def _hash(x: jax.Array, salt: jax.Array) -> jax.Array:
    """32-bit hash of ``x`` and ``salt``: the finaliser of MurmurHash3."""
    x = x ^ salt
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
    return x ^ (x >> jnp.uint32(16))


def permuted(
    key: Key[Array, ""],
    position: Int[Array, "*s"],
    n: int | jax.Array,
    number: Int[Array, ""] | UInt[Array, ""] | int = 0,
) -> Int[Array, "*s"]:
    """Images of ``position`` under a random permutation of ``range(n)``: the swap-or-not shuffle.

    Every round pairs x with (k - x) mod n and swaps the pair depending on a hashed bit of its larger element; this is
    a bijection whatever the bits are. The whole permutation is never built, so a batch costs O(batch).

    Args:
      key: determines a sequence of permutations.
      position: ``int32[...]`` in [0, n).
      n: number of elements, 1 <= n <= 2**31 - 1; may be traced, ``int32[]``.
      number: ``uint32[]``, index of the permutation in the sequence.

    Returns:
      ``int32[...]``, distinct for distinct positions.

    Source: Hoang, Morris, Rogaway, "An enciphering scheme based on a card shuffle", CRYPTO 2012, figure 1.

    >>> sorted(permuted(jax.random.key(0), jnp.arange(5), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    # the seed does not depend on the number, so that a training loop need not hash the key at every step
    first = jnp.asarray(number, jnp.uint32) * jnp.uint32(2 * ROUNDS)
    rounds = scramble(first + jnp.arange(2 * ROUNDS, dtype=jnp.uint32), seeds(key, 1)[0])
    size = jnp.asarray(n).astype(jnp.uint32)

    x = position.astype(jnp.uint32)
    for r in range(ROUNDS):
        shift, salt = rounds[2 * r] % size, rounds[2 * r + 1]
        # shift - x + n stays in range: both are below n <= 2^31
        partner = (shift + (size - x)) % size
        larger = jnp.maximum(x, partner)
        x = jnp.where((_hash(larger, salt) & jnp.uint32(1)) == 1, partner, x)
    return x.astype(jnp.int32)


def batch_positions(
    t: jax.Array, n: int | jax.Array, batch: int | jax.Array, most: int | None = None
) -> tuple[jax.Array, jax.Array]:
    """Epoch and positions of the rows of batch ``t``: ``uint32[]``, ``int32[batch]``.

    An epoch has ``n // batch`` batches; the rows left over differ from one epoch to the next.

    Args:
      t: index of the batch. n: number of rows; may be traced, ``int32[]``.
      batch: its size, in [1, n].
      most: length of the result if the size is traced, ``int32[]``; the batch's rows are repeated to fill it.
    """
    t, size = jnp.asarray(t, jnp.int32), jnp.asarray(batch, jnp.int32)
    per_epoch = jnp.asarray(n, jnp.int32) // size
    start = (t % per_epoch) * size
    place = jnp.arange(batch if most is None else most, dtype=jnp.int32)
    return (t // per_epoch).astype(jnp.uint32), start + (place if most is None else place % size)


def batch_rows(
    key: jax.Array, t: jax.Array, n: int | jax.Array, batch: int | jax.Array, most: int | None = None
) -> jax.Array:
    """Rows of minibatch ``t``, ``int32[batch]``; every epoch visits the data in a new random order.

    The rows depend on the key and ``t`` only, so that a batch can be recomputed at any time. With ``most``, see
    `batch_positions`, the first ``batch`` of the result equal those without it.

    >>> epoch = jnp.concatenate([batch_rows(jax.random.key(1), t, 6, 2) for t in jnp.arange(3)])
    >>> sorted(epoch.tolist())
    [0, 1, 2, 3, 4, 5]
    """
    epoch, positions = batch_positions(t, n, batch, most)
    return checkpoint_name(permuted(key, positions, n, epoch), ROWS)
