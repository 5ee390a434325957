"""Layers for Flax nnx that take traced hyperparameters."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from jhpo.kernels.trees import Number
from jhpo.training.layers import dropout


class Given(nnx.Variable):
    """A value that the constructor got from the hyperparameters: neither trained nor carried between steps."""


class Dropout(nnx.Dropout):
    """`flax.nnx.Dropout` with a rate that may be traced: ``Dropout(hp["rate"], rngs=rngs)``.

    >>> layer = Dropout(0.5, deterministic=True)
    >>> layer(jax.numpy.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, rate: Number, **options: Any) -> None:
        super().__init__(0.0, **options)
        self.given = Given(jax.numpy.asarray(rate, jax.numpy.result_type(float)))

    def __call__(
        self,
        inputs: jax.Array,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
    ) -> jax.Array:
        """``inputs`` with elements dropped."""
        off = self.deterministic if deterministic is None else deterministic
        if off:
            return inputs
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError("Dropout: expected rngs, in the constructor or the call, got None")
        if isinstance(source, nnx.Rngs):
            source = source[self.rng_collection]
        key = source() if callable(source) else source
        broadcast = {d % inputs.ndim for d in self.broadcast_dims}
        shape = [1 if i in broadcast else n for i, n in enumerate(inputs.shape)]
        return inputs * dropout(jax.numpy.ones(shape, inputs.dtype), self.given[...], key)
