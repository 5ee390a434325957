"""Control over the loops that XLA generates, mostly on the CPU: fusion, vector width, batching.

XLA:CPU turns an elementwise computation into nested loops, one per axis of its result, and LLVM vectorises the
innermost. With rows of 20 numbers it uses vectors of four or none, with rows of a few hundred the full width of the
processor. A reshape alone does not help: XLA fuses it into the neighbouring loop, which has short rows again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jhpo.kernels.internals import SUM, JaxprEqn, runnable, shape_of, unfused, with_constants
from jhpo.kernels.programs import rewritten

F = TypeVar("F", bound=Callable[..., Any])
_ABREAST = 16  # float32 numbers in the widest registers
_SLOW_SUMS = range(128, 8193)  # sizes: smaller sums take no time, larger ones XLA vectorises itself


def apart(f: F) -> F:
    """``f`` compiled on the CPU without fusion into its producers or consumers.

    Its outputs are then computed once, however many consumers there are, and by the same instructions in every program.
    The first argument of ``f`` is static.
    """
    call = jax.jit(f, static_argnums=0)

    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        # XLA:CPU does not fuse across a call; other platforms need no such help. One call for all, traced once
        alone = functools.partial(call, *args[:1])
        return jax.lax.platform_dependent(*args[1:], cpu=lambda *x: unfused(alone(*x)), default=alone)

    return wrapper  # type: ignore[return-value]


def once(x: jax.Array) -> jax.Array:
    """``x``, which a CPU computes once, however many consumers it has.

    What has neither sums nor loops XLA otherwise computes again in every consumer, with all that it is made of.
    """
    return apart(lambda _, x: x)(None, x)


def width(n: int) -> int:
    """The number of rows, of n, that `abreast` joins into one."""
    return math.gcd(n, _ABREAST)


def abreast(n: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Arrays reshaped from ``[n, d]`` to ``[n / k, k d]``, with k = `width` (n) consecutive rows joined into one.

    An array ``[1, d]``, shared by all rows, is tiled k times; ``[1, 1]`` is returned as it is.
    """
    k = width(n)
    return tuple(
        a.reshape(n // k, -1) if a.shape[0] == n else jnp.tile(a, (1, k)) if a.shape[1] > 1 else a for a in arrays
    )


def in_turn(f: F) -> F:
    """``f`` whose batches under vmap a CPU computes one row after another, instead of in lockstep.

    For functions with loops that run until convergence: in lockstep every row takes as long as the slowest, and the
    rows together do not fit into the caches. Every row gets the same bits as without vmap.

    >>> branch = lambda x, w: jax.lax.cond(x > 0, in_turn(lambda y: w * y), lambda y: y, x)
    >>> jax.vmap(branch, (0, None))(jnp.array([-1.0, 1.0]), 2.0).tolist()
    [-1.0, 2.0]
    """

    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        program, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        # what f closes over is an argument too: vmap of a `lax.cond` makes batches of all that its branches use
        closed = lambda constants, *leaves: runnable(with_constants(program, constants))(*leaves)  # noqa: E731
        out = _in_turn(closed)(program.consts, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return wrapper  # type: ignore[return-value]


def _in_turn(f: Callable[..., Any]) -> Callable[..., Any]:
    """`in_turn` of a function without closure."""
    call: Any = jax.custom_batching.custom_vmap(f)

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

    return call


def side_by_side(f: Callable[..., Any], rows: Any) -> Any:
    """``f`` of every row: sequentially on the CPU, under ``vmap`` elsewhere, where every loop step is a launch.

    >>> side_by_side(lambda x: 2 * x, jnp.arange(3)).tolist()
    [0, 2, 4]
    """
    return jax.lax.platform_dependent(rows, cpu=functools.partial(jax.lax.map, f), default=jax.vmap(f))


@jax.custom_batching.custom_vmap
def most(count: jax.Array) -> jax.Array:
    """``int32[]``: the count itself; under vmap the largest count of the batch, as an unbatched value.

    For the bound of a loop whose body masks iterations beyond a row's own count: with an unbatched bound, vmap need not
    add a select of the whole carry after every iteration.
    """
    return count


@most.def_vmap
def _most_of_a_batch(size: int, batched: list[bool], count: jax.Array) -> tuple[jax.Array, bool]:
    return (jnp.max(count) if batched[0] else count), False


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def seldom(f: Callable[..., Any], due: jax.Array, carry: Any, *others: Any) -> Any:
    """``f(carry, *others)`` if it is due, else the carry: for rare updates of large arrays.

    A while loop of at most one iteration. A `lax.cond` copies its operands and computes both branches under vmap; the
    loop updates the carry in place, and under vmap runs only if some row is due. Derivatives are those of `lax.cond`.

    >>> seldom(lambda x, y: x + y, jnp.asarray(True), jnp.ones(2), jnp.ones(2)).tolist()
    [2.0, 2.0]
    """

    def turn(state: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        # otherwise XLA would hoist what is loop-invariant, parts of the carry that stay as they are too, and compute it
        # even if it is not due
        now, held, kept = jax.lax.optimization_barrier((state[0], others, state[1]))
        return jnp.zeros_like(now), f(kept, *held)

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
    """``f`` with vectorised full sums of small arrays on the CPU: 16 numbers at a time instead of one by one.

    Such a sum is the derivative with respect to a scalar that multiplies a matrix, like a learning rate in every step
    of a backward pass. XLA adds the 2,048 numbers of a 64 x 32 matrix in two sequential halves: 2 us, a tenth of a
    training step of such a network. By columns it takes 0.2 us.

    >>> float(wide_sums(jax.grad(lambda rate, x: (rate * x).sum()))(2.0, jnp.ones((20, 10))))
    200.0
    """
    return rewritten(f, _widened)


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
    # without the barrier XLA merges the two sums into one
    return jnp.sum(jax.lax.optimization_barrier(jnp.sum(x, axis=0)))
