"""Networks with a tunable width in one compiled program: layers of the largest width, masked."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, invalid
from jhpo.kernels.counter_random import invert, scramble, seeds, unit
from jhpo.structure import structured
from jhpo.training.networks import Adapted, Extra, Params
from jhpo.training.trainable import HP, State

# The counter of a weight is input * _MOST_UNITS + unit.
_MOST_UNITS = 2**16


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

    >>> mask_units(jnp.ones((2, 4)), 3).tolist()
    [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]]
    """
    units = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis % x.ndim)
    # a select, not a product: an infinite activation of a masked unit must not give NaN
    return jnp.where(units < jnp.asarray(width, jnp.int32), x, jnp.zeros((), x.dtype))


def live_units(x: jax.Array, live: jax.Array | int | None) -> jax.Array:
    """`mask_units` of the last axis; all of them for None."""
    return x if live is None else mask_units(x, live)


def check_ungrouped(groups: int) -> None:
    """Raises for convolutions with groups of channels, whose live channels are not the first ones.

    Raises:
      InvalidArgument: more than one group.
    """
    if groups != 1:
        raise invalid("feature_group_count", "1 for a convolution with live channels", groups)


def live_heads_of(live: Any, heads: int, features: int | None) -> Any:
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

    def __init__(self, attention: Callable[..., jax.Array], live: Any) -> None:
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
    inputs: Any
    outputs: Any

    def __call__(self, key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **options: Any) -> jax.Array:
        """``float[..., inputs, outputs]``."""
        values = self.init(key, shape, dtype, **options)
        if self.inputs is not None:
            share = shape[-2] / jnp.asarray(self.inputs, jnp.float32)
            values = mask_units(values * jnp.sqrt(share).astype(values.dtype), self.inputs, axis=-2)
        return values if self.outputs is None else mask_units(values, self.outputs)


def live_init(
    init: Callable[..., jax.Array], *, inputs: jax.Array | int | None = None, outputs: jax.Array | int | None = None
) -> LiveInit:
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


@functools.partial(structured, meta=["widths", "largest", "outputs", "activation"])
@dataclasses.dataclass(frozen=True)
class MaskedMLP(Adapted):
    """A multilayer perceptron whose hidden widths are hyperparameters; made by `masked_mlp`."""

    widths: tuple[str | int, ...]  # of the hidden layers: a name in hp, or a number
    largest: tuple[int, ...]  # padded widths
    outputs: int
    activation: Callable[[jax.Array], jax.Array]

    def _live(self, hp: HP) -> list[Any]:
        return [hp[w] if isinstance(w, str) else w for w in self.widths]

    def init(self, hp: HP, key: jax.Array, x: jax.Array) -> tuple[Params, Extra]:
        """He initialisation for the unmasked inputs; a weight depends on key and position, not on the padding."""
        live = [x.shape[-1], *self._live(hp)]
        sizes = [x.shape[-1], *self.largest, self.outputs]
        params = []
        for layer, (inputs, units) in enumerate(itertools.pairwise(sizes)):
            weights = mask_units(_weights(jax.random.fold_in(key, layer), inputs, units), live[layer], axis=0)
            if layer < len(self.widths):
                weights = mask_units(weights, live[layer + 1])  # norms of parameters see the smaller network
            scale = jnp.sqrt(2.0 / jnp.asarray(live[layer], jnp.float32))
            params.append({"w": weights * scale, "b": jnp.zeros((units,))})
        return params, {}

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """``float[batch, outputs]``."""
        for layer, width in zip(params[:-1], self._live(hp)):
            x = mask_units(self.activation(x @ layer["w"] + layer["b"][None]), width)
        return x @ params[-1]["w"] + params[-1]["b"][None], extra


def _weights(key: jax.Array, inputs: int, units: int) -> jax.Array:
    """``float32[inputs, units]`` standard normal numbers; those of a smaller layer are its top left corner."""
    rows, columns = (jax.lax.broadcasted_iota(jnp.uint32, (inputs, units), axis) for axis in (0, 1))
    return invert(unit(scramble(rows * jnp.uint32(_MOST_UNITS) + columns, seeds(key, 1)[0])))


def masked_mlp(
    widths: Sequence[str | int],
    largest: Sequence[int],
    outputs: int,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
) -> MaskedMLP:
    """A multilayer perceptron for `jhpo.supervised` with widths that may differ between members of one program.

    A member of width w has the same weights, outputs and training as a perceptron with w units, up to rounding in sums
    of a different length.

    Args:
      widths: of the hidden layers: names of hyperparameters, or numbers.
      largest: the padded width of each layer, an upper bound of its width.
      outputs: units of the last layer.
      activation: after each hidden layer.

    Raises:
      InvalidArgument: ``largest`` and ``widths`` differ in length, or sizes below 1.

    >>> import jhpo
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True), "width": jhpo.Int(2, 64, log=True)})
    >>> model = masked_mlp(["width"], [64], outputs=10)
    >>> params, _ = model.init({"width": 8}, jax.random.key(0), jnp.ones((1, 3)))
    >>> [layer["w"].shape for layer in params]
    [(3, 64), (64, 10)]
    """
    if len(widths) != len(largest):
        raise invalid("largest", f"one bound for each of the {len(widths)} widths", list(largest))
    for width, bound in zip(widths, largest):
        check_integer("largest", bound, high=_MOST_UNITS)
        if not isinstance(width, str):
            check_integer("widths", width, high=bound)
    return MaskedMLP(tuple(widths), tuple(int(n) for n in largest), check_integer("outputs", outputs), activation)
