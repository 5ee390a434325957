"""Matrix products and convolutions in bfloat16, everything else as it was."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jhpo.kernels.internals import JaxprEqn, runnable, shape_of
from jhpo.kernels.programs import replaced

F = TypeVar("F", bound=Callable[..., Any])
_PRODUCTS = ("dot_general", "conv_general_dilated")
_WIDE = (jnp.float32, jnp.float64)
_DEFAULT = jax.lax.Precision.DEFAULT


def bf16_products(f: F) -> F:
    """``f`` whose products of float32 (or float64) arrays are products of bfloat16 arrays.

    The results are turned back at once (XLA may leave out their rounding), so that shapes and dtypes of everything
    else, of sums, norms and what ``f`` returns, stay as they are; derivatives of any order have bfloat16 products as
    well. What asks for a precision of its own (``precision=``, `jax.default_matmul_precision`) keeps it, and so do
    operations with derivative rules of their own, whose insides are left alone.

    Source: Micikevicius et al., "Mixed precision training" (2018), with Google's bfloat16, whose range is that of
    float32: no scaling of the loss.

    >>> product = bf16_products(lambda a, b: a @ b)
    >>> a = jnp.full((1, 1), 1.0 + 2.0**-10)
    >>> product(a, a).tolist(), product(a, a).dtype, (a @ a).tolist() == [[1.0]]
    ([[1.0]], dtype('float32'), False)
    """

    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        program, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        out = runnable(replaced(program, _narrowed))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return wrapper  # type: ignore[return-value]


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
