"""Particle swarm optimisation in its variants: creating a swarm, moving particles, updating their bests.

m particles, n of them moved at once, d dimensions. The motions of `motions` compute the next velocities v; then
x <- x + v. ``merit`` is float[m], lower is better, +inf before the first success: the values themselves, or a number
computed from values and violations if there are constraints.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jhpo.kernels import counter_random, shuffle
from jhpo.kernels.bounds import BOUNDS, REBOUND, Box, box, inside
from jhpo.kernels.loops import abreast, apart, width
from jhpo.kernels.motions import MOTIONS, Moving
from jhpo.kernels.rows import Rows, Window, put, take, take_abreast, window
from jhpo.kernels.swarm_parts import (
    GENERATORS,
    LINKS,
    R2,
    R3,
    SCHEDULES,
    STREAMS,
    TURN,
    WHO,
    Coefficients,
    Draw,
    Rule,
    Swarm,
)

__all__ = [
    "BOUNDS",
    "GENERATORS",
    "MOTIONS",
    "REBOUND",
    "SCHEDULES",
    "STREAMS",
    "Box",
    "Coefficients",
    "Draw",
    "Rule",
    "Swarm",
    "collapsed",
    "create",
    "forgotten",
    "inertia_at",
    "inside",
    "launch",
    "move",
    "needed",
    "placed",
    "remember",
]

REFRESH = 7  # CLPSO's refreshing gap: failures after which a particle chooses new exemplars


def create(
    rule: Rule, key: jax.Array, position: jax.Array, low: ArrayLike, high: ArrayLike, *, rows: int | None = None
) -> Swarm:
    """A swarm at given positions float[n, d], inside the box [low, high] (scalars or float[d]).

    Args:
      rows: m; rows beyond the first n are idle and lie outside the box. n if None.

    Raises:
      ValueError: concrete bounds that are not finite or not in order.
    """
    n, d = position.shape
    m = n if rows is None else rows
    streams, within = counter_random.seeds(key, 2), box(low, high, position.dtype)
    velocity = launch(rule, streams[0], position, low, high)
    if m > n:
        outside = jnp.broadcast_to(2 * within.low - within.high, (m - n, d))
        position = jnp.concatenate([position, outside])
        velocity = jnp.pad(velocity, ((0, m - n), (0, 0)))
    chosen = m if rule.motion == "exemplar" else 0
    return Swarm(
        position=position,
        velocity=velocity,
        best=position,
        merit=jnp.full((m,), jnp.inf, position.dtype),
        leader=jnp.zeros((), jnp.int32),
        least=jnp.asarray(jnp.inf, position.dtype),
        links=streams[1],
        stalled=jnp.zeros((), bool),
        exemplar=jnp.zeros((chosen, d), jnp.int32) + jnp.arange(chosen, dtype=jnp.int32)[:, None],
        failures=jnp.full((chosen,), REFRESH, jnp.int32),
    )


@apart  # in one loop with the padding of its result, rows that lie idle would be computed as well
def launch(rule: Rule, seed: jax.Array, position: jax.Array, low: ArrayLike, high: ArrayLike) -> jax.Array:
    """``float[n, d]``, the initial velocities of particles at ``position`` float[n, d].

    Half the way to a uniform point of the box (SPSO-2006); 0 for the compete motion.
    """
    within = box(low, high, position.dtype)
    if rule.motion == "compete":
        return jnp.zeros_like(position)
    target = within.low + (within.high - within.low) * counter_random.uniform(seed, position.shape, position.dtype)
    return (target - position) / 2


def forgotten(swarm: Swarm, key: jax.Array) -> Swarm:
    """The swarm without merits and with a new graph; positions, velocities and bests have to be written again."""
    ids = jnp.arange(swarm.exemplar.shape[0], dtype=jnp.int32)[:, None]
    return swarm._replace(
        merit=jnp.full_like(swarm.merit, jnp.inf),
        leader=jnp.zeros_like(swarm.leader),
        least=jnp.full_like(swarm.least, jnp.inf),
        links=counter_random.seeds(key, 1)[0],
        stalled=jnp.zeros_like(swarm.stalled),
        exemplar=jnp.broadcast_to(ids, swarm.exemplar.shape),
        failures=jnp.zeros_like(swarm.failures),
    )


def move(
    rule: Rule,
    c: Coefficients,
    swarm: Swarm,
    key: jax.Array,
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
    *,
    generation: ArrayLike = 0,
    block: tuple[int, Any, Any] | None = None,
) -> tuple[Swarm, Rows, jax.Array, jax.Array]:
    """The next positions, inside [low, high] for every finite state, and velocities; `placed` writes them.

    Args:
      rule: static.
      c: coefficients.
      swarm: before the move; its arrays may be donated.
      key: JAX key of this generation.
      low, high: the box, scalars or float[d].
      generation: since the start of the inertia schedule.
      block: (n, number, active) moves only rows ``number * n`` to ``(number + 1) * n`` of the first ``active``; a
        compete swarm moves the losers of n random pairs instead. None moves all rows (half of a compete swarm).

    Returns:
      The swarm, its positions and velocities unchanged; the rows that move; their next positions and velocities,
      float[n, d] each.
    """
    m, d = swarm.position.shape
    within = box(low, high, swarm.position.dtype)
    draw = Draw(counter_random.seeds(key, STREAMS), key if rule.generator == "threefry" else None)
    active = m if block is None else block[2]
    rows: Rows = None
    winners = None
    if rule.motion == "compete":
        rows, winners = _pairs(swarm.merit, key, active, m // 2 if block is None else block[0])
    elif block is not None and block[0] < m:
        rows = window(jnp.asarray(block[1], jnp.int32) * block[0], block[0])
    ids = numbers(rows, m)
    redraw = swarm.stalled if rule.graph == "informants" else jnp.ones((), bool)
    swarm = swarm._replace(links=jnp.where(redraw, draw.words[LINKS], swarm.links))
    if rule.motion == "exemplar":
        swarm = _choose_exemplars(swarm, draw, ids, rows, active)
    now = c._replace(inertia=inertia_at(rule, c, generation, draw))
    v = MOTIONS[rule.motion](Moving(rule, now, draw, within, swarm, rows, ids, active, winners))
    x, v = _inside((rule, width(len(ids))), swarm.position, rows, v, within)
    return swarm, rows, x.reshape(-1, d), v.reshape(-1, d)


@apart
def _inside(
    static: tuple[Rule, int], position: jax.Array, rows: Rows, v: jax.Array, within: Box
) -> tuple[jax.Array, jax.Array]:
    """`inside`, on k rows joined into one."""
    rule, k = static
    x, v = take_abreast(position, rows, k), v.reshape(-1, k * v.shape[1])
    within = Box(*abreast(k, *within)) if k > 1 else within
    return inside(rule, x, v, within)


def numbers(rows: Rows, m: int) -> jax.Array:
    """``int32[n]``, the given rows of m as numbers."""
    if isinstance(rows, Window):
        return rows.start + jnp.arange(len(rows.rows), dtype=jnp.int32)
    return jnp.arange(m, dtype=jnp.int32) if rows is None else rows


def placed(swarm: Swarm, rows: Rows, position: jax.Array, velocity: jax.Array) -> Swarm:
    """The swarm with new positions and velocities, float[n, d] each, in the given rows."""
    return swarm._replace(position=put(swarm.position, rows, position), velocity=put(swarm.velocity, rows, velocity))


def remember(
    rule: Rule,
    swarm: Swarm,
    rows: Rows,
    position: jax.Array,
    improved: jax.Array,
    merit: jax.Array,
    *,
    revised: bool = False,
) -> Swarm:
    """The swarm with its bests and merits updated by the results of a generation.

    Args:
      rows: from `move`.
      position: float[n, d], where they were evaluated.
      improved: bool[n], whether the position replaces the particle's best (in a compete swarm it always does).
      merit: float[n], the new merits of these rows.
      revised: whether a merit may have become worse, as running means can.
    """
    competes = rule.motion == "compete"
    keep = jnp.ones_like(improved) if competes else improved
    best = put(swarm.best, rows, jnp.where(keep[:, None], position, take(swarm.best, rows)))
    failures = swarm.failures
    if failures.size:
        failures = put(failures, rows, jnp.where(improved, 0, take(failures, rows) + 1))
    merits = put(swarm.merit, rows, merit)
    if rows is None or revised or competes:
        leader = first_least(merits)
        least = merits[leader]
    else:
        first = first_least(merit)
        least = merit[first]
        leader = jnp.where(least < swarm.least, numbers(rows, 0)[first], swarm.leader)
        least = jnp.minimum(least, swarm.least)
    gained = least < swarm.least
    return swarm._replace(best=best, merit=merits, leader=leader, least=least, stalled=~gained, failures=failures)


def first_least(a: jax.Array) -> jax.Array:
    """``int32[]``, `jnp.argmin` of float[m] in two passes, because XLA's argmin is not vectorised."""
    m = a.shape[0]
    return jnp.where(a == a.min(), jnp.arange(m, dtype=jnp.int32), m - 1).min()


def collapsed(position: jax.Array, active: jax.Array, spread: float) -> jax.Array:
    """``bool[]``: whether the first ``active`` rows of float[m, d] span at most ``spread`` in every coordinate."""
    there = (jnp.arange(position.shape[0], dtype=jnp.int32) < active)[:, None]
    low, high = jnp.where(there, position, jnp.inf).min(axis=0), jnp.where(there, position, -jnp.inf).max(axis=0)
    return (high - low <= spread).all()


def needed(rule: Rule) -> int:
    """The smallest number of particles that the rule is defined for."""
    if rule.motion == "compete" or rule.graph == "global":
        return 2
    if rule.graph in ("random", "informants"):
        return max(2, rule.informants)
    return {"ring": 3, "vonneumann": 5}[rule.graph]


def inertia_at(rule: Rule, c: Coefficients, generation: ArrayLike, draw: Draw) -> jax.Array:
    """``float[]``, the inertia of this generation by the rule's schedule."""
    if rule.schedule == "linear":
        done = jnp.clip(jnp.asarray(generation).astype(c.horizon.dtype) / c.horizon, 0, 1)
        return c.inertia + (c.inertia_end - c.inertia) * done
    if rule.schedule == "random":  # one draw per generation, U(w/2, w)
        return c.inertia * (1 - draw.uniform(TURN, (1,), c.inertia.dtype)[0] / 2)
    return c.inertia


def _choose_exemplars(swarm: Swarm, draw: Draw, ids: jax.Array, rows: Rows, active: ArrayLike) -> Swarm:
    """CLPSO: a particle that failed REFRESH times draws a new exemplar for every dimension."""
    n, d = ids.shape[0], swarm.position.shape[1]
    dtype = swarm.position.dtype
    size = jnp.asarray(active, jnp.int32)
    share = ids.astype(dtype) / jnp.maximum(size - 1, 1).astype(dtype)
    learn = jnp.asarray(0.05, dtype) + jnp.asarray(0.45 / np.expm1(10.0), dtype) * jnp.expm1(10 * share)
    first, second = (counter_random.integers(draw.words[s], (n, d), size) for s in (R2, R3))
    rival = jnp.where(swarm.merit[second] < swarm.merit[first], second, first)
    own = jnp.broadcast_to(ids[:, None], (n, d))
    chosen = jnp.where(draw.uniform(TURN, (n, d), dtype) < learn[:, None], rival, own)
    # if all exemplars are the particle itself, one random dimension follows another particle
    at, other = (counter_random.integers(draw.words[s], (n,), b) for s, b in ((WHO, d), (LINKS, size - 1)))
    other = lax.rem(ids + 1 + other, jnp.broadcast_to(size, ids.shape))
    alone = (chosen == own).all(axis=1)
    chosen = jnp.where(alone[:, None] & (jnp.arange(d, dtype=jnp.int32)[None] == at[:, None]), other[:, None], chosen)
    failures = take(swarm.failures, rows)
    due = failures >= REFRESH
    return swarm._replace(
        exemplar=put(swarm.exemplar, rows, jnp.where(due[:, None], chosen, take(swarm.exemplar, rows))),
        failures=put(swarm.failures, rows, jnp.where(due, 0, failures)),
    )


def _pairs(merit: jax.Array, key: jax.Array, active: jax.Array | int, n: int) -> tuple[jax.Array, jax.Array]:
    """Losers and winners, int32[n] each, of n random pairs among the active rows; all rows differ."""
    drawn = shuffle.permuted(jax.random.fold_in(key, WHO), jnp.arange(2 * n, dtype=jnp.int32), active)
    a, b = drawn[:n], drawn[n:]
    wins = merit[a] < merit[b]
    return jnp.where(wins, b, a), jnp.where(wins, a, b)
