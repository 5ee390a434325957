"""Types of a swarm: the static rule, the coefficients, the particles, and their random numbers."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jhpo.kernels import counter_random, threefry

SCHEDULES = ("constant", "linear", "random")
GENERATORS = ("counter", "threefry")

# random streams of one generation
R1, R2, R3, TURN, WHO, LINKS = range(6)
STREAMS = 6


@dataclasses.dataclass(frozen=True)
class Rule:
    """Static, hashable options that determine the program."""

    motion: str = "attract"  # one of MOTIONS
    graph: str = "informants"  # one of topology.TOPOLOGIES
    bounds: str = "absorb"  # one of BOUNDS
    schedule: str = "constant"  # of the inertia, one of SCHEDULES
    informants: int = 3  # per particle, if the graph is random
    solo: bool = True  # a particle that is its own best informant feels no social pull (SPSO-2006)
    generator: str = "counter"  # one of GENERATORS; threefry is slower, for comparison


class Coefficients(NamedTuple):
    """Coefficients of the velocity update, float[] each, traced."""

    inertia: jax.Array
    cognitive: jax.Array
    social: jax.Array
    inertia_end: jax.Array  # where a linear schedule ends
    horizon: jax.Array  # generations a linear schedule takes
    clamp: jax.Array  # largest velocity in widths of the box; inf for none


class Swarm(NamedTuple):
    """State of m particles. In a compete swarm ``best`` equals ``position``.

    In a swarm with a front, which moves n particles at once, the first n rows are arrays of their own: only these are
    written, in place. See `swarm_front`.
    """

    position: jax.Array  # float[m, d], within the bounds; with a front float[n, d]
    velocity: jax.Array  # as position; with absorbing bounds before the rebound, which the next move applies
    best: jax.Array  # as position, best position of each particle
    far_position: jax.Array  # float[m - n, d], of the other rows; without a front float[0, d]
    far_velocity: jax.Array  # as far_position
    far_best: jax.Array  # as far_position
    front: jax.Array  # int32[], the block that is in the first n rows; block 0 is in its place
    merit: jax.Array  # float[m], of best; with a front float[n]
    far_merit: jax.Array  # float[m - n], of the other rows
    leader: jax.Array  # int32[], the row with the best merit; known only where all follow it
    least: jax.Array  # float[], the best merit
    links: jax.Array  # uint32[2], random stream of the graph
    stalled: jax.Array  # bool[], the last generation did not improve the best: a new graph is due
    exemplar: jax.Array  # int32[m, d] for the exemplar motion, else int32[0, d]
    failures: jax.Array  # int32[m] for the exemplar motion, else int32[0]: moves since a particle improved

    @property
    def merits(self) -> jax.Array:
        """``float[m]``: the merits of all rows."""
        return everywhere(self.merit, self.far_merit)


def everywhere(near: jax.Array, far: jax.Array) -> jax.Array:
    """The rows of a front and all others, in one array."""
    return jnp.concatenate([near, far]) if far.shape[0] else near


class Draw(NamedTuple):
    """Random numbers of one generation."""

    words: jax.Array  # uint32[STREAMS, 2], seeds of `counter_random`
    key: jax.Array | None  # used instead of the words by the threefry generator

    def uniform(self, stream: int, shape: tuple[int, ...], dtype: DTypeLike, part: int = 0) -> jax.Array:
        if self.key is None:
            seed = self.words[stream] if part == 0 else self.words[stream] ^ np.uint32(0x632BE59B * part % 2**32)
            return counter_random.uniform(seed, shape, dtype)
        return jax.random.uniform(threefry.fold_in(threefry.fold_in(self.key, stream), part), shape, dtype)

    def pair(self, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[jax.Array, jax.Array]:
        if self.key is None:
            return counter_random.uniform_pair(self.words[R1], shape, dtype)
        return self.uniform(R1, shape, dtype), self.uniform(R2, shape, dtype)

    def normal(self, stream: int, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        if self.key is None:
            return counter_random.normal(self.words[stream], shape, dtype)
        return jax.random.normal(threefry.fold_in(self.key, stream), shape, dtype)
