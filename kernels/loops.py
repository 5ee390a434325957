"""Loops that a CPU runs at full width, and no longer than they have to.

XLA makes nested loops of an elementwise computation, one for every axis of its result, and LLVM vectorises the
innermost. Rows of 20 numbers are taken four at a time, or one by one; rows of a few hundred as many at a time as the
processor can. Reshaping is not enough: XLA fuses a reshape into the loop beside it, and is back at short rows.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jhpo.kernels.internals import SUM, JaxprEqn, runnable, shape_of, unfused
from jhpo.kernels.programs import replaced

F = TypeVar("F", bound=Callable[..., Any])
_ABREAST = 16  # as many float32 as the widest registers hold
_SLOW_SUMS = range(128, 8193)  # sizes: smaller ones take no time, of larger ones XLA makes many at once


def apart(f: F) -> F:
    """``f`` in a loop of its own on the CPU, fused neither with what comes before nor with what follows.

    Its values are then computed once, however many read them, and by the same instructions in every program. The first
    argument of ``f`` is static.
    """
    call = jax.jit(f, static_argnums=0)

    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        # XLA does not fuse over the edge of a call; elsewhere rows are no loops
        alone, together = (functools.partial(g, *args[:1]) for g in (call, f))
        return jax.lax.platform_dependent(*args[1:], cpu=lambda *x: unfused(alone(*x)), default=together)

    return wrapper  # type: ignore[return-value]


def width(n: int) -> int:
    """How many of n rows `abreast` puts side by side."""
    return math.gcd(n, _ABREAST)


def abreast(n: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Arrays for n rows with up to 16 rows side by side: ``[n, d]`` to ``[n / k, k d]``, the same row-major numbers.

    What is the same for all rows, ``[1, d]``, is repeated for those side by side; ``[1, 1]`` stays.
    """
    k = width(n)
    return tuple(
        a.reshape(n // k, -1) if a.shape[0] == n else jnp.tile(a, (1, k)) if a.shape[1] > 1 else a for a in arrays
    )


def in_turn(f: F) -> F:
    """``f`` whose batches a CPU works off one row after the other, instead of all of them in lockstep.

    For programs of loops that end when they have converged: in lockstep every row lasts as long as the slowest, and the
    rows together do not fit into the caches. Every row gets what it gets alone, bit for bit.
    """
    call = jax.custom_batching.custom_vmap(f)

    @call.def_vmap
    def batch(size: int, batched: list[Any], *args: Any) -> tuple[Any, Any]:
        leaves, treedef = jax.tree.flatten(args)
        rows = jax.tree.leaves(batched)

        def one_by_one(*leaves: jax.Array) -> Any:
            def row(some: list[jax.Array]) -> Any:
                rest = iter(some)
                return call(*jax.tree.unflatten(treedef, [next(rest) if r else x for x, r in zip(leaves, rows)]))

            return jax.lax.map(row, [x for x, r in zip(leaves, rows) if r])

        def at_once(*leaves: jax.Array) -> Any:
            flat = lambda *leaves: f(*jax.tree.unflatten(treedef, leaves))  # noqa: E731
            return jax.vmap(flat, [0 if r else None for r in rows])(*leaves)

        out = jax.lax.platform_dependent(*leaves, cpu=one_by_one, default=at_once)
        return out, jax.tree.map(lambda _: True, out)

    return functools.wraps(f)(call)  # type: ignore[return-value]


@jax.custom_batching.custom_vmap
def most(count: jax.Array) -> jax.Array:
    """``int32[]``: the count itself; under vmap the greatest of a batch, the same for all and itself not batched.

    For the bounds of a loop whose body leaves out what a row has not: the loop is then as long as the longest, and
    nothing has to be selected after every turn.
    """
    return count


@most.def_vmap
def _most_of_a_batch(size: int, batched: list[bool], count: jax.Array) -> tuple[jax.Array, bool]:
    return (jnp.max(count) if batched[0] else count), False


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def seldom(f: Callable[..., Any], due: jax.Array, carry: Any, *others: Any) -> Any:
    """``f(carry, *others)`` if it is due, else the carry: for what happens now and then to large arrays.

    A loop of one turn or none: a `lax.cond` copies what it hands on, and works both ways under vmap; this leaves the
    carry where it is, and works if one of a batch has to. Derivatives are those of the `lax.cond`.

    >>> seldom(lambda x, y: x + y, jnp.asarray(True), jnp.ones(2), jnp.ones(2)).tolist()
    [2.0, 2.0]
    """

    def turn(state: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        # what the loop does not change XLA would compute before it, whether it is due or not
        now, held = jax.lax.optimization_barrier((state[0], others))
        return jnp.zeros_like(now), f(state[1], *held)

    return jax.lax.while_loop(lambda state: state[0], turn, (due, carry))[1]


@seldom.defjvp
def _seldom_jvp(f: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    due, carry, *others = primals
    return jax.jvp(
        lambda carry, *others: jax.lax.cond(due, f, lambda carry, *_: carry, carry, *others),
        (carry, *others),
        tangents[1:],
    )


def wide_sums(f: F) -> F:
    """``f`` whose sums over all of a small matrix a CPU makes 16 numbers at a time instead of one by one.

    Such a sum is the derivative of a scalar that multiplies a matrix: of a learning rate, in every step of a backward
    pass. XLA adds the 2,048 numbers of a 64 x 32 matrix in two halves, each one number after the other: 2 us, a tenth
    of a training step of such a network. By columns it takes 0.2 us.

    >>> float(wide_sums(jax.grad(lambda rate, x: (rate * x).sum()))(2.0, jnp.ones((20, 10))))
    200.0
    """

    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        program, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        out = runnable(replaced(program, _widened))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return wrapper  # type: ignore[return-value]


def _widened(equation: JaxprEqn) -> Callable[..., jax.Array] | None:
    if equation.primitive.name != SUM or equation.params.get("out_sharding") is not None:
        return None
    x = shape_of(equation.invars[0])
    slow = len(equation.params["axes"]) == x.ndim and x.size in _SLOW_SUMS and x.dtype in (jnp.float32, jnp.float64)
    return _sum_on_any_platform if slow else None


def _sum_on_any_platform(x: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(x, cpu=_sum_by_columns, default=jnp.sum)


def _sum_by_columns(x: jax.Array) -> jax.Array:
    x = x.reshape(-1)
    x = jnp.pad(x, (0, -x.size % _ABREAST)).reshape(_ABREAST, -1)
    # without the barrier XLA makes one sum of the two
    return jnp.sum(jax.lax.optimization_barrier(jnp.sum(x, axis=0)))
