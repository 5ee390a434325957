"""Layers for Flax nnx that take traced hyperparameters: dropout rates, and numbers of live units (see `jhpo.linen`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

from jhpo.kernels.trees import Number
from jhpo.training.layers import dropout
from jhpo.training.live import Live, LiveAttention, batch_mask, check_ungrouped, live_heads_of, live_init, mask_units

_LECUN = nnx.initializers.lecun_normal()  # flax's default


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


class Linear(nnx.Linear):
    """`flax.nnx.Linear` of which ``live`` units exist; see `jhpo.linen` for ``live`` and ``live_inputs``.

    >>> Linear(3, 4, live=2, rngs=nnx.Rngs(0))(jax.numpy.ones((1, 3)))[0, 2:].tolist()
    [0.0, 0.0]
    """

    def __init__(
        self, in_features: int, out_features: int, *, live: Live = None, live_inputs: Live = None, **options: Any
    ) -> None:
        options["kernel_init"] = live_init(options.get("kernel_init", _LECUN), inputs=live_inputs, outputs=live)
        super().__init__(in_features, out_features, **options)
        self.live = _given(live)

    def __call__(self, inputs: jax.Array, **options: Any) -> jax.Array:
        """``float[..., out_features]``."""
        return _masked(super().__call__(inputs, **options), self.live)


class Conv(nnx.Conv):
    """`flax.nnx.Conv` of which ``live`` channels exist; without ``feature_group_count``."""

    def __init__(
        self, in_features: int, out_features: int, kernel_size: int | Sequence[int], *,
        live: Live = None, live_inputs: Live = None, **options: Any,
    ) -> None:  # fmt: skip
        check_ungrouped(options.get("feature_group_count", 1))
        options["kernel_init"] = live_init(options.get("kernel_init", _LECUN), inputs=live_inputs, outputs=live)
        super().__init__(in_features, out_features, kernel_size, **options)
        self.live = _given(live)

    def __call__(self, inputs: jax.Array, **options: Any) -> jax.Array:
        """``float[..., out_features]``."""
        return _masked(super().__call__(inputs, **options), self.live)


class LayerNorm(nnx.LayerNorm):
    """`flax.nnx.LayerNorm` over the live units alone."""

    def __init__(self, num_features: int, *, live: Live = None, **options: Any) -> None:
        options["scale_init"] = live_init(options.get("scale_init", nnx.initializers.ones), outputs=live)
        super().__init__(num_features, **options)
        self.live = _given(live)

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """``float[..., num_features]``."""
        return _masked(super().__call__(x, mask=_where(x, self.live, mask)), self.live)


class RMSNorm(nnx.RMSNorm):
    """`flax.nnx.RMSNorm` over the live units alone."""

    def __init__(self, num_features: int, *, live: Live = None, **options: Any) -> None:
        options["scale_init"] = live_init(options.get("scale_init", nnx.initializers.ones), outputs=live)
        super().__init__(num_features, **options)
        self.live = _given(live)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """``float[..., num_features]``."""
        return _masked(super().__call__(x, mask=_where(x, self.live, mask)), self.live)


class BatchNorm(nnx.BatchNorm):
    """`flax.nnx.BatchNorm` of which ``live`` channels exist; its statistics are those of the live rows of a batch."""

    def __init__(self, num_features: int, *, live: Live = None, **options: Any) -> None:
        options["scale_init"] = live_init(options.get("scale_init", nnx.initializers.ones), outputs=live)
        super().__init__(num_features, **options)
        self.live = _given(live)

    def __call__(self, x: jax.Array, **options: Any) -> jax.Array:
        """``float[..., num_features]``."""
        if options.get("mask") is None:
            options["mask"] = batch_mask(x)
        return _masked(super().__call__(x, **options), self.live)


class MultiHeadAttention(nnx.MultiHeadAttention):
    """`flax.nnx.MultiHeadAttention` of which ``live_heads`` heads and ``live`` outputs exist.

    A head keeps its size, ``qkv_features / num_heads``, which has to be given.
    """

    def __init__(
        self, num_heads: int, in_features: int, qkv_features: int | None = None, *,
        live_heads: Live = None, live: Live = None, live_inputs: Live = None, **options: Any,
    ) -> None:  # fmt: skip
        size, init = live_heads_of(live_heads, num_heads, qkv_features), options.get("kernel_init", _LECUN)
        last = options.get("out_kernel_init") or init
        options["kernel_init"] = live_init(init, inputs=live_inputs, outputs=size)
        options["out_kernel_init"] = live_init(last, inputs=size, outputs=live)
        if live_heads is not None:
            attention = options.get("attention_fn", nnx.dot_product_attention)
            options["attention_fn"] = LiveAttention(attention, live_heads)
        super().__init__(num_heads, in_features, qkv_features, **options)
        self.live = _given(live)

    def __call__(self, *inputs: jax.Array, **options: Any) -> jax.Array:
        """``float[..., length, features]``."""
        return _masked(super().__call__(*inputs, **options), self.live)


def _given(live: Live) -> Given | None:
    return None if live is None else Given(jax.numpy.asarray(live, jax.numpy.int32))


def _masked(x: jax.Array, live: Given | None) -> jax.Array:
    return x if live is None else mask_units(x, live[...])


def _where(x: jax.Array, live: Given | None, mask: jax.Array | None) -> jax.Array | None:
    if live is None:
        return mask
    there = mask_units(jax.numpy.ones(x.shape, bool), live[...])
    return there if mask is None else there & mask
