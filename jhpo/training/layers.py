"""Dropout with a traced rate; flax branches on the rate in Python, which fails for tracers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.kernels.trees import Number
from jhpo.keys import check_key


def dropout(x: jax.Array, rate: Number, key: jax.Array | None, deterministic: bool = False) -> jax.Array:
    """Dropout: each element is zero with probability ``rate``, the others are divided by ``1 - rate``.

    Args:
      x: ``float[...]``.
      rate: in [0, 1], a number or a traced ``float[]``; a rate of 1 gives zeros.
      key: ``key[]``; not used if deterministic.
      deterministic: return x as it is.

    >>> dropout(jnp.ones(4), 0.0, jax.random.key(0)).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    if deterministic:
        return x
    key = check_key(key)
    keep = 1 - jnp.asarray(rate, x.dtype)
    wide = jnp.dtype(jnp.float32) if keep.dtype.itemsize < 4 else keep.dtype  # probabilities finer than float16's
    kept = jax.random.uniform(key, x.shape, wide) < keep.astype(wide)
    # with a rate of 1 nothing is kept; the divisor 1 keeps the gradient finite
    return jnp.where(kept, x / jnp.where(keep > 0, keep, jnp.ones_like(keep)), jnp.zeros((), x.dtype))
