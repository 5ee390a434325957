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
from jhpo.training.live import mask_units as mask_units
from jhpo.training.networks import Adapted, Extra, Params
from jhpo.training.trainable import HP
from jhpo.values.structure import structured

# The counter of a weight is input * _MOST_UNITS + unit; blocks of more inputs or units have seeds of their own.
_MOST_UNITS = 2**16


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
        """He initialisation for the unmasked inputs; a weight depends on key and position, not on the padding.

        Parameters have JAX's default float, as those of equinox modules: float64 if that is enabled.
        """
        dtype = jnp.result_type(float)
        live = [x.shape[-1], *self._live(hp)]
        sizes = [x.shape[-1], *self.largest, self.outputs]
        params = []
        for layer, (inputs, units) in enumerate(itertools.pairwise(sizes)):
            weights = _weights(jax.random.fold_in(key, layer), inputs, units).astype(dtype)
            weights = mask_units(weights, live[layer], axis=0)
            if layer < len(self.widths):
                weights = mask_units(weights, live[layer + 1])  # norms of parameters see the smaller network
            scale = jnp.sqrt(2.0 / jnp.asarray(live[layer], dtype))
            params.append({"w": weights * scale, "b": jnp.zeros((units,), dtype)})
        return params, {}

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """``float[batch, outputs]``, in the parameters' dtype whatever that of the inputs."""
        x = x.astype(params[0]["w"].dtype)
        for layer, width in zip(params[:-1], self._live(hp)):
            x = mask_units(self.activation(x @ layer["w"] + layer["b"][None]), width)
        return x @ params[-1]["w"] + params[-1]["b"][None], extra


def _weights(key: jax.Array, inputs: int, units: int) -> jax.Array:
    """``float32[inputs, units]`` standard normal numbers; those of a smaller layer are its top left corner."""
    heights, breadths = ([min(_MOST_UNITS, n - at) for at in range(0, n, _MOST_UNITS)] for n in (inputs, units))
    own = iter(seeds(key, len(heights) * len(breadths)))
    words = [[_words(next(own), n, m) for m in breadths] for n in heights]
    return invert(unit(words[0][0] if len(heights) == len(breadths) == 1 else jnp.block(words)))


def _words(seed: jax.Array, inputs: int, units: int) -> jax.Array:
    rows, columns = (jax.lax.broadcasted_iota(jnp.uint32, (inputs, units), axis) for axis in (0, 1))
    return scramble(rows * jnp.uint32(_MOST_UNITS) + columns, seed)


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
      InvalidArgument: ``largest`` and ``widths`` differ in length or are no lists, or sizes below 1.

    >>> import jhpo
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True), "width": jhpo.Int(2, 64, log=True)})
    >>> model = masked_mlp(["width"], [64], outputs=10)
    >>> params, _ = model.init({"width": 8}, jax.random.key(0), jnp.ones((1, 3)))
    >>> [layer["w"].shape for layer in params]
    [(3, 64), (64, 10)]
    """
    for name, given in (("widths", widths), ("largest", largest)):
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise invalid(name, "a list, an entry for each hidden layer", given)
    if not callable(activation):
        raise invalid("activation", "a function of an array, such as jax.nn.relu", activation)
    if len(widths) != len(largest):
        raise invalid("largest", f"one bound for each of the {len(widths)} widths", list(largest))
    for width, bound in zip(widths, largest):
        check_integer("largest", bound, high=_MOST_UNITS)
        if not isinstance(width, str):
            check_integer("widths", width, high=bound)
    return MaskedMLP(tuple(widths), tuple(int(n) for n in largest), check_integer("outputs", outputs), activation)
