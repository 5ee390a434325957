"""All uses of JAX that its compatibility policy does not cover.

These names may move or change their meaning in any release of JAX. `tests/kernels/test_internals.py` has a test for
each and says what in jhpo breaks without it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax._src.core import trace_state_clean
from jax.experimental.compilation_cache import compilation_cache
from jax.experimental.xla_metadata import set_xla_metadata
from jax.interpreters import mlir, partial_eval

if TYPE_CHECKING:
    from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Primitive
else:  # used in annotations only: jax.extend imports Pallas, which takes a fifth as long as all of jhpo
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
    "Lowered",
    "Primitive",
    "alone",
    "call_lowered",
    "float_precision",
    "forget_cache_choice",
    "is_literal",
    "is_traced",
    "is_weak",
    "lowered",
    "needed",
    "on_a_mesh",
    "runnable",
    "settings",
    "shape_of",
    "strings_refused",
    "unfused",
    "with_constants",
    "within_a_trace",
]

Outputs = TypeVar("Outputs")

# Names of primitives in a jaxpr.
SUM = "reduce_sum"  # `jnp.sum`
SAVED_NAME = "name"  # `jax.ad_checkpoint.checkpoint_name`
NO_FORWARD = "custom_lin"  # forward mode through a `jax.custom_vjp`; it cannot be compiled
# Primitives whose inner jaxprs have ordinary semantics (that of a Pallas kernel does not).
TRANSPARENT = ("scan", "while", "cond", "jit", "pjit", "checkpoint", "remat2", "closed_call", "custom_linear_solve")

# Prefixes of the `jax.monitoring` events for time spent tracing, compiling and loading compiled programs.
COMPILING = ("/jax/core/compile/", "/jax/compilation_cache/cache_retrieval_time_sec")


def is_traced(x: object) -> bool:
    """Whether ``x`` is a tracer: a value with a shape and a dtype, but no numbers yet.

    >>> import jax.numpy as jnp
    >>> is_traced(jnp.zeros(2)), jax.eval_shape(lambda x: jnp.full((), is_traced(x)), 1.0).shape
    (False, ())
    """
    return isinstance(x, jax.core.Tracer)


def within_a_trace() -> bool:
    """Whether a transformation of JAX's, such as ``jit`` or ``vmap``, is being traced in this thread.

    >>> within_a_trace(), jax.eval_shape(lambda: jnp.full((), within_a_trace())).dtype
    (False, dtype('bool'))
    """
    return not trace_state_clean()


def on_a_mesh(x: object) -> bool:
    """Whether the type of an array or tracer names a mesh of devices.

    >>> on_a_mesh(jax.numpy.zeros(2)), on_a_mesh(jax.device_put(0, jax.sharding.SingleDeviceSharding(jax.devices()[0])))
    (False, False)
    """
    return not jax.typeof(x).sharding.mesh.empty


def forget_cache_choice() -> None:
    """Makes JAX read the configuration of its compilation cache again; it reads it once, when it first compiles."""
    compilation_cache.reset_cache()


def shape_of(variable: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an equation's input or output."""
    return jax.ShapeDtypeStruct(variable.aval.shape, variable.aval.dtype)


def is_literal(variable: object) -> bool:
    """Whether an input of an equation is a literal, a number written into the jaxpr."""
    from jax.extend.core import Literal

    return isinstance(variable, Literal)


def runnable(program: ClosedJaxpr) -> Callable[..., list[jax.Array]]:
    """A jaxpr as a function from the leaves of its arguments to the list of the leaves of its results.

    >>> import jax.numpy as jnp
    >>> runnable(jax.make_jaxpr(jnp.cos)(0.0))(0.0)[0].item()
    1.0
    """
    from jax.extend.core import jaxpr_as_fun

    return jaxpr_as_fun(program)


def alone(equation: JaxprEqn) -> Callable[..., list[jax.Array]]:
    """One equation as a function of all its inputs, literals too, with the derivatives that it has in its jaxpr.

    >>> import jax.numpy as jnp
    >>> (equation,) = jax.make_jaxpr(lambda x: x + 1.0)(2.0).eqns
    >>> jax.grad(lambda x: alone(equation)(x, 1.0)[0])(2.0).item()
    1.0
    """
    variables = [not is_literal(x) for x in equation.invars]
    inputs = [x for x, variable in zip(equation.invars, variables) if variable]
    like = jax.make_jaxpr(lambda *_: (0.0,) * len(equation.outvars))(*map(shape_of, inputs))
    program = like.jaxpr.replace(invars=inputs, outvars=list(equation.outvars), eqns=[equation])
    call = runnable(like.replace(jaxpr=program))
    return lambda *operands: call(*[x for x, variable in zip(operands, variables) if variable])


def with_constants(program: ClosedJaxpr, constants: Sequence[Any]) -> ClosedJaxpr:
    """The jaxpr with other values for the arrays that it closes over."""
    from jax.extend import core

    return core.ClosedJaxpr(program.jaxpr, constants)


def needed(program: Jaxpr, wanted: Sequence[bool]) -> list[bool]:
    """For each input of a jaxpr, whether some wanted output depends on it (dead code elimination).

    >>> program = jax.make_jaxpr(lambda x, y: (x + 1, x * y))(1.0, 2.0)
    >>> needed(program.jaxpr, [True, False]), needed(program.jaxpr, [False, True])
    ([True, False], [True, True])
    """
    return list(partial_eval.dce_jaxpr(program, list(wanted))[1])


def unfused(outputs: Outputs) -> Outputs:
    """The outputs of a call of a jitted function, marked so that XLA:CPU does not fuse the call into its caller."""
    return set_xla_metadata(outputs, inlineable="false")


# Settings that change nothing in a traced program.
_IDLE = ("jax_compilation_cache", "jax_persistent_cache", "jax_raise_persistent_cache", "jax_explain", "jax_log")


def settings() -> dict[str, Any]:
    """JAX's configuration in this thread, as far as a trace may depend on it: contexts such as `jax.enable_x64` count.

    >>> with jax.enable_x64(True):
    ...     settings()["jax_enable_x64"]
    True
    """
    config: Any = jax.config
    known = config.values.items()
    return {name: getattr(config, name, value) for name, value in known if not name.startswith(_IDLE)}


def is_weak(x: object) -> bool:
    """Whether a value has a weak type, as Python's numbers have."""
    return bool(jax.typeof(x).weak_type)


class Lowered(NamedTuple):
    """A lowered program that another process can run, see `call_lowered`."""

    module: bytes  # StableHLO, as MLIR of this version of jaxlib writes it
    results: tuple[jax.ShapeDtypeStruct, ...]


def lowered(function: Callable[[list[Any]], list[Any]], leaves: Sequence[Any], platform: str) -> Lowered:
    """Traces and lowers a function of a list of arrays.

    Raises:
      ValueError: another process could not run it: it has effects or calls what is not a part of it, or its results
        have keys or weak types.
    """
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, weak_type=is_weak(x)) for x in leaves]
    traced = jax.jit(function, keep_unused=True).trace(shapes)
    found = traced.lower(lowering_platforms=(platform,))
    results = traced.jaxpr.out_avals
    extended = any(jnp.issubdtype(x.dtype, jax.dtypes.extended) or x.weak_type for x in results)
    text = found.as_text()
    if traced.jaxpr.effects or extended or "custom_call" in text or "sdy.mesh" in text:
        raise ValueError("expected a program without effects, calls of the host, keys or weak types among its results")
    kept = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in results)
    return Lowered(mlir.module_to_bytecode(found.compiler_ir("stablehlo")), kept)


def call_lowered(program: Lowered, leaves: Sequence[Any]) -> list[Any]:
    """The results of a lowered program, to be traced within another: it is neither traced nor lowered again.

    Not `jax.export`: what that calls is committed to its device, so that it compiles once more for its own results,
    imports SciPy's LAPACK, and is stored by a package that JAX does not require.

    >>> program = lowered(lambda x: [2.0 * x[0]], [jnp.ones(2)], "cpu")
    >>> jax.jit(lambda x: call_lowered(program, x))([jnp.ones(2)])[0].tolist()
    [2.0, 2.0]
    """
    return list(_lowered_p.bind(*leaves, program=program))


def _into_module(ctx: Any, *operands: Any, program: Lowered) -> Any:
    ir: Any = mlir.ir
    context = ctx.module_context
    with context.module.context:
        inner = ir.Module.parse(program.module)
    kind = ir.SymbolTable(inner.operation)["main"].type
    name = mlir.merge_mlir_modules(context.module, "lowered", inner, dst_symtab=context.symbol_table)
    callee = {"callee": ir.FlatSymbolRefAttr.get(name)}
    return list(ir.Operation.create("func.call", kind.results, operands, callee).results)


_lowered_p: Any = type(jax.lax.add_p)("lowered")  # a Primitive: jax.extend.core, which names it, imports Pallas
_lowered_p.multiple_results = True
_lowered_p.def_abstract_eval(lambda *_, program: [jax.core.ShapedArray(x.shape, x.dtype) for x in program.results])
mlir.register_lowering(_lowered_p, _into_module)


def float_precision(double: bool) -> AbstractContextManager[None]:
    """A context in which the default float dtype is float64, or float32; affects this thread only.

    >>> import jax.numpy as jnp
    >>> with float_precision(double=True):
    ...     jnp.ones(()).dtype
    dtype('float64')
    """
    return jax.enable_x64(double)


class _Refusing(threading.local):
    """What is refused in this thread."""

    libraries: tuple[Collection[str], ...] = ()  # of each context that is entered


_refusing = _Refusing()
_lock = threading.Lock()
_contexts = 0  # in all threads
_OPERATORS = {"__eq__": "==", "__ne__": "!="}
_original: dict[str, Callable[[Any, object], Any]] = {}


def _comparison(name: str) -> Callable[[Any, object], Any]:
    def compare(self: Any, other: object) -> Any:
        if isinstance(other, str) and _refusing.libraries:
            module = str(sys._getframe(1).f_globals.get("__name__", ""))
            if module.split(".")[0] not in _refusing.libraries[-1]:
                raise TypeError(f"a traced value is compared with a string: {_OPERATORS[name]} {other!r}")
        return _original[name](self, other)

    return compare


@contextmanager
def strings_refused(libraries: Collection[str]) -> Iterator[None]:
    """A context in which comparing a tracer with a string raises, in this thread; JAX itself says they differ.

    Code in packages named in ``libraries`` compares as ever. Python asks the class of a tracer how to compare, so it is
    the class that is changed, while any thread is in such a context.

    >>> with strings_refused(()):
    ...     try:
    ...         jax.eval_shape(lambda x: x == "adam", 1.0)
    ...     except TypeError as error:
    ...         print(error)
    a traced value is compared with a string: == 'adam'
    """
    global _contexts
    tracer: Any = jax.core.Tracer
    with _lock:
        if not _contexts:
            for name in _OPERATORS:
                _original[name] = getattr(tracer, name)
                setattr(tracer, name, _comparison(name))
        _contexts += 1
    before, _refusing.libraries = _refusing.libraries, (*_refusing.libraries, libraries)
    try:
        yield
    finally:
        _refusing.libraries = before
        with _lock:
            _contexts -= 1
            if not _contexts:
                for name in _OPERATORS:
                    setattr(tracer, name, _original[name])
