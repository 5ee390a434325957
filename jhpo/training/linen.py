"""Layers for Flax linen that take traced hyperparameters: dropout rates, and numbers of live units.

`Dense`, `Conv`, `LayerNorm`, `RMSNorm`, `BatchNorm` and `MultiHeadAttention` are flax's own with further arguments:

- ``live``: how many of the layer's units (channels) exist, an integer or a traced ``int32[]``; the others are zero.
- ``live_inputs``: how many of its inputs exist, for the scale of the initialisation. The others must be zero, as they
  are behind such a layer; an activation f with f(0) != 0 needs `jhpo.mask_units` behind it.

None means all of them. A layer with w live units of n computes what flax's layer with w units computes, and its live
parameters, the first ones along each axis, get the same gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jhpo.kernels.trees import Number
from jhpo.training.layers import dropout
from jhpo.training.live import (
    Live,
    LiveAttention,
    LiveInit,
    check_ungrouped,
    live_heads_of,
    live_init,
    live_units,
    mask_units,
)


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


def _with_init(module: nn.Module, name: str, inputs: Live, outputs: Live) -> None:
    """Replaces an initialiser of a module that is being made; linen makes copies of modules that were made so."""
    init = getattr(module, name)
    if not isinstance(init, LiveInit):
        object.__setattr__(module, name, live_init(init, inputs=inputs, outputs=outputs))


class Dense(nn.Dense):
    """`flax.linen.Dense` of which ``live`` units exist.

    >>> layer = Dense(4, live=2)
    >>> layer.init_with_output(jax.random.key(0), jax.numpy.ones((1, 3)))[0][0, 2:].tolist()
    [0.0, 0.0]
    """

    live: Live = None
    live_inputs: Live = None

    def __post_init__(self) -> None:
        _with_init(self, "kernel_init", self.live_inputs, self.live)
        super().__post_init__()

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """``float[..., features]``."""
        return live_units(super().__call__(inputs), self.live)


class Conv(nn.Conv):
    """`flax.linen.Conv` of which ``live`` channels exist; without ``feature_group_count``."""

    live: Live = None
    live_inputs: Live = None

    def __post_init__(self) -> None:
        check_ungrouped(self.feature_group_count)
        _with_init(self, "kernel_init", self.live_inputs, self.live)
        super().__post_init__()

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """``float[..., features]``."""
        return live_units(super().__call__(inputs), self.live)


class LayerNorm(nn.LayerNorm):
    """`flax.linen.LayerNorm` over the live units alone."""

    live: Live = None

    def __post_init__(self) -> None:
        _with_init(self, "scale_init", None, self.live)
        super().__post_init__()

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """``float[..., features]``."""
        return _normalised(self, super().__call__, x, mask)


class RMSNorm(nn.RMSNorm):
    """`flax.linen.RMSNorm` over the live units alone."""

    live: Live = None

    def __post_init__(self) -> None:
        _with_init(self, "scale_init", None, self.live)
        super().__post_init__()

    def __call__(self, x: jax.Array, *, mask: jax.Array | None = None) -> jax.Array:
        """``float[..., features]``."""
        return _normalised(self, super().__call__, x, mask)


def _normalised(layer: Any, call: Callable[..., Any], x: jax.Array, mask: jax.Array | None) -> jax.Array:
    if layer.live is None:
        return call(x, mask=mask)
    there = mask_units(jax.numpy.ones(x.shape, bool), layer.live)
    return mask_units(call(x, mask=there if mask is None else there & mask), layer.live)


class BatchNorm(nn.BatchNorm):
    """`flax.linen.BatchNorm` of which ``live`` channels exist."""

    live: Live = None

    def __post_init__(self) -> None:
        _with_init(self, "scale_init", None, self.live)
        super().__post_init__()

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """``float[..., features]``."""
        return live_units(super().__call__(x, use_running_average, mask=mask), self.live)


class MultiHeadAttention(nn.MultiHeadDotProductAttention):
    """`flax.linen.MultiHeadDotProductAttention` of which ``live_heads`` heads and ``live`` outputs exist.

    A head keeps its size, ``qkv_features / num_heads``, which has to be given.
    """

    live_heads: Live = None
    live: Live = None
    live_inputs: Live = None

    def __post_init__(self) -> None:
        size, self_attention = live_heads_of(self.live_heads, self.num_heads, self.qkv_features), self.attention_fn
        if self.out_kernel_init is None:
            object.__setattr__(self, "out_kernel_init", self.kernel_init)
        _with_init(self, "out_kernel_init", size, self.live)
        _with_init(self, "kernel_init", self.live_inputs, size)
        if self.live_heads is not None and not isinstance(self_attention, LiveAttention):
            object.__setattr__(self, "attention_fn", LiveAttention(self_attention, self.live_heads))
        super().__post_init__()

    def __call__(self, *inputs: jax.Array, **options: Any) -> jax.Array:
        """``float[..., length, features]``."""
        return live_units(super().__call__(*inputs, **options), self.live)
