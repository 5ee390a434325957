"""Shapes of which a part is live: masks of units and blocks, initialisers and attention that know of them."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jhpo.errors import invalid
from jhpo.space.categories import check_at_most
from jhpo.values.pytrees import State

Live = jax.Array | int | None  # live units, an integer or a traced int32[]; None for all


def mask_units(x: jax.Array, width: jax.Array | int, axis: int = -1) -> jax.Array:
    """Activations with units from ``width`` on set to zero, so that the layer behaves as if it had ``width`` units.

    Masked units neither reach the next layer nor get a gradient. Apply it after the nonlinearity; for attention heads
    or channels on their axis. Scale the initialisation of the next layer to ``width`` inputs instead of the padded
    number, as `masked_mlp` does.

    Args:
      x: ``float[..., units, ...]``.
      width: number of units to keep, an integer or a traced ``int32[]``.
      axis: the axis of the units.

    Returns:
      An array of the shape and dtype of ``x``.

    Raises:
      InvalidArgument: the hyperparameter may be more than there are units.

    >>> mask_units(jnp.ones((2, 4)), 3).tolist()
    [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]]
    """
    check_at_most("width", width, x.shape[axis], "the units that there are")
    units = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis % x.ndim)
    # a select, not a product: an infinite activation of a masked unit must not give NaN
    return jnp.where(units < jnp.asarray(width, jnp.int32), x, jnp.zeros((), x.dtype))


# of the batch that a model is applied to, bool[n]; None where all of its rows are live
_ROWS: contextvars.ContextVar[jax.Array | None] = contextvars.ContextVar("rows", default=None)


@contextlib.contextmanager
def batch_of(rows: jax.Array | None) -> Iterator[None]:
    """Within it models are applied to a batch of which only these rows are live, ``bool[n]``; None for all."""
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


def batch_mask(x: jax.Array) -> jax.Array | None:
    """``bool[n, 1, ...]`` for a batch ``[n, ...]`` of which some rows are padding, as `batch_of` says; None if none is.

    For layers that compute statistics of a batch where its size is a hyperparameter: flax's BatchNorm takes ``mask``.

    >>> with batch_of(jnp.array([True, False])):
    ...     batch_mask(jnp.zeros((2, 3))).tolist()
    [[True], [False]]
    """
    rows = _ROWS.get()
    if rows is None or x.shape[:1] != rows.shape:
        return None
    return rows.reshape(-1, *(1,) * (x.ndim - 1))


def live_units(x: jax.Array, live: Live) -> jax.Array:
    """`mask_units` of the last axis; all of them for None."""
    return x if live is None else mask_units(x, live)


def check_ungrouped(groups: int) -> None:
    """Raises for convolutions with groups of channels, whose live channels are not the first ones.

    Raises:
      InvalidArgument: more than one group.
    """
    if groups != 1:
        raise invalid("feature_group_count", "1 for a convolution with live channels", groups)


def live_heads_of(live: Live, heads: int, features: int | None) -> jax.Array | None:
    """Live features of the heads of an attention layer, ``int32[]``; None for all.

    Raises:
      InvalidArgument: the number of features is not given, so that the size of a head would depend on the input.
    """
    if live is None:
        return None
    if features is None or features % heads:
        raise invalid("qkv_features", f"a multiple of num_heads={heads}, the size of all heads", features)
    return jnp.asarray(live, jnp.int32) * jnp.int32(features // heads)


class LiveAttention:
    """An attention function whose heads from ``live`` on are zero."""

    def __init__(self, attention: Callable[..., jax.Array], live: jax.Array | int) -> None:
        self.attention, self.live = attention, live

    def __call__(self, *inputs: Any, **options: Any) -> jax.Array:
        """``float[..., length, heads, size]``."""
        return mask_units(self.attention(*inputs, **options), self.live, axis=-2)


def mask_block(x: State, y: State, index: int, depth: jax.Array | int) -> State:
    """The output ``y`` of block number ``index`` if the network has more than ``index`` blocks, else its input ``x``.

    A network of ``depth`` blocks in a program of more: ``x = mask_block(x, x + block(x), i, hp["depth"])`` for each
    block i. Blocks beyond the depth get no gradient. They are computed all the same, so that a member costs what the
    deepest one costs.

    Args:
      x, y: arrays or trees of one structure.
      index: of the block, from 0.
      depth: number of blocks, an integer or a traced ``int32[]``.

    >>> [mask_block(1.0, 2.0, i, 2).item() for i in range(3)]
    [2.0, 2.0, 1.0]
    """
    there = jnp.int32(index) < jnp.asarray(depth, jnp.int32)
    return jax.tree.map(lambda a, b: jnp.where(there, b, a), x, y)


@dataclasses.dataclass(frozen=True, eq=False)
class LiveInit:
    """See `live_init`."""

    init: Callable[..., jax.Array]
    inputs: Live
    outputs: Live

    def __call__(
        self, key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, **options: Any
    ) -> jax.Array:
        """``float[..., inputs, outputs]``."""
        values = self.init(key, shape, dtype, **options)
        if self.inputs is not None:
            share = shape[-2] / jnp.asarray(self.inputs, jnp.float32)
            values = mask_units(values * jnp.sqrt(share).astype(values.dtype), self.inputs, axis=-2)
        return values if self.outputs is None else mask_units(values, self.outputs)


def live_init(init: Callable[..., jax.Array], *, inputs: Live = None, outputs: Live = None) -> LiveInit:
    """An initialiser of a padded kernel ``[..., inputs, outputs]`` of which some inputs and outputs are live.

    The scale is that for the live inputs, for initialisers whose variance is inverse to the number of inputs (LeCun,
    He, flax's default). Weights of masked units are zero and remain so, so that norms and decays of parameters see the
    smaller layer. The layers of `jhpo.linen` and `jhpo.nnx` use it; it serves any other layer with an initialiser too.

    Args:
      init: an initialiser ``init(key, shape, dtype)`` of JAX.
      inputs: live inputs, an integer or a traced ``int32[]``; None for all.
      outputs: live outputs, likewise.

    >>> kernel = live_init(jax.nn.initializers.ones, inputs=1, outputs=2)(jax.random.key(0), (4, 3))
    >>> kernel[:2].tolist()
    [[2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    """
    return LiveInit(init, inputs, outputs)
