"""Particle swarm optimisation in its variants: creating a swarm, moving particles, updating their bests.

m particles, n of them moved at once, d dimensions. The motions of `motions` compute the next velocities v; then
x <- x + v. ``merit`` is float[m], lower is better, +inf before the first success: the values themselves, or a number
computed from values and violations if there are constraints.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jhpo.kernels import counter_random, shuffle, threefry
from jhpo.kernels.bounds import BOUNDS, REBOUND, Box, box, inside
from jhpo.kernels.exemplars import REFRESH, choose_exemplars
from jhpo.kernels.loops import abreast, apart, width
from jhpo.kernels.motions import MOTIONS, Moving
from jhpo.kernels.order import first_least
from jhpo.kernels.rows import Rows, Window, exchanged, joined, put, take, take_joined, window
from jhpo.kernels.swarm_front import bests, brought
from jhpo.kernels.swarm_parts import (
    GENERATORS,
    LINKS,
    SCHEDULES,
    STREAMS,
    TURN,
    WHO,
    Coefficients,
    Draw,
    Rule,
    Swarm,
    everywhere,
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
    "bests",
    "brought",
    "collapsed",
    "create",
    "everywhere",
    "forgotten",
    "inertia_at",
    "inside",
    "launch",
    "move",
    "needed",
    "placed",
    "remember",
]


def create(
    rule: Rule,
    key: jax.Array,
    position: jax.Array,
    low: ArrayLike,
    high: ArrayLike,
    *,
    rows: int | None = None,
    front: bool = False,
) -> Swarm:
    """A swarm at given positions float[n, d], inside the box [low, high] (scalars or float[d]).

    Args:
      rows: m; rows beyond the first n are idle and lie outside the box. n if None.
      front: whether the first n rows have arrays of their own (see `Swarm`).

    Raises:
      ValueError: concrete bounds that are not finite or not in order.
    """
    n, d = position.shape
    m = n if rows is None else rows
    streams, within = counter_random.seeds(key, 2), box(low, high, position.dtype)
    velocity = launch(rule, streams[0], position, low, high)
    # filled with numbers of their own: of equal arrays XLA makes one and copies it
    far = jnp.broadcast_to(2 * within.low - within.high, (m - n, d)).astype(position.dtype)
    far_best = jnp.broadcast_to(3 * within.low - 2 * within.high, (m - n, d)).astype(position.dtype)
    still = jnp.zeros_like(far)
    if m > n and not front:
        position, velocity = jnp.concatenate([position, far]), jnp.concatenate([velocity, still])
        far, far_best, still = far[:0], far_best[:0], still[:0]
    chosen = m if rule.motion == "exemplar" else 0
    return Swarm(
        position=position,
        velocity=velocity,
        far_position=far,
        far_velocity=still,
        front=jnp.zeros((), jnp.int32),
        best=position,
        far_best=far_best,
        merit=jnp.full(position.shape[:1], jnp.inf, position.dtype),
        far_merit=jnp.full(far.shape[:1], jnp.inf, position.dtype),
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
        far_merit=jnp.full_like(swarm.far_merit, jnp.inf),
        leader=jnp.zeros_like(swarm.leader),
        least=jnp.full_like(swarm.least, jnp.inf),
        links=counter_random.seeds(key, 1)[0],
        stalled=jnp.zeros_like(swarm.stalled),
        front=jnp.zeros_like(swarm.front),
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
    stands: jax.Array | None = None,
) -> tuple[Swarm, Rows, jax.Array, jax.Array]:
    """The next positions, inside [low, high] for every finite state, and velocities; `placed` writes them.

    Args:
      rule: static.
      c: coefficients.
      swarm: before the move; its arrays may be donated.
      key: JAX key of this generation.
      low, high: the box, scalars or float[d].
      generation: since the start of the inertia schedule.
      block: (n, number, active) moves only rows ``number * n`` to ``(number + 1) * n`` of the first ``active``, or the
        block in front; a compete swarm the losers of n random pairs. None moves all rows (half of a compete swarm).
      stands: bool[], whether the particles keep their positions and velocities this time.

    Returns:
      The swarm, its positions and velocities unchanged; the rows that move; their next positions and velocities,
      float[n, d] each.
    """
    fronted = swarm.far_position.shape[0] > 0
    m, d = swarm.position.shape[0] + swarm.far_position.shape[0], swarm.position.shape[1]
    within = box(low, high, swarm.position.dtype)
    draw = Draw(counter_random.more_seeds(key, STREAMS), key if rule.generator == "threefry" else None)
    active = m if block is None else block[2]
    rows: Rows = None
    winners = None
    if rule.motion == "compete":
        rows, winners = _pairs(swarm.merit, key, active, m // 2 if block is None else block[0])
    elif block is not None and block[0] < m:
        rows = window(0 if fronted else jnp.asarray(block[1], jnp.int32) * block[0], block[0])
    own = numbers(rows, m)
    away = window(swarm.front * len(own), len(own)) if fronted else None
    ids = exchanged(own, away)
    redraw = swarm.stalled if rule.graph == "informants" else jnp.ones((), bool)
    swarm = swarm._replace(links=jnp.where(redraw, draw.words[LINKS], swarm.links))
    if rule.motion == "exemplar":
        swarm = choose_exemplars(swarm, draw, ids, rows, active, away)
    now = c._replace(inertia=inertia_at(rule, c, generation, draw))
    step = jnp.ones((), swarm.position.dtype)
    if stands is not None:  # by coefficients, so that no one needs the old arrays, which are written in place
        zero, endless = jnp.zeros_like(step), jnp.full_like(step, jnp.inf)
        still = now._replace(inertia=step, cognitive=zero, social=zero, clamp=endless)
        now, step = jax.tree.map(lambda a, b: jnp.where(stands, a, b), (still, zero), (now, step))
    v = MOTIONS[rule.motion](Moving(rule, now, draw, within, swarm, rows, own, ids, away, active, winners))
    k, here = width(len(ids)), swarm.position
    if not isinstance(rows, jax.Array):  # joined outside, see `motions.attract`
        here, v = joined(here, k), joined(v, k)
    x, v = _inside((rule, k), here, rows, v, within, step)
    return swarm, rows, x.reshape(-1, d), v.reshape(-1, d)


@apart
def _inside(
    static: tuple[Rule, int], position: jax.Array, rows: Rows, v: jax.Array, within: Box, step: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`inside`, on k rows joined into one."""
    rule, k = static
    if isinstance(rows, jax.Array):
        position, rows, v = joined(take(position, rows), k), None, joined(v, k)
    x = take_joined(position, rows, k)
    within = Box(*abreast(k, *within)) if k > 1 else within
    return inside(rule, x, v, within, step)


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
    now = swarm._replace(merit=put(swarm.merit, rows, merit), best=best, failures=failures)
    everyone = revised or competes  # otherwise no merit has become worse, and of equal ones the first to come leads
    merit = now.merits if everyone else merit
    least = merit.min() if everyone else jnp.minimum(merit.min(), swarm.least)
    gained = least < swarm.least
    leader = swarm.leader
    if rule.graph == "global":
        first = first_least(merit)
        leader = first if everyone else jnp.where(gained, numbers(rows, merit.shape[0])[first], leader)
    return now._replace(leader=leader, least=least, stalled=~gained)


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


def _pairs(merit: jax.Array, key: jax.Array, active: jax.Array | int, n: int) -> tuple[jax.Array, jax.Array]:
    """Losers and winners, int32[n] each, of n random pairs among the active rows; all rows differ."""
    drawn = shuffle.permuted(threefry.fold_in(key, WHO), jnp.arange(2 * n, dtype=jnp.int32), active)
    a, b = drawn[:n], drawn[n:]
    wins = merit[a] < merit[b]
    return jnp.where(wins, b, a), jnp.where(wins, a, b)
