"""Which hyperparameters a result depends on, and on which differentiably, from the jaxpr."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import trees
from jhpo.kernels.internals import NO_FORWARD, Jaxpr, needed
from jhpo.kernels.programs import equations

HP = Any


def names_of(hp: HP) -> list[str]:
    """Dotted names of the leaves of hp, in their order ('value' for a bare array).

    >>> names_of({"sched": [1.0, 2.0], "wd": 0.1})
    ['sched.0', 'sched.1', 'wd']
    """
    paths = jax.tree_util.tree_flatten_with_path(hp)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") or "value" for path, _ in paths]


def _used(fun: Callable[..., Any], leaves: list[Any]) -> list[bool]:
    closed = jax.make_jaxpr(fun)(*leaves)
    return needed(closed.jaxpr, [True] * len(closed.jaxpr.outvars))


def reaches(fun: Callable[[HP], Any], hp: HP) -> list[bool]:
    """For each leaf of hp, whether the result depends on it. Traces ``fun`` without computing anything.

    >>> reaches(lambda hp: hp["a"] * 2.0, {"a": 1.0, "b": 2.0})
    [True, False]
    """
    leaves, treedef = jax.tree.flatten(hp)
    return _used(lambda *x: jax.tree.leaves(fun(jax.tree.unflatten(treedef, x))), leaves)


class Derivative(NamedTuple):
    """How a function can be differentiated."""

    forward: bool  # forward mode works: there is no `jax.custom_vjp`
    smooth: list[bool]  # for each floating-point leaf, whether a path to the result has a derivative (a sign has none)


def derivative(fun: Callable[[HP], Any], hp: HP) -> Derivative:
    """Traces the derivative of ``fun`` without computing anything; without forward mode ``fun`` must return a scalar.

    >>> import jax.numpy as jnp
    >>> derivative(lambda hp: jnp.sign(hp["a"]) * hp["b"], {"a": 1.0, "b": 2.0})
    Derivative(forward=True, smooth=[False, True])
    """
    program = _tangents(fun, hp)
    if not _is_forward(program):
        return Derivative(False, reaches_backwards(fun, hp))
    return Derivative(True, needed(program, [True] * len(program.outvars)))


def has_forward_mode(fun: Callable[[HP], Any], hp: HP) -> bool:
    """`Derivative.forward`, for a function with any results."""
    return _is_forward(_tangents(fun, hp))


def _tangents(fun: Callable[[HP], Any], hp: HP) -> Jaxpr:
    floats, rebuild = trees.split_floats(hp)

    def tangents(*directions: jax.Array) -> Any:
        return jax.jvp(lambda x: trees.split_floats(fun(rebuild(x)))[0], (floats,), (list(directions),))[1]

    return jax.make_jaxpr(tangents)(*floats).jaxpr


def _is_forward(program: Jaxpr) -> bool:
    # forward mode leaves a `jax.custom_vjp` in the jaxpr as this primitive, which cannot be compiled
    return all(eqn.primitive.name != NO_FORWARD for eqn in equations(program))


def reaches_backwards(fun: Callable[[HP], jax.Array], hp: HP) -> list[bool]:
    """As `Derivative.smooth`, for a scalar function with a derivative in reverse mode only (`jax.custom_vjp`).

    >>> import jax.numpy as jnp
    >>> reaches_backwards(lambda hp: jnp.sign(hp["a"]) * hp["b"], {"a": 1.0, "b": 2.0})
    [False, True]
    """
    floats, rebuild = trees.split_floats(hp)

    def gradients(weight: jax.Array) -> Any:
        value, pull = jax.vjp(lambda x: fun(rebuild(x)), floats)
        return pull(weight.astype(value.dtype))[0]

    jaxpr = jax.make_jaxpr(gradients)(jnp.ones(())).jaxpr
    wanted = np.eye(len(floats), dtype=bool).tolist()
    return [needed(jaxpr, row)[0] for row in wanted]
