"""Norms over time, computed along with a derivative: |dE/dw_t| in reverse mode, |dw_t| in forward mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jhpo.kernels import trees
from jhpo.kernels.internals import needed
from jhpo.kernels.shapes import Array, Float

Tree = Any


@jax.custom_vjp
def probed(state: Tree, zero: Float[Array, ""]) -> Tree:
    """The state; in reverse mode the cotangent of ``zero`` is the norm of the state's cotangent."""
    return state


def _probed_forward(state: Tree, zero: jax.Array) -> tuple[Tree, jax.Array]:
    return state, zero


def _probed_backward(zero: jax.Array, cotangent: Tree) -> tuple[Tree, jax.Array]:
    floats = [c for c in jax.tree.leaves(cotangent) if c.dtype != jax.dtypes.float0 and trees.is_float(c)]
    size = trees.norm(floats).astype(zero.dtype) if floats else jnp.zeros_like(zero)
    return cotangent, size


probed.defvjp(_probed_forward, _probed_backward)


@jax.custom_jvp
def marked(state: Tree) -> tuple[Tree, jax.Array]:
    """The state, and a zero whose forward-mode tangent is the norm of the state's tangent."""
    return state, jnp.zeros((), jnp.result_type(float))


@marked.defjvp
def _marked_jvp(primals: tuple[Tree], tangents: tuple[Tree]) -> tuple[Any, Any]:
    moving = [t for t in jax.tree.leaves(tangents[0]) if t.dtype != jax.dtypes.float0]
    mark = jnp.zeros((), jnp.result_type(float))
    return marked(primals[0]), (tangents[0], trees.norm(moving).astype(mark.dtype) if moving else mark)


def read_leaves(evaluate: Callable[[Tree, Tree], jax.Array], hp: Tree, state: Tree) -> list[bool]:
    """For each leaf of the state, whether the evaluation depends on it; norms over time are taken over these leaves.

    The optimiser state is left out: second moments are tiny, so derivatives with respect to them are huge, and its
    effect on the training reaches the parameters anyway.

    >>> read_leaves(lambda hp, state: hp * state["w"], 1.0, {"memory": 2.0, "w": 3.0})
    [False, True]
    """
    program = jax.make_jaxpr(evaluate)(hp, state).jaxpr
    return needed(program, [True] * len(program.outvars))[len(jax.tree.leaves(hp)) :]


def split(tree: Tree, chosen: Sequence[bool] | None) -> tuple[list[Any], Callable[[list[Any]], Tree]]:
    """The chosen leaves, and a function that rebuilds the tree from such leaves."""
    leaves, treedef = jax.tree.flatten(tree)
    chosen = [True] * len(leaves) if chosen is None else chosen

    def put(some: list[Any]) -> Tree:
        rest = iter(some)
        return jax.tree.unflatten(treedef, [next(rest) if c else leaf for c, leaf in zip(chosen, leaves)])

    return [leaf for c, leaf in zip(chosen, leaves) if c], put
