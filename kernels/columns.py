"""Matrices of a member held column by column, the layout in which a CPU trains many small networks fastest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jhpo.kernels.internals import JaxprEqn, alone, is_literal, shape_of, unfused
from jhpo.kernels.programs import equations

F = TypeVar("F", bound=Callable[..., Any])

_ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh "
    "digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt "
    "max min mul name ne neg nextafter not or pow reduce_precision rem round rsqrt select_n sign sin sinh sqrt square "
    "stop_gradient sub tan tanh xor".split()
)
_REDUCTIONS = frozenset("argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum".split())
_CALLS = ("jit", "pjit", "closed_call")
_CUSTOM = ("custom_jvp_call", "custom_vjp_call")
_LOOPS = ("scan", "while")


class _Held(NamedTuple):
    """A value of a program: an array of any shape, or a matrix by rows, by columns (its transpose), or both."""

    rows: Any
    columns: Any = None

    def by(self, columns: bool) -> Any:
        there, other = (self.columns, self.rows) if columns else (self.rows, self.columns)
        return unfused(_transposed(other)) if there is None else there

    @property
    def only_columns(self) -> bool:
        return self.rows is None


@jax.jit
def _transposed(x: jax.Array) -> jax.Array:
    # A call of its own. Merged into the product that it is for, it makes that a slow loop; merged into the product
    # that it follows, XLA 0.10.2 may choose a layout there that it cannot compile, and aborts the process.
    return jnp.swapaxes(x, 0, 1)


def _made(array: Any, columns: bool) -> _Held:
    return _Held(None, array) if columns else _Held(array)


def by_columns(f: F) -> F:
    """``f`` with its matrices held column by column where its products gain by it; batches of it are fast on a CPU.

    In a batch of members the axis of the members comes first. With matrices by columns (activations ``[features,
    rows]``, weights ``[outputs, inputs]``) the weights of all members are the rows of one large product with the inputs
    that they share, no product has a first operand that has to be transposed but for the small one of the gradient with
    respect to a layer's inputs, and sums over features or classes run over vectors of examples. By rows, XLA:CPU
    computes the gradient of each weight matrix in a plain loop or copies activations, and Adam reads it with strides.

    Only products of two matrices start it, and what is computed elementwise, summed or carried by a loop follows.
    Convolutions, products of arrays with more axes, conditionals and everything else get and give arrays as they were.

    Args:
      f: of arrays and trees of them, for one member; to be batched with `jax.vmap`. Derivatives are those of ``f``.

    Returns:
      A function of the same arguments and values, up to the rounding of sums.

    >>> step = lambda w, x: w - x.T @ (x @ w)
    >>> w, x = jnp.ones((2, 3, 1)), jnp.ones((4, 3))
    >>> jax.vmap(by_columns(step), (0, None))(w, x)[:, 0, 0].tolist()
    [-11.0, -11.0]
    """

    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        program, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        if not _has_products(program):
            return f(*args)
        out = _run(program, [_Held(x) for x in jax.tree.leaves(args)])
        return jax.tree.unflatten(jax.tree.structure(shape), [x.by(columns=False) for x in out])

    return wrapper  # type: ignore[return-value]


def _is_product(equation: JaxprEqn) -> bool:
    """Whether an equation is a product of two matrices."""
    if equation.primitive.name != "dot_general":
        return False
    (contracted, _), (batch, _) = equation.params["dimension_numbers"]
    plain = equation.params.get("out_sharding") is None
    return plain and not batch and len(contracted) == 1 and all(_ndim(x) == 2 for x in equation.invars)


def _has_products(program: Any) -> bool:
    return any(_is_product(e) for e in equations(getattr(program, "jaxpr", program)))


def _ndim(variable: Any) -> int:
    return len(shape_of(variable).shape)


def _run(program: Any, inputs: Sequence[_Held]) -> list[_Held]:
    """The results of a jaxpr."""
    jaxpr = getattr(program, "jaxpr", program)
    known: dict[Any, _Held] = dict(zip(jaxpr.invars, inputs))
    known |= zip(jaxpr.constvars, map(_Held, getattr(program, "consts", ())))

    def read(variable: Any) -> _Held:
        return _Held(variable.val) if is_literal(variable) else known[variable]

    for equation in jaxpr.eqns:
        known |= zip(equation.outvars, _results(equation, [read(x) for x in equation.invars]))
    return [read(x) for x in jaxpr.outvars]


def _results(e: JaxprEqn, xs: list[_Held]) -> list[_Held]:
    """The results of an equation."""
    name, ranks = e.primitive.name, [_ndim(v) for v in e.invars]
    turned = any(x.only_columns for x in xs)
    if _is_product(e):
        return [_product(e, *xs)]
    inner = [e.params[x] for x in ("jaxpr", "call_jaxpr", "body_jaxpr", "cond_jaxpr") if x in e.params]
    if turned or any(map(_has_products, inner)):
        if name in _CALLS:
            return _run(inner[0], xs)
        if name in _CUSTOM:
            return _custom(e, inner[0], xs)
        if name in _LOOPS:
            return _scan(e, xs) if name == "scan" else _while(e, xs)
    if name == "transpose" and tuple(e.params["permutation"]) == (1, 0):
        return [_Held(xs[0].columns, xs[0].rows)]
    if name in _ELEMENTWISE and 2 in ranks and set(ranks) <= {0, 2}:
        return _elementwise(e, xs, ranks)
    if name in _REDUCTIONS and turned:
        return [_Held(y) for y in _bound(e, [xs[0].columns], axes=tuple(sorted(1 - a for a in e.params["axes"])))]
    if (other := _flexible(e, xs)) is not None:
        return [_Held(_bound(e, [x.by(columns=False) for x in xs])[0], other)]
    return [_Held(y) for y in alone(e)(*[x.by(columns=False) for x in xs])]


def _bound(e: JaxprEqn, operands: list[Any], **changed: Any) -> list[Any]:
    out = e.primitive.bind(*operands, **{**e.params, **changed})
    return list(out) if e.primitive.multiple_results else [out]


def _elementwise(e: JaxprEqn, xs: list[_Held], ranks: list[int]) -> list[_Held]:
    """By columns if an operand is there by columns only, in both ways if all operands are."""
    matrices = [x for x, rank in zip(xs, ranks) if rank == 2]
    both = all(x.rows is not None and x.columns is not None for x in matrices)

    def made(columns: bool) -> list[Any]:
        return _bound(e, [x.by(columns) if rank == 2 else x.rows for x, rank in zip(xs, ranks)])

    if both:
        return list(map(_Held, made(columns=False), made(columns=True)))
    columns = any(x.only_columns for x in matrices)
    return [_made(y, columns) for y in made(columns)]


def _flexible(e: JaxprEqn, xs: list[_Held]) -> Any:
    """By columns what costs nothing in either way: a broadcast scalar or vector, an iota; None for anything else."""
    if len(e.outvars) != 1 or _ndim(e.outvars[0]) != 2:
        return None
    shape = shape_of(e.outvars[0]).shape
    turned, name = shape[::-1], e.primitive.name
    if name == "iota":
        return _bound(e, [], shape=turned, dimension=1 - e.params["dimension"])[0]
    if name == "reshape" and _ndim(e.invars[0]) == 1 and 1 in shape:
        return _bound(e, [xs[0].rows], new_sizes=turned)[0]
    if name == "broadcast_in_dim" and len(e.invars) == 1:
        dims = e.params["broadcast_dimensions"]
        if len(dims) < 2:
            return _bound(e, [xs[0].rows], shape=turned, broadcast_dimensions=tuple(1 - d for d in dims))[0]
        if 1 in shape_of(e.invars[0]).shape:
            return _bound(e, [xs[0].by(columns=True)], shape=turned)[0]
    return None


def _product(e: JaxprEqn, x: _Held, y: _Held) -> _Held:
    """A product whose first operand is contracted over its last axis, by rows or, with operands exchanged, by columns.

    The second operand may be transposed for nothing. The cheaper way is chosen by the size of the first operand if that
    has to be transposed. Between equals it is by columns, but for the gradient of a weight matrix, which JAX
    computes transposed: contracted over the first axis of both.
    """
    ((i,), (j,)), _ = e.params["dimension_numbers"]

    def price(held: _Held, variable: Any, contracted: int) -> int:
        there = held.columns if contracted == 0 else held.rows
        return 0 if there is not None else shape_of(variable).size

    rows, columns = price(x, e.invars[0], i), price(y, e.invars[1], j)
    turned = columns < rows or (columns == rows and (i, j) != (0, 0))
    (a, at), (b, other) = ((y, j), (x, i)) if turned else ((x, i), (y, j))
    first = a.by(columns=at == 0)
    second, over = (b.rows, other) if b.rows is not None else (b.columns, 1 - other)
    precision = e.params["precision"]  # one for both operands, or a pair
    if turned and isinstance(precision, tuple):
        precision = precision[::-1]
    changed = {"dimension_numbers": (((1,), (over,)), ((), ())), "precision": precision}
    return _made(_bound(e, [first, second], **changed)[0], turned)


def _custom(e: JaxprEqn, program: Any, xs: list[_Held]) -> list[_Held]:
    """A function with derivatives of its own, which it keeps."""
    inputs = [x.only_columns for x in xs]
    outputs: list[bool] = []

    def ours(*operands: Any) -> tuple[Any, ...]:
        out = _run(program, list(map(_made, operands, inputs)))
        outputs[:] = [x.only_columns for x in out]
        return tuple(x.by(columns) for x, columns in zip(out, outputs))

    def plain(*operands: Any) -> tuple[Any, ...]:
        out = alone(e)(*[x.by(columns=False) for x in map(_made, operands, inputs)])
        return tuple(_Held(y).by(columns) for y, columns in zip(out, outputs))

    operands = [x.by(columns) for x, columns in zip(xs, inputs)]
    jax.eval_shape(ours, *operands)
    same = jax.custom_jvp(ours)
    same.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return list(map(_made, same(*operands), outputs))


def _settled(start: list[_Held], attempt: Callable[[list[bool]], list[_Held]]) -> list[bool]:
    """Which carries of a loop are held by columns: those that its body makes by columns."""

    def of_body(columns: list[bool]) -> list[bool]:
        found: list[bool] = []
        jax.eval_shape(lambda: found.extend(x.only_columns for x in attempt(columns)))
        return [a or b for a, b in zip(columns, found)]

    columns = [x.only_columns for x in start]
    while (settled := of_body(columns)) != columns:
        columns = settled
    return columns


def _parts_of_scan(e: JaxprEqn) -> tuple[int, int]:
    """How many operands are constants, and how many are carried; the others are sequences."""
    if "num_consts" in e.params:
        return e.params["num_consts"], e.params["num_carry"]
    consts, carry, _ = e.params["ft_in"].unpack()  # since jax 0.11
    return len(consts), len(carry)


def _scan(e: JaxprEqn, xs: list[_Held]) -> list[_Held]:
    p = e.params
    first, carried = _parts_of_scan(e)
    last = first + carried
    consts, start = xs[:first], xs[first:last]
    sequences = [x.by(columns=False) for x in xs[last:]]

    def body(columns: list[bool], carry: Sequence[Any], now: Sequence[Any]) -> list[_Held]:
        return _run(p["jaxpr"], [*consts, *map(_made, carry, columns), *map(_Held, now)])

    def first_turn(columns: list[bool]) -> list[_Held]:
        now = [jnp.zeros(shape_of(v).shape[1:], shape_of(v).dtype) for v in e.invars[last:]]
        return body(columns, [x.by(c) for x, c in zip(start, columns)], now)[:carried]

    columns = _settled(start, first_turn)

    def turn(carry: Any, now: Any) -> tuple[list[Any], list[Any]]:
        out = body(columns, carry, now)
        ys = [y.by(columns=False) for y in out[len(columns) :]]
        return [x.by(c) for x, c in zip(out, columns)], ys

    init = [x.by(c) for x, c in zip(start, columns)]
    carry, ys = jax.lax.scan(turn, init, sequences, p["length"], p["reverse"], p["unroll"])
    return [*map(_made, carry, columns), *map(_Held, ys)]


def _while(e: JaxprEqn, xs: list[_Held]) -> list[_Held]:
    p = e.params
    first, last = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    conditions, consts, start = xs[:first], xs[first:last], xs[last:]

    def body(columns: list[bool], carry: Sequence[Any]) -> list[_Held]:
        return _run(p["body_jaxpr"], [*consts, *map(_made, carry, columns)])

    columns = _settled(start, lambda columns: body(columns, [x.by(c) for x, c in zip(start, columns)]))

    def on(carry: Any) -> Any:
        return _run(p["cond_jaxpr"], [*conditions, *map(_made, carry, columns)])[0].by(columns=False)

    init = [x.by(c) for x, c in zip(start, columns)]
    out = jax.lax.while_loop(on, lambda carry: [x.by(c) for x, c in zip(body(columns, carry), columns)], init)
    return list(map(_made, out, columns))
