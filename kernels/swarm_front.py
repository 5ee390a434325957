"""Swarms with a front: the particles that move have arrays of their own, which a generation writes in place.

Restarts add blocks of particles. A block moves in the first rows, where it changes places with block 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.kernels.loops import most, seldom
from jhpo.kernels.rows import Window, exchanged, put, take, window
from jhpo.kernels.swarm_parts import Swarm


def everywhere(near: jax.Array, far: jax.Array) -> jax.Array:
    """The rows of a front and all others, in one array."""
    return jnp.concatenate([near, far]) if far.shape[0] else near


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

    def read(near: jax.Array, far: jax.Array, rows: jax.Array) -> jax.Array:
        there = rows >= n
        found = _read(far, jnp.maximum(rows - n, 0), columns)
        return jnp.where(there[..., None] if columns is None else there, found, near)

    due = most(jnp.asarray(active, jnp.int32)) > n
    return seldom(read, due, near, swarm.far_best, rows)


def _read(a: jax.Array, rows: jax.Array, columns: jax.Array | None) -> jax.Array:
    at = a.at[rows] if columns is None else a.at[rows, columns]
    return at.get(mode="promise_in_bounds", wrap_negative_indices=False)


def brought(swarm: Swarm, others: tuple[jax.Array, ...], block: jax.Array) -> tuple[Swarm, tuple[jax.Array, ...]]:
    """The swarm with the particles of a block in the first n rows; ``others`` are more arrays with m rows."""
    due = swarm.front != block
    for number in (swarm.front, block):  # back to its place, and out of it
        swarm, others = _exchange(swarm, others, jnp.where(due, number, 0))
    return swarm._replace(front=block), others


def _exchange(swarm: Swarm, others: tuple[jax.Array, ...], block: jax.Array) -> tuple[Swarm, tuple[jax.Array, ...]]:
    """The first n rows change places with those of a block, and keep theirs if that is block 0."""
    n = swarm.position.shape[0]
    first, away = window(0, n), window(jnp.maximum(block, 1) * n, n)

    def both(near: jax.Array, far: jax.Array, there: Window) -> tuple[jax.Array, jax.Array]:
        a, b = take(near, first), take(far, there)
        a, b = (jnp.where(block > 0, new, old) for new, old in ((b, a), (a, b)))
        return put(near, first, a), put(far, there, b)

    def within(a: jax.Array) -> jax.Array:
        if not a.shape[0]:
            return a
        here, there = take(a, first), take(a, away)
        a = put(a, away, jnp.where(block > 0, here, there))
        return put(a, first, jnp.where(block > 0, there, here))

    beyond = window(away.start - n, n)
    position, far_position = both(swarm.position, swarm.far_position, beyond)
    velocity, far_velocity = both(swarm.velocity, swarm.far_velocity, beyond)
    best, far_best = both(swarm.best, swarm.far_best, beyond)
    return swarm._replace(
        position=position,
        far_position=far_position,
        velocity=velocity,
        far_velocity=far_velocity,
        best=best,
        far_best=far_best,
        merit=within(swarm.merit),
        leader=exchanged(swarm.leader, window(block * n, n)),
        exemplar=within(swarm.exemplar),
        failures=within(swarm.failures),
    ), tuple(within(a) for a in others)
