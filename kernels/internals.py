"""What this package uses of JAX beyond what JAX promises to keep: all of it here, and a test for each.

JAX's public functions are used where they are needed. The names here may move or change their meaning with any release
of JAX; `tests/kernels/test_internals.py` says of each what of jhpo breaks with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import jax
from jax.experimental.compilation_cache import compilation_cache
from jax.experimental.xla_metadata import set_xla_metadata
from jax.interpreters import partial_eval

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Primitive
else:  # words of annotations: jax.extend imports Pallas, which takes a fifth as long as all of jhpo
    ClosedJaxpr = Jaxpr = JaxprEqn = Primitive = Any

__all__ = [
    "COMPILING",
    "NO_FORWARD",
    "SAVED_NAME",
    "SUM",
    "TRANSPARENT",
    "ClosedJaxpr",
    "Jaxpr",
    "JaxprEqn",
    "Primitive",
    "float_precision",
    "forget_cache_choice",
    "is_literal",
    "is_traced",
    "needed",
    "runnable",
    "shape_of",
    "unfused",
    "with_constants",
]

Outputs = TypeVar("Outputs")

# Names of operations in a traced program.
SUM = "reduce_sum"  # `jnp.sum`
SAVED_NAME = "name"  # `jax.ad_checkpoint.checkpoint_name`
NO_FORWARD = "custom_lin"  # left where forward mode met a `jax.custom_vjp`; it cannot be compiled
# Those whose inner programs mean what they would mean outside (a Pallas kernel's do not).
TRANSPARENT = ("scan", "while", "cond", "jit", "pjit", "checkpoint", "remat2", "closed_call", "custom_linear_solve")

# How the names of `jax.monitoring` begin that tell of time spent tracing, compiling and fetching compiled programs.
COMPILING = ("/jax/core/compile/", "/jax/compilation_cache/cache_retrieval_time_sec")


def is_traced(x: object) -> bool:
    """``x`` stands for a value that a program will compute: it has a shape and a dtype and no numbers yet.

    >>> import jax.numpy as jnp
    >>> is_traced(jnp.zeros(2)), jax.eval_shape(lambda x: jnp.full((), is_traced(x)), 1.0).shape
    (False, ())
    """
    return isinstance(x, jax.core.Tracer)


def forget_cache_choice() -> None:
    """Let JAX read the configuration of its compilation cache again: it does so once, when it first compiles."""
    compilation_cache.reset_cache()


def shape_of(variable: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an equation's input or output."""
    return jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype)


def is_literal(variable: object) -> bool:
    """An equation's input that is a number written into the program."""
    from jax.extend.core import Literal

    return isinstance(variable, Literal)


def runnable(program: ClosedJaxpr) -> Callable[..., list[jax.Array]]:
    """The function of a traced program: the leaves of its arguments in, the leaves of its results out.

    >>> import jax.numpy as jnp
    >>> runnable(jax.make_jaxpr(jnp.cos)(0.0))(0.0)[0].item()
    1.0
    """
    from jax.extend.core import jaxpr_as_fun

    return jaxpr_as_fun(program)


def with_constants(program: ClosedJaxpr, constants: Sequence[Any]) -> ClosedJaxpr:
    """The traced program with other values of the arrays that it closes over."""
    from jax.extend import core

    return core.ClosedJaxpr(program.jaxpr, constants)


def needed(program: Jaxpr, wanted: Sequence[bool]) -> list[bool]:
    """For every input of a traced program: some wanted output needs it.

    >>> program = jax.make_jaxpr(lambda x, y: (x + 1, x * y))(1.0, 2.0)
    >>> needed(program.jaxpr, [True, False]), needed(program.jaxpr, [False, True])
    ([True, False], [True, True])
    """
    return list(partial_eval.dce_jaxpr(program, list(wanted))[1])


def unfused(outputs: Outputs) -> Outputs:
    """The results of a call of a jitted function, which XLA's CPU code then computes in a loop of their own."""
    return set_xla_metadata(outputs, inlineable="false")


def float_precision(double: bool) -> AbstractContextManager[None]:
    """A context in which floating-point numbers are float64 by default, or float32; in this thread alone.

    >>> import jax.numpy as jnp
    >>> with float_precision(double=True):
    ...     jnp.ones(()).dtype
    dtype('float64')
    """
    return jax.enable_x64(double)
