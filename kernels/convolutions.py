"""Gradients of convolutions on several devices, in programs that are batched more than once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from jhpo.kernels.internals import JaxprEqn, on_a_mesh
from jhpo.kernels.programs import rewritten

F = TypeVar("F", bound=Callable[..., Any])


def batchable(f: F) -> F:
    """``f``, whose gradients of convolutions can be batched twice, for example over members and folds.

    The transpose of a convolution asks for the sharding of its operand. On arrays of a mesh JAX refuses to batch such a
    convolution where it has groups, and the first batching gives it groups. Axes of a mesh that the compiler or
    `jax.shard_map` manages have no sharding there, so nothing is lost without it.

    Args:
      f: of arrays and trees of them.
    """

    @functools.wraps(f)
    def wrapper(*args: Any) -> Any:
        if not any(on_a_mesh(x) for x in jax.tree.leaves(args)):
            return f(*args)
        return rewritten(f, _unsharded)(*args)

    return wrapper  # type: ignore[return-value]


def _unsharded(eqn: JaxprEqn) -> Callable[..., jax.Array] | None:
    wanted = eqn.params.get("out_sharding") if eqn.primitive.name == "conv_general_dilated" else None
    if wanted is None or any(axis is not None for axis in wanted.spec):
        return None
    return functools.partial(eqn.primitive.bind, **{**eqn.params, "out_sharding": None})
