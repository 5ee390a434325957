"""Matrix products and convolutions in bfloat16, with other operations unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jhpo.kernels.internals import JaxprEqn, shape_of
from jhpo.kernels.programs import rewritten

F = TypeVar("F", bound=Callable[..., Any])
_PRODUCTS = ("dot_general", "conv_general_dilated")
_WIDE = (jnp.float32, jnp.float64)
_DEFAULT = jax.lax.Precision.DEFAULT


def bf16_products(f: F) -> F:
    """``f`` with its products of float32 or float64 arrays computed in bfloat16, derivatives of any order included.

    The results are cast back at once (XLA may skip their rounding), so other operations and the outputs of ``f`` keep
    their dtypes. Products with an explicit precision (``precision=``, `jax.default_matmul_precision`) are unchanged,
    and so is the inside of functions with custom derivative rules.

    Source: Micikevicius et al., "Mixed precision training" (2018). bfloat16 has the range of float32, so the loss needs
    no scaling.

    >>> product = bf16_products(lambda a, b: a @ b)
    >>> a = jnp.full((1, 1), 1.0 + 2.0**-10)
    >>> product(a, a).tolist(), product(a, a).dtype, (a @ a).tolist() == [[1.0]]
    ([[1.0]], dtype('float32'), False)
    """
    return rewritten(f, _narrowed)


def _narrowed(equation: JaxprEqn) -> Callable[..., jax.Array] | None:
    if equation.primitive.name not in _PRODUCTS:
        return None
    precision = equation.params["precision"]
    chosen = precision is not None and precision != (_DEFAULT, _DEFAULT)
    dtypes = [v.dtype for v in map(shape_of, (*equation.invars, *equation.outvars))]
    if chosen or any(dtype not in _WIDE for dtype in dtypes):
        return None
    params = equation.params | {"preferred_element_type": jnp.dtype(jnp.bfloat16)}

    def product(*factors: jax.Array) -> jax.Array:
        narrow = [x.astype(jnp.bfloat16) for x in factors]
        return equation.primitive.bind(*narrow, **params).astype(dtypes[-1])

    return product
