"""Factorisations of many matrices on a CPU, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from jhpo.kernels.internals import JaxprEqn, alone, runnable, shape_of
from jhpo.kernels.loops import in_turn
from jhpo.kernels.programs import replaced, rewritten

F = TypeVar("F", bound=Callable[..., Any])

# Primitives that JAX computes by LAPACK, and the axes of their first operand without those of a batch.
_AXES = {"tridiagonal_solve": 1} | dict.fromkeys(
    "cholesky eig eigh geqp3 geqrf hessenberg householder_product lu ormqr qr schur svd triangular_solve "
    "tridiagonal".split(),
    2,
)


def lapack_in_turn(f: F) -> F:
    """``f`` whose factorisations of many matrices, also those that ``vmap`` makes of one, a CPU does one by one.

    XLA:CPU hands the matrices of a batch to the threads of its pool, and waits for them in a thread of that pool. If
    there are as many such calls as threads (two on two cores: two layers with orthogonal weights), all wait for
    each other for ever. One matrix at a time needs no pool.

    Args:
      f: of arrays and trees of them. Derivatives are those of ``f``.

    >>> import jax.numpy as jnp
    >>> factors = jax.vmap(lapack_in_turn(jnp.linalg.cholesky))(4.0 * jnp.ones((3, 1, 1)))
    >>> factors.ravel().tolist()
    [2.0, 2.0, 2.0]
    """
    return rewritten(f, _in_turn)


def _in_turn(equation: JaxprEqn) -> Callable[..., Any] | None:
    inner = equation.params.get("call_jaxpr")
    if inner is not None and equation.primitive.name in ("custom_jvp_call", "custom_vjp_call"):
        changed = replaced(inner, _in_turn)
        return None if changed is inner else _differentiable(runnable(changed), equation)
    axes = _AXES.get(equation.primitive.name)
    if axes is None:
        return None
    call: Callable[..., Any] = in_turn(lambda *operands: tuple(alone(equation)(*operands)))
    for _ in range(shape_of(equation.invars[0]).ndim - axes):
        call = jax.vmap(call)
    return _differentiable(call, equation)


def _differentiable(call: Callable[..., Any], equation: JaxprEqn) -> Callable[..., Any]:
    """A call that computes what an equation does, with the derivatives of the equation."""
    same = jax.custom_jvp(lambda *operands: tuple(call(*operands)))
    same.defjvp(lambda primals, tangents: jax.jvp(lambda *x: tuple(alone(equation)(*x)), primals, tangents))
    return same
