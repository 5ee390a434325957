"""Inner gradients whose backward pass is a Hessian product by forward-over-reverse: less time and memory (MixFlow)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jhpo.kernels.convolutions import batchable
from jhpo.kernels.internals import runnable, with_constants

Tree = Any

# `checkpoint_name` of inner gradients, for rematerialisation policies. Nothing else of the inner gradient has to be
# saved, as the Hessian product recomputes the rest anyway.
GRADIENT = "jhpo.kernels.mixed.gradient"


@jax.custom_jvp
def _identity(x: Tree, point: Tree) -> Tree:
    return x


@_identity.defjvp
def _identity_jvp(primals: tuple[Tree, Tree], tangents: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
    raise NotImplementedError(
        "mixed_grad is differentiable once (forward or reverse): use jax.grad in the step for second hypergradients"
    )


def _hessian_product(loss: Callable[[Tree], jax.Array], point: Tree, vector: Tree) -> Tree:
    """H v as a linear map that is its own transpose, so that reverse mode runs jvp-of-grad instead of grad-of-grad.

    `custom_linear_solve` is JAX's public way to define a linear map with a given transpose: with the identity as
    matvec, ``solve`` may be any symmetric map. It supports vmap, and its transpose is the same ``solve``.
    A derivative with respect to the point would differentiate the matvec only, so the matvec raises.
    """

    def product(_: object, direction: Tree) -> Tree:
        return jax.jvp(jax.grad(loss), (point,), (direction,))[1]

    return lax.custom_linear_solve(lambda x: _identity(x, point), vector, product, symmetric=True)


def mixed_value_and_grad(fun: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    """`jax.value_and_grad` with respect to the first argument, efficient when differentiated once more.

    Differentiating a training step needs the product of the inner Hessian with a vector. Reverse mode over
    ``jax.grad`` saves every residual of both passes of the inner gradient; because the Hessian is symmetric,
    the same product is the directional derivative of the gradient, which saves none. The result supports `jax.jvp`
    (forward hypergradients), `jax.vjp` (reverse), ``vmap`` and ``jit``.

    Args:
      fun: ``fun(params, *args) -> scalar`` (or ``(scalar, aux)``); hyperparameters may be closed over.
      has_aux: whether ``fun`` returns ``(scalar, aux)``; aux may be new batch statistics, for example.

    Returns:
      A function with the arguments of ``fun`` that returns ``(value, grad)``, or ``((value, aux), grad)``.

    Raises:
      NotImplementedError: when the result is differentiated twice.

    Source: Kemaev, Calian, Zintgraf, Farquhar, van Hasselt, "Scalable meta-learning via mixed-mode
    differentiation" (2025).

    >>> import jax
    >>> step = lambda lr, w: w - lr * mixed_value_and_grad(lambda p: p**4 / 4)(w)[1]
    >>> float(jax.grad(step)(0.5, 2.0)), float(jax.grad(step, 1)(0.5, 2.0))
    (-8.0, -5.0)
    >>> float(jax.jvp(step, (0.5, 2.0), (0.0, 1.0))[1])
    -5.0
    """

    def wrapped(params: Tree, *args: Any) -> Any:
        # closed-over arrays become arguments too: the derivative rule is traced later, perhaps in another trace
        closed, shape = jax.make_jaxpr(fun, return_shape=True)(params, *args)
        others = (closed.consts, jax.tree.leaves(args))

        def call(point: Tree) -> Any:
            inner, (consts, leaves) = point
            out = runnable(with_constants(closed, consts))(*jax.tree.leaves(inner), *leaves)
            return jax.tree.unflatten(jax.tree.structure(shape), out)

        scalar = (lambda point: call(point)[0]) if has_aux else call
        # the value has ordinary derivatives, which are of first order
        return call((params, others)), checkpoint_name(_gradient(scalar, params, others), GRADIENT)

    return wrapped


def _gradient(scalar: Callable[[Tree], jax.Array], params: Tree, others: Tree) -> Tree:
    """Gradient of ``scalar((params, others))`` with respect to params, differentiated by `_hessian_product`."""

    @jax.custom_jvp
    def gradient(point: Tree) -> Tree:
        return batchable(jax.grad(lambda p: scalar((p, point[1]))))(point[0])

    def gradient_jvp(primals: Any, tangents: Any) -> tuple[Tree, Tree]:
        fixed, treedef = jax.tree.flatten(primals[0])
        moving = jax.tree.leaves(tangents[0], is_leaf=_is_zero)
        rows = len(jax.tree.leaves(primals[0][0]))
        # differentiate with respect to the parameters and to other inputs with a tangent; a batch has none
        where = [i for i, tangent in enumerate(moving) if i < rows or not _is_zero(tangent)]

        def restricted(leaves: list[jax.Array]) -> jax.Array:
            at = dict(zip(where, leaves))
            return scalar(jax.tree.unflatten(treedef, [at.get(i, leaf) for i, leaf in enumerate(fixed)]))

        product = _hessian_product(restricted, [fixed[i] for i in where], _instantiate([moving[i] for i in where]))
        return gradient(primals[0]), jax.tree.unflatten(jax.tree.structure(primals[0][0]), product[:rows])

    gradient.defjvp(gradient_jvp, symbolic_zeros=True)
    return gradient((params, others))


def mixed_grad(fun: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    """`jax.grad`, efficient when differentiated once more; see `mixed_value_and_grad`.

    Returns ``grad``, or ``(grad, aux)`` with ``has_aux``, as `jax.grad` does.

    >>> import jax
    >>> float(jax.grad(lambda w: mixed_grad(lambda p: p**3)(w))(2.0))
    12.0
    """
    both = mixed_value_and_grad(fun, has_aux)

    def wrapped(params: Tree, *args: Any) -> Any:
        value, grad = both(params, *args)
        return (grad, value[1]) if has_aux else grad

    return wrapped


def _is_zero(leaf: object) -> bool:
    return isinstance(leaf, jax.custom_derivatives.SymbolicZero)


def _instantiate(tangents: list[Any]) -> list[jax.Array]:
    """Tangents with symbolic zeros as arrays of zeros that depend on a non-zero tangent, as transposition requires."""
    source = jnp.asarray(next(t for t in tangents if not _is_zero(t))).reshape(-1)[0]

    def zeros(like: Any) -> jax.Array:
        chosen = jnp.zeros(like.shape, bool)
        return jnp.where(chosen, source.astype(like.dtype), jnp.zeros(like.shape, like.dtype))

    return [zeros(t) if _is_zero(t) else jnp.asarray(t) for t in tangents]
