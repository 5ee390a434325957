"""Derivatives at exact zeros, where the chain rule as written multiplies zero by infinity.

Optimisers take square roots at exactly zero: of the second moment of a weight that no data reach, of the norm of
updates that are all zero. The argument's own derivative is zero there, so the derivative is zero, but the chain rule
gives 0 * infinity, NaN. So does a division by zero whose quotient a `where` discards. The code of optimisers cannot be
changed, so square roots (and powers, quotients, logarithms) in the jaxpr are replaced by ones with their own rules.

In reverse mode, which has to be linear, the slope is huge instead of infinite, so that zero times it is zero. In
forward mode the rule sees the tangent: zero stays zero, anything else becomes infinite, as it should.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from jhpo.kernels import trees
from jhpo.kernels.internals import JaxprEqn, Primitive, is_literal, runnable, shape_of
from jhpo.kernels.programs import replaced

Tree = Any
Pair = tuple[jax.Array, ...]  # the inputs of an operation, or their tangents


def defined_at_zeros(f: Callable[..., Any], forward: bool = False) -> Callable[..., Any]:
    """``f`` with the same values, whose derivative is 0 where the chain rule gives 0 times infinity.

    Args:
      f: a function of trees. Array leaves are traced; other leaves (a Python number, a string, a function) are passed
        as they are.
      forward: for use under `jax.jvp`, where an infinite derivative stays infinite. Otherwise for `jax.vjp`, where it
        is finite and huge: see `without_huge`.

    >>> size = lambda x: jnp.sqrt(jnp.sum(x**2))
    >>> jax.grad(size)(jnp.zeros(2)).tolist(), jax.grad(defined_at_zeros(size))(jnp.zeros(2)).tolist()
    ([nan, nan], [0.0, 0.0])
    """
    rule = functools.partial(_replacement, FORWARD_RULES if forward else REVERSE_RULES)

    @functools.wraps(f)
    def wrapped(*args: Any) -> Any:
        leaves, treedef = jax.tree.flatten(args)
        array = [isinstance(x, (jax.Array, np.ndarray, np.generic)) for x in leaves]
        moving = [x for x, a in zip(leaves, array) if a]

        def call(moving: list[Any]) -> Any:
            rest = iter(moving)
            return f(*jax.tree.unflatten(treedef, [next(rest) if a else x for x, a in zip(leaves, array)]))

        program, shape = jax.make_jaxpr(call, return_shape=True)(moving)
        changed = replaced(program, rule)
        if changed is program:
            return f(*args)
        return jax.tree.unflatten(jax.tree.structure(shape), runnable(changed)(*moving))

    return wrapped


def without_huge(grad: Tree) -> Tree:
    """A reverse-mode gradient with its huge entries, which come from a root at zero that moves, set to infinity."""

    def entry(g: jax.Array) -> jax.Array:
        if not trees.is_float(g) or jnp.finfo(g.dtype).bits < 32:
            return g
        huge = jnp.abs(g) > jnp.asarray(1e-6 * _steepest(g.dtype), g.dtype)
        return jnp.where(huge, jnp.asarray(jnp.inf, g.dtype), g)

    return jax.tree.map(entry, grad)


def _steepest(dtype: DTypeLike) -> float:
    """The slope used for a square root at 0: that at the smallest normal number."""
    return 0.5 / float(jnp.finfo(dtype).tiny) ** 0.5


def _away(x: jax.Array, power: float, positive: bool = False) -> jax.Array:
    """x with zeros replaced by a small number; with ``positive`` negative numbers too."""
    return jnp.where(x <= 0 if positive else x == 0, jnp.asarray(float(jnp.finfo(x.dtype).tiny) ** power, x.dtype), x)


def _root_slope(x: jax.Array) -> jax.Array:
    return jnp.asarray(0.5, x.dtype) / jnp.sqrt(_away(x, 1.0, True))


def _inverse_root_slope(x: jax.Array) -> jax.Array:
    return jnp.asarray(-0.5, x.dtype) * lax.rsqrt(x) / x


def _cube_root_slope(x: jax.Array) -> jax.Array:
    return 1 / (3 * jnp.square(jnp.cbrt(_away(x, 0.75))))


def _infinite_unless_still(tangent: jax.Array, x: jax.Array, dx: jax.Array) -> jax.Array:
    """The tangent, infinite where x is zero and its tangent is not negligible (as that of an underflowing square)."""
    limit = 1e-12 * _steepest(x.dtype) if jnp.finfo(x.dtype).bits >= 32 else 0.0
    moves = (x == 0) & (jnp.abs(tangent) > jnp.asarray(limit, x.dtype))
    return jnp.where(moves, jnp.sign(dx) * jnp.asarray(jnp.inf, x.dtype), tangent)


def _unary(
    primitive: Primitive, slope: Callable[[jax.Array], jax.Array], forward: bool, **params: Any
) -> Callable[..., jax.Array]:
    """``primitive`` with a custom slope."""

    @jax.custom_jvp
    def function(x: jax.Array) -> jax.Array:
        return primitive.bind(x, **params)

    @function.defjvp
    def rule(primals: Pair, tangents: Pair) -> tuple[jax.Array, jax.Array]:
        (x,), (dx,) = primals, tangents
        tangent = slope(x) * dx
        return function(x), _infinite_unless_still(tangent, x, dx) if forward else tangent

    return function


def _power(primitive: Primitive, forward: bool, **params: Any) -> Callable[..., jax.Array]:
    @jax.custom_jvp
    def function(x: jax.Array, y: jax.Array) -> jax.Array:
        return primitive.bind(x, y, **params)

    @function.defjvp
    def rule(primals: Pair, tangents: Pair) -> tuple[jax.Array, jax.Array]:
        (x, y), (dx, dy) = primals, tangents
        if not trees.is_float(y):  # an integer power, whose own rule is right
            return jax.jvp(lambda x: primitive.bind(x, y, **params), (x,), (dx,))
        out, of_y = jax.jvp(lambda y: primitive.bind(x, y, **params), (y,), (dy,))
        base = jnp.where((x == 0) & (y < 1) & (y != 0), _away(x, 1.0), x)
        slope = jnp.where(y == 0, jnp.zeros_like(x), y * lax.pow(base, jnp.where(y == 0, y, y - 1)))
        of_x = jnp.nan_to_num(slope) * dx
        return out, (_infinite_unless_still(of_x, x, dx) if forward else of_x) + of_y

    return function


def _quotient(primitive: Primitive, **params: Any) -> Callable[..., jax.Array]:
    @jax.custom_jvp
    def function(a: jax.Array, b: jax.Array) -> jax.Array:
        return primitive.bind(a, b, **params)

    @function.defjvp
    def rule(primals: Pair, tangents: Pair) -> tuple[jax.Array, jax.Array]:
        (a, b), (da, db) = primals, tangents
        by = _away(b, 0.25)
        return function(a, b), da / by - (a / by / by) * db

    return function


def _arc(primitive: Primitive, forward: bool, **params: Any) -> Callable[..., jax.Array]:
    @jax.custom_jvp
    def function(y: jax.Array, x: jax.Array) -> jax.Array:
        return primitive.bind(y, x, **params)

    @function.defjvp
    def rule(primals: Pair, tangents: Pair) -> tuple[jax.Array, jax.Array]:
        (y, x), (dy, dx) = primals, tangents
        square = jnp.square(x) + jnp.square(y)
        # the angle has no derivative at the origin: NaN if something moves there
        inverse = 1 / (_away(square, 1.0) if forward else _away(square, 0.5))
        tangent = x * inverse * dy - y * inverse * dx
        if forward:
            moves = (square == 0) & ((dx != 0) | (dy != 0))
            tangent = jnp.where(moves, jnp.asarray(jnp.nan, x.dtype), tangent)
        return function(y, x), tangent

    return function


def _negative_power(primitive: Primitive, y: int, **params: Any) -> Callable[..., jax.Array]:
    slope = lambda x: jnp.nan_to_num(y * lax.integer_pow(_away(x, 0.25), y - 1))  # noqa: E731
    return _unary(primitive, slope, False, y=y, **params)


def _unsigned_infinity(slope: Callable[[jax.Array], jax.Array]) -> Callable[..., Any]:
    return lambda primitive, **params: _unary(primitive, slope, False, **params)


# `make(primitive, **params)` by the name of the primitive. If a value is infinite itself (a division by zero), its
# derivative matters only if a `where` discards the value; forward mode needs no rule for that.
FORWARD_RULES: dict[str, Callable[..., Any]] = {
    "sqrt": lambda p, **kw: _unary(p, _root_slope, True, **kw),
    "cbrt": lambda p, **kw: _unary(p, _cube_root_slope, True, **kw),
    "pow": lambda p, **kw: _power(p, True, **kw),
    "atan2": lambda p, **kw: _arc(p, True, **kw),
}
REVERSE_RULES: dict[str, Callable[..., Any]] = {
    "sqrt": lambda p, **kw: _unary(p, _root_slope, False, **kw),
    "cbrt": lambda p, **kw: _unary(p, _cube_root_slope, False, **kw),
    "pow": lambda p, **kw: _power(p, False, **kw),
    "atan2": lambda p, **kw: _arc(p, False, **kw),
    "div": _quotient,
    "log": _unsigned_infinity(lambda x: 1 / _away(x, 0.25, True)),
    "rsqrt": _unsigned_infinity(lambda x: _inverse_root_slope(_away(x, 0.25, True))),
    "integer_pow": _negative_power,
}


def _replacement(rules: dict[str, Callable[..., Any]], equation: JaxprEqn) -> Callable[..., jax.Array] | None:
    name = equation.primitive.name
    if name not in rules or not jnp.issubdtype(shape_of(equation.outvars[0]).dtype, jnp.floating):
        return None
    if name == "integer_pow" and equation.params["y"] >= 0:
        return None
    # literals are not zeros that arise during training
    if name == "div" and is_literal(equation.invars[1]):
        return None
    if name == "pow" and is_literal(equation.invars[0]):
        return None
    return rules[name](equation.primitive, **equation.params)
