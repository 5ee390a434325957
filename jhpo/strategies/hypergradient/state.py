"""The state of a gradient strategy, and helpers for rows and masks of members."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jhpo.space.space import Space

if TYPE_CHECKING:
    import optax

Tree = TypeVar("Tree")


class HyperGradientState(NamedTuple):
    """m = population * starts members: the best point of each one's polish, and the point it asked for last."""

    space: Space  # static
    scramble: jax.Array  # uint32[d], of the Sobol points at which members start
    drawn: jax.Array  # uint32[], starts drawn so far
    streams: jax.Array  # uint32[], seeds used so far
    rows: jax.Array  # int32[n], the members asked last
    turns: jax.Array  # int32[m], points of this start so far
    seed: jax.Array  # uint32[m], of the members' polishes
    unit: jax.Array  # float[m, d], points asked for last
    given: jax.Array  # bool[m], `unit` is the next point to ask for
    best: jax.Array  # float[m, d], best points of the polishes
    value: jax.Array  # float[m], at `best`; +inf before there is one
    violation: jax.Array  # float[m], constraint violation at `best`; +inf before there is one
    grad: jax.Array  # float[m, d], at `best`, in the coordinates of the descent
    longest: jax.Array  # float[m], norm of the longest gradient accepted in the polish
    move: jax.Array  # float[m, d], step from `best` to the next point, in the same coordinates
    opt: optax.OptState  # states of the outer optimisers, every leaf [m, ...]
    scale: jax.Array  # float[m], factor of the optimisers' steps
    misses: jax.Array  # int32[m], rejections since the last accepted point
    polish: jax.Array  # int32[m], finished polishes from this start


# fields that are not per member
SHARED = ("space", "scramble", "drawn", "streams", "rows")


def members_at(state: HyperGradientState, rows: jax.Array) -> HyperGradientState:
    """The state of the members in ``rows``."""
    mine = {k: jax.tree.map(lambda x: x[rows], v) for k, v in state._asdict().items() if k not in SHARED}
    return state._replace(**mine)


def put_members(state: HyperGradientState, rows: jax.Array, members: HyperGradientState) -> HyperGradientState:
    """The state with the members in ``rows`` replaced."""
    new = members._asdict()
    mine = {
        k: jax.tree.map(lambda x, y: x.at[rows].set(y), v, new[k])
        for k, v in state._asdict().items()
        if k not in SHARED
    }
    return members._replace(**mine)


def count(mask: jax.Array) -> jax.Array:
    """``uint32[]``: number of members in the mask."""
    return mask.sum(dtype=jnp.uint32)


def rank(mask: jax.Array) -> jax.Array:
    """``uint32[n]``: number of members in the mask before each one."""
    marks = mask.astype(jnp.uint32)
    return jnp.cumsum(marks, dtype=jnp.uint32) - marks


def where(mask: jax.Array, new: Tree, old: Tree) -> Tree:
    """Leaves ``[n, ...]`` of ``new`` for members in the mask, of ``old`` for the others."""
    return jax.tree.map(lambda a, b: jnp.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b), new, old)
