"""New members that a proposer has chosen, and that wait for a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels import threefry
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, State, Strategy
from jhpo.strategies.blind import learns


class Queue(NamedTuple):
    """Points that the proposer chose and that no member has taken yet; p of them at most."""

    units: jax.Array  # float[p, d], the first ones
    waiting: jax.Array  # int32[]
    proposer: State = None  # of one that does not look at values, which goes on; others are asked anew


def empty_queue(proposer: Strategy, space: Space, key: jax.Array, dtype: jnp.dtype) -> Queue:
    """Room for the points of a proposer, none of which waits."""
    units = jnp.full((proposer.population, space.dim), 0.5, dtype)
    return Queue(units, jnp.zeros((), jnp.int32), None if learns(proposer) else proposer.init(space, key))


def taken(
    queue: Queue, count: jax.Array, random: jax.Array, propose: Callable[[], tuple[jax.Array, State]]
) -> tuple[jax.Array, Queue]:
    """Points for new members: those that wait, then those that the proposer chooses now, then random ones.

    Args:
      queue: of p points at most.
      count: ``int32[]``, how many members begin, at most n.
      random: ``float[n, d]``.
      propose: gives ``float[p, d]`` and the proposer's next state; it runs if fewer points wait than members begin.

    Returns:
      ``float[n, d]``, of which the members take the first ones, and the queue without those.

    >>> queue = Queue(jnp.array([[0.1], [0.2]]), jnp.int32(1))
    >>> points, left = taken(queue, jnp.int32(2), jnp.full((3, 1), 0.9), lambda: (jnp.array([[0.3], [0.4]]), None))
    >>> points[:, 0].round(1).tolist(), left.units[:1, 0].round(1).tolist(), int(left.waiting)
    ([0.1..., 0.3..., 0.4...], [0.4...], 1)
    """
    n, p = len(random), len(queue.units)
    short = queue.waiting < count
    more, held = jax.lax.cond(short, propose, lambda: (queue.units, queue.proposer))
    there = queue.waiting + jnp.where(short, jnp.int32(p), 0)
    points = jnp.concatenate([queue.units, more, random])

    def from_on(first: jax.Array | int, length: int) -> jax.Array:
        at = first + jnp.arange(length, dtype=jnp.int32)
        where = jnp.where(at < queue.waiting, at, p + at - queue.waiting)
        return points[jnp.where(at < there, where, 2 * p + jnp.clip(at - there, 0, n - 1))]

    return from_on(0, n), Queue(from_on(count, p), jnp.maximum(there - count, 0), held)


def asked(
    proposer: Strategy,
    queue: Queue,
    space: Space,
    key: jax.Array,
    units: jax.Array,
    told: Evaluation,
    pending: jax.Array | None = None,
) -> tuple[jax.Array, State]:
    """Points of a proposer, ``float[p, d]``, and its state in the queue.

    One that learns begins afresh each time, as what is known of each member changes, and is told of all of them.

    Args:
      proposer: of a size that holds the members, see `prepare`.
      queue: where its points go.
      space: of the points.
      key: ``key[]``.
      units: ``float[C, d]``, the members.
      told: what is known of them.
      pending: ``bool[C]``, those that are being evaluated, if any can be.
    """
    k_init, k_ask = threefry.split(key)
    if not learns(proposer):
        points, held = proposer.ask(queue.proposer, k_ask)
        return points.astype(units.dtype), held
    state = proposer.absorb(proposer.init(space, k_init), units, told)
    if pending is not None:
        state = proposer.expect(state, units, pending)
    return proposer.ask(state, k_ask)[0].astype(units.dtype), None
