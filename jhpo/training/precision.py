"""Models whose matrix products have a narrower dtype than their parameters."""

from __future__ import annotations

import dataclasses
import functools

import jax

from jhpo.errors import invalid
from jhpo.kernels.narrow import bf16_products
from jhpo.training.networks import Around, Extra, Model, Params
from jhpo.training.trainable import HP
from jhpo.values.structure import structured


@functools.partial(structured, data=["model"])
@dataclasses.dataclass(frozen=True)
class _Narrow(Around):
    """A model with products in bfloat16; parameters, inputs and outputs keep their dtypes."""

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """See `jhpo.training.networks.Model.apply`."""
        # the model's own `precision` overrides that of the whole program
        with jax.default_matmul_precision(None):
            return bf16_products(lambda: self.model.apply(hp, params, extra, x, key, train))()


def with_precision(model: Model, precision: str | None) -> Model:
    """The model with products in ``precision``: "bf16", or None for the dtype of its parameters.

    Raises:
      InvalidArgument: another precision.
    """
    if precision is not None and precision != "bf16":
        raise invalid("precision", "None, for products of the parameters' own type, or 'bf16'", precision)
    return _Narrow(model) if precision else model
