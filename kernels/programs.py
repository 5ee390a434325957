"""Inspecting and rewriting jaxprs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from jhpo.kernels import trees
from jhpo.kernels.internals import SAVED_NAME, TRANSPARENT, ClosedJaxpr, Jaxpr, JaxprEqn, runnable, shape_of

F = TypeVar("F", bound=Callable[..., Any])


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All equations of a jaxpr, including those of nested jaxprs."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_program):
            if _is_program(inner):
                yield from equations(inner)


def named_bytes(jaxpr: Jaxpr, name: str) -> int:
    """Bytes of all values that `jax.ad_checkpoint.checkpoint_name` gives a name.

    >>> import jax, jax.numpy as jnp
    >>> from jax.ad_checkpoint import checkpoint_name
    >>> program = jax.make_jaxpr(lambda x: checkpoint_name(x, "rows") + 1)(jnp.zeros(3, jnp.int32))
    >>> named_bytes(program.jaxpr, "rows"), named_bytes(program.jaxpr, "columns")
    (12, 0)
    """
    named = (e for e in equations(jaxpr) if e.primitive.name == SAVED_NAME and e.params["name"] == name)
    return trees.num_bytes([shape_of(v) for e in named for v in e.outvars])


def numbers_computed(jaxpr: Jaxpr) -> float:
    """A cost estimate: the numbers a jaxpr computes, with every multiplication and addition of a contraction.

    Scans count every iteration, conditionals their most expensive branch. Infinity if the cost is unknown: while loops,
    callbacks to the host and other effects.

    >>> import jax.numpy as jnp
    >>> numbers_computed(jax.make_jaxpr(lambda x: jax.lax.map(jnp.sin, x) + 1.0)(jnp.zeros(8)).jaxpr)
    16.0
    >>> numbers_computed(jax.make_jaxpr(lambda x: jax.lax.while_loop(lambda x: x < 9, lambda x: 2 * x, x))(1).jaxpr)
    inf
    """
    return math.inf if jaxpr.effects else float(sum(_computed(eqn) for eqn in jaxpr.eqns))


def _computed(eqn: JaxprEqn) -> float:
    name, params = eqn.primitive.name, eqn.params
    if name == "while" or "callback" in name:
        return math.inf
    inner = [x for x in jax.tree.leaves(list(params.values()), is_leaf=_is_program) if _is_program(x)]
    if inner:
        costs = [numbers_computed(getattr(x, "jaxpr", x)) for x in inner]
        return float(params["length"] * sum(costs)) if name == "scan" else max(costs)
    made = sum(_size(v) for v in eqn.outvars)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return float(2 * made * math.prod(shape_of(eqn.invars[0]).shape[i] for i in contracted))
    if name == "conv_general_dilated":
        return float(2 * made * _size(eqn.invars[1]))
    return float(max([made, *(_size(v) for v in eqn.invars)]))


def _size(variable: Any) -> int:
    return math.prod(shape_of(variable).shape)


def replaced(program: ClosedJaxpr, rule: Callable[[JaxprEqn], Callable[..., jax.Array] | None]) -> ClosedJaxpr:
    """A jaxpr with some equations replaced by function calls, within loops and branches too.

    Args:
      program: the result of `jax.make_jaxpr`.
      rule: maps an equation to None, or to a function that replaces it: the same inputs, and an output or a sequence
        of outputs of the same shapes and dtypes.

    Returns:
      The new jaxpr; it is ``program`` itself, and nested jaxprs are themselves, if nothing in them is replaced.

    >>> import jax.numpy as jnp
    >>> from jhpo.kernels.internals import runnable
    >>> program = jax.make_jaxpr(lambda x: jax.lax.map(jnp.sin, x))(jnp.zeros(1))
    >>> changed = replaced(program, lambda equation: jnp.cos if equation.primitive.name == "sin" else None)
    >>> runnable(program)(jnp.zeros(1))[0].tolist(), runnable(changed)(jnp.zeros(1))[0].tolist()
    ([0.0], [1.0])
    """
    seen: dict[int, Any] = {}  # a nested jaxpr that is used often is rewritten once

    def within(program: Any) -> Any:
        if id(program) not in seen:
            inner = getattr(program, "jaxpr", program)
            if inner is not program:  # a ClosedJaxpr
                changed = within(inner)
                seen[id(program)] = program if changed is inner else program.replace(jaxpr=changed)
            else:
                eqns = [equation(e) for e in program.eqns]
                same = all(a is b for a, b in zip(eqns, program.eqns))
                seen[id(program)] = program if same else program.replace(eqns=eqns)
        return seen[id(program)]

    def equation(eqn: JaxprEqn) -> JaxprEqn:
        if (function := rule(eqn)) is not None:
            shapes = [shape_of(v) for v in eqn.invars]
            (call,) = jax.make_jaxpr(jax.jit(function))(*shapes).jaxpr.eqns
            return call.replace(invars=eqn.invars, outvars=eqn.outvars, source_info=eqn.source_info)
        if eqn.primitive.name not in TRANSPARENT:
            return eqn
        leaves, treedef = jax.tree.flatten(eqn.params, is_leaf=_is_program)
        changed = [within(x) if _is_program(x) else x for x in leaves]
        same = all(a is b for a, b in zip(leaves, changed))
        return eqn if same else eqn.replace(params=jax.tree.unflatten(treedef, changed))

    return within(program)


def rewritten(f: F, rule: Callable[[JaxprEqn], Callable[..., jax.Array] | None]) -> F:
    """``f`` with equations of its jaxpr replaced, see `replaced`.

    >>> import jax.numpy as jnp
    >>> twice = rewritten(jnp.sin, lambda eqn: jnp.cos if eqn.primitive.name == "sin" else None)
    >>> float(twice(0.0))
    1.0
    """

    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        program, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        out = runnable(replaced(program, rule))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return wrapper  # type: ignore[return-value]


def _is_program(x: object) -> bool:
    return hasattr(x, "eqns")
