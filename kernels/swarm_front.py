"""Swarms with a front: the particles that move have arrays of their own, which a generation writes in place.

Restarts add blocks of particles. A block moves in the first rows, where it changes places with block 0.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jhpo.kernels.loops import apart, most, seldom
from jhpo.kernels.rows import exchanged, put, take, window
from jhpo.kernels.swarm_parts import Swarm

Pairs = tuple[tuple[jax.Array, jax.Array], ...]


def bests(swarm: Swarm, active: jax.Array | int, rows: jax.Array, columns: jax.Array | None = None) -> jax.Array:
    """Best positions in the given rows, int32[...]: all their coordinates, or one for each row from ``columns``."""
    n = swarm.best.shape[0]
    near = _read(swarm.best, jnp.minimum(rows, n - 1) if swarm.far_best.shape[0] else rows, columns)
    return with_far(swarm, active, rows, near, columns)


def with_far(
    swarm: Swarm, active: jax.Array | int, rows: jax.Array, near: jax.Array, columns: jax.Array | None = None
) -> jax.Array:
    """``near`` with the bests of rows that are not in front, read only if there are any."""
    n = swarm.best.shape[0]
    if not swarm.far_best.shape[0]:
        return near
    return seldom(functools.partial(beyond, n), grown(swarm, active), near, swarm.far_best, rows, columns)


def beyond(n: int, near: jax.Array, far: jax.Array, rows: jax.Array, columns: jax.Array | None = None) -> jax.Array:
    """``near`` with what ``far`` holds in rows from n on."""
    there = rows >= n
    found = _read(far, jnp.maximum(rows - n, 0), columns)
    return jnp.where(there[..., None] if columns is None else there, found, near)


def grown(swarm: Swarm, active: jax.Array | int) -> jax.Array:
    """``bool[]``: whether particles take part that are not in front; under vmap whether they do in any swarm."""
    return most(jnp.asarray(active, jnp.int32)) > swarm.best.shape[0]


def _read(a: jax.Array, rows: jax.Array, columns: jax.Array | None) -> jax.Array:
    at = a.at[rows] if columns is None else a.at[rows, columns]
    return at.get(mode="promise_in_bounds", wrap_negative_indices=False)


def brought(swarm: Swarm, others: Pairs, block: jax.Array) -> tuple[Swarm, Pairs]:
    """The swarm with the particles of a block in the first n rows; ``others`` are more arrays of n and m - n rows."""
    due = swarm.front != block
    for number in (swarm.front, block):  # back to its place, and out of it
        swarm, others = _exchange(swarm, others, jnp.where(due, number, 0))
    return swarm._replace(front=block), others


@apart  # so that the larger array is written in place, without a copy
def _swapped(_: None, due: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.where(due, b, a), jnp.where(due, a, b)


def _exchange(swarm: Swarm, others: Pairs, block: jax.Array) -> tuple[Swarm, Pairs]:
    """The first n rows change places with those of a block, and keep theirs if that is block 0."""
    n = swarm.position.shape[0]
    first, away = window(0, n), window(jnp.maximum(block, 1) * n, n)
    outside = window(away.start - n, n)

    def both(near: jax.Array, far: jax.Array) -> tuple[jax.Array, jax.Array]:
        if not far.shape[0]:
            return near, far
        near, there = _swapped(None, block > 0, near, take(far, outside))
        return near, put(far, outside, there)

    def within(a: jax.Array) -> jax.Array:
        if not a.shape[0]:
            return a
        here, there = take(a, first), take(a, away)
        a = put(a, away, jnp.where(block > 0, here, there))
        return put(a, first, jnp.where(block > 0, there, here))

    position, far_position = both(swarm.position, swarm.far_position)
    velocity, far_velocity = both(swarm.velocity, swarm.far_velocity)
    best, far_best = both(swarm.best, swarm.far_best)
    merit, far_merit = both(swarm.merit, swarm.far_merit)
    return swarm._replace(
        position=position,
        far_position=far_position,
        velocity=velocity,
        far_velocity=far_velocity,
        best=best,
        far_best=far_best,
        merit=merit,
        far_merit=far_merit,
        leader=exchanged(swarm.leader, window(block * n, n)),
        exemplar=within(swarm.exemplar),
        failures=within(swarm.failures),
    ), tuple(both(*pair) for pair in others)
