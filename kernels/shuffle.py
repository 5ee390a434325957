"""A random permutation that is evaluated where it is needed, in O(1) memory: the order of the training data."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Morris, Rogaway and Stegers prove security from a few rounds times log2(n) on; for shuffled data the
# mixing of 12 rounds cannot be told from a uniform permutation by the tests beside this file.
ROUNDS = 12


def _hash(x: jax.Array, salt: jax.Array) -> jax.Array:
    """32 mixed bits of ``x`` and ``salt``: the finaliser of MurmurHash3."""
    x = x ^ salt
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
    return x ^ (x >> jnp.uint32(16))


def permuted(key: jax.Array, position: jax.Array, n: int) -> jax.Array:
    """Images of ``position`` under a random permutation of ``range(n)``: the swap-or-not shuffle.

    Every round pairs x with (k - x) mod n and swaps the pair if a hashed bit of its larger element says so; this is
    a bijection whatever the bits are. The whole permutation is never built, so a batch costs O(batch).

    Args:
      key: which permutation.
      position: ``int32[...]`` in [0, n).
      n: number of elements, 1 <= n <= 2**31 - 1.

    Returns:
      ``int32[...]``, distinct for distinct positions.

    Source: Hoang, Morris, Rogaway, "An enciphering scheme based on a card shuffle", CRYPTO 2012, figure 1.

    >>> sorted(permuted(jax.random.key(0), jnp.arange(5), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    rounds = jax.random.bits(key, (ROUNDS, 2), jnp.uint32)
    size = jnp.uint32(n)

    x = position.astype(jnp.uint32)
    for r in range(ROUNDS):
        shift, salt = rounds[r, 0] % size, rounds[r, 1]
        # shift - x + n stays in range: both are below n <= 2^31
        partner = (shift + (size - x)) % size
        larger = jnp.maximum(x, partner)
        x = jnp.where((_hash(larger, salt) & jnp.uint32(1)) == 1, partner, x)
    return x.astype(jnp.int32)


def batch_positions(t: jax.Array, n: int, batch: int) -> tuple[jax.Array, jax.Array]:
    """Epoch and positions of the rows of batch ``t``: ``uint32[]``, ``int32[batch]``.

    An epoch has ``n // batch`` batches; the rows that are left over differ from one epoch to the next.
    """
    t = jnp.asarray(t, jnp.int32)
    per_epoch = n // batch
    start = (t % per_epoch) * batch
    return (t // per_epoch).astype(jnp.uint32), start + jnp.arange(batch, dtype=jnp.int32)


def batch_rows(key: jax.Array, t: jax.Array, n: int, batch: int) -> jax.Array:
    """Rows of minibatch ``t`` of a run through the data in a fresh random order each epoch: ``int32[batch]``.

    The rows follow from the key and ``t`` alone, so that a batch can be made again at any time.

    >>> epoch = jnp.concatenate([batch_rows(jax.random.key(1), t, 6, 2) for t in jnp.arange(3)])
    >>> sorted(epoch.tolist())
    [0, 1, 2, 3, 4, 5]
    """
    epoch, positions = batch_positions(t, n, batch)
    return permuted(jax.random.fold_in(key, epoch), positions, n)
