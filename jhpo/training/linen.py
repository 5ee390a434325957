"""Layers for Flax linen that take traced hyperparameters."""

from __future__ import annotations

import flax.linen as nn
import jax

from jhpo.kernels.trees import Number
from jhpo.training.layers import dropout


class Dropout(nn.Module):
    """`flax.linen.Dropout` with a rate that may be traced: ``Dropout(hp["rate"], deterministic=not train)(x)``.

    >>> layer = Dropout(0.5, deterministic=True)
    >>> layer.apply({}, jax.numpy.ones(2)).tolist()
    [1.0, 1.0]
    """

    rate: Number
    broadcast_dims: tuple[int, ...] = ()
    deterministic: bool | None = None
    rng_collection: str = "dropout"

    @nn.compact
    def __call__(self, inputs: jax.Array, deterministic: bool | None = None, rng: jax.Array | None = None) -> jax.Array:
        """``inputs`` with elements dropped."""
        off = nn.merge_param("deterministic", self.deterministic, deterministic)
        if off:
            return inputs
        key = self.make_rng(self.rng_collection) if rng is None else rng
        shape = [1 if i in {d % inputs.ndim for d in self.broadcast_dims} else n for i, n in enumerate(inputs.shape)]
        return inputs * dropout(jax.numpy.ones(shape, inputs.dtype), self.rate, key)
