"""One particle swarm, many members of its family: how particles move, are kept inside, and remember.

Notation: m particles, n of them moved at once, d dimensions. x position, v velocity, p best position of a particle,
l best position among its informants, r uniform in [0, 1) and drawn for every particle and dimension, w inertia,
c1 cognitive and c2 social coefficient. ``merit`` is float[m], lower is better, +inf where there is nothing to tell:
the values themselves, or ranks where values alone do not decide (constraints).

Motions (the velocity; x <- x + v follows for all of them):
  attract   w v + c1 r1 (p - x) + c2 r2 (l - x)                        Clerc & Kennedy 2002; SPSO-2006
  sphere    w v + x' - x, x' in the ball around G = mean(x, x + c1 (p - x), x + c2 (l - x)) through x, the direction
            uniform, the distance U(0, 1) |x - G|                      SPSO-2011, Clerc 2012, eqs. 3.8-3.12
  informed  w v + c2 mean_k r_k (p_k - x) over all informants k        FIPS, Mendes, Kennedy & Neves 2004
  exemplar  w v + c2 r (p_f(d) - x), one informant f(d) per dimension  CLPSO, Liang et al. 2006
  compete   loser of a random pair: w r1 v + c2 r2 (x_winner - x) + c1 r3 (mean x - x)    CSO, Cheng & Jin 2015
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jhpo.kernels import counter_random, topology
from jhpo.kernels.internals import is_traced
from jhpo.kernels.loops import abreast, apart
from jhpo.kernels.rows import Rows, put, take, window

MOTIONS = ("attract", "sphere", "informed", "exemplar", "compete")
BOUNDS = ("absorb", "reflect", "periodic")
SCHEDULES = ("constant", "linear", "random")
GENERATORS = ("counter", "threefry")
REFRESH = 7  # CLPSO's refreshing gap: failures after which a particle chooses new exemplars
REBOUND = -0.5  # an absorbing bound turns the velocity round and halves it

# streams of one generation; a normal and a uniform share none
_R1, _R2, _R3, _TURN, _WHO, _LINKS = range(6)
STREAMS = 6


@dataclasses.dataclass(frozen=True)
class Rule:
    """What shapes the program: static, hashable."""

    motion: str = "attract"  # one of MOTIONS
    graph: str = "informants"  # one of topology.TOPOLOGIES
    bounds: str = "absorb"  # one of BOUNDS
    schedule: str = "constant"  # of the inertia, one of SCHEDULES
    informants: int = 3  # drawn by each particle, where the graph is random
    solo: bool = True  # a particle that is its own best informant feels no social pull (SPSO-2006)
    generator: str = "counter"  # one of GENERATORS; threefry is slower, for comparison


class Coefficients(NamedTuple):
    """float[] each, traced."""

    inertia: jax.Array
    cognitive: jax.Array
    social: jax.Array
    inertia_end: jax.Array  # where a linear schedule ends
    horizon: jax.Array  # generations a linear schedule takes
    clamp: jax.Array  # largest velocity in widths of the box; inf for none


class Swarm(NamedTuple):
    """m particles. A compete swarm's memory is its position: ``best`` equals ``position``."""

    position: jax.Array  # float[m, d], within the bounds
    velocity: jax.Array  # float[m, d]; for absorbing bounds before the rebound, which the next move applies
    best: jax.Array  # float[m, d], best position each particle has seen
    merit: jax.Array  # float[m], of best
    links: jax.Array  # uint32[2], stream from which the random graph follows
    stalled: jax.Array  # bool[], the last generation did not improve the best: draw a new graph
    exemplar: jax.Array  # int32[m, d] for the exemplar motion, else int32[0, d]
    failures: jax.Array  # int32[m] for the exemplar motion, else int32[0]: moves since a particle improved


def create(rule: Rule, key: jax.Array, position: jax.Array, low: Any, high: Any) -> Swarm:
    """A swarm at given positions float[m, d], inside the box [low, high] (scalars or float[d]).

    Velocities are half the way to another uniform point of the box (SPSO-2006), 0 where particles compete.

    Raises:
      ValueError: concrete bounds that are not finite or not in order.
    """
    low, high = _box(low, high, position.dtype)
    streams = counter_random.seeds(key, 2)
    m, d = position.shape
    target = low + (high - low) * counter_random.uniform(streams[0], (m, d), position.dtype)
    velocity = jnp.zeros_like(position) if rule.motion == "compete" else (target - position) / 2
    rows = m if rule.motion == "exemplar" else 0
    return Swarm(
        position=position,
        velocity=velocity,
        best=position,
        merit=jnp.full((m,), jnp.inf, position.dtype),
        links=streams[1],
        stalled=jnp.zeros((), bool),
        exemplar=jnp.zeros((rows, d), jnp.int32) + jnp.arange(rows, dtype=jnp.int32)[:, None],
        failures=jnp.full((rows,), REFRESH, jnp.int32),
    )


def _box(low: Any, high: Any, dtype: Any) -> tuple[jax.Array, jax.Array]:
    if not any(is_traced(b) for b in (low, high)):
        a, b = np.asarray(low, float), np.asarray(high, float)
        if not (np.isfinite(a).all() and np.isfinite(b).all() and np.all(a < b)):
            raise ValueError(f"bounds: expected finite low < high, got low={a}, high={b}")
    return tuple(jnp.asarray(b, dtype).reshape(1, -1) for b in (low, high))  # type: ignore[return-value]


def move(
    rule: Rule,
    c: Coefficients,
    swarm: Swarm,
    key: jax.Array,
    low: Any = 0.0,
    high: Any = 1.0,
    *,
    generation: Any = 0,
    block: tuple[int, Any, Any] | None = None,
) -> tuple[Swarm, Rows, jax.Array, jax.Array]:
    """Where the particles go next, inside [low, high] for every finite state; `placed` writes it.

    Args:
      rule: what to compute; static.
      c: coefficients.
      swarm: before; its arrays may be donated.
      key: JAX key of this generation.
      low, high: the box, scalars or float[d].
      generation: since the start of the inertia schedule.
      block: (n, number, active) to move the number-th n of the first ``active`` rows only; a compete swarm moves
        the n losers of n pairs whatever the number. None moves all (the better half of a compete swarm stays).

    Returns:
      The swarm with its positions and velocities as they were; the rows that move; their next positions and
      velocities, float[n, d] each.
    """
    m, d = swarm.position.shape
    dtype = swarm.position.dtype
    low, high = _box(low, high, dtype)
    draw = Draw(counter_random.seeds(key, STREAMS), key if rule.generator == "threefry" else None)
    active = m if block is None else block[2]
    rows: Rows = None
    if rule.motion == "compete":
        rows, winners = _pairs(swarm.merit, draw.words[_WHO], active, m // 2 if block is None else block[0])
    elif block is not None and block[0] < m:
        rows = window(jnp.asarray(block[1], jnp.int32) * block[0], block[0])
    x, v, p = (take(a, rows) for a in (swarm.position, swarm.velocity, swarm.best))
    ids = take(jnp.arange(m, dtype=jnp.int32), rows)
    redraw = swarm.stalled if rule.graph == "informants" else jnp.ones((), bool)
    swarm = swarm._replace(links=jnp.where(redraw, draw.words[_LINKS], swarm.links))

    w = inertia_at(rule, c, generation, draw)
    limit = c.clamp * (high - low)
    if rule.motion == "attract":
        guide = _guide(rule, swarm.best, x, _leader_rows(rule, swarm, ids, active), ids)
        x, v, p, guide, low, high, limit = abreast(len(ids), x, v, p, guide, low, high, limit)
        v = _attract(rule, c, w, draw, x, v, p, guide, low, high, limit)
    else:
        v, away = _rebound(rule, x, v, low, high), _shortest(rule, low, high)
        if rule.motion == "sphere":
            lead = _leader_rows(rule, swarm, ids, active)
            v = w * v + _sphere(c, draw, x, away(p - x), away(swarm.best[lead] - x), lead == ids)
        elif rule.motion == "informed":
            v = w * v + c.social * _informed(rule, swarm, draw, x, ids, active, away)
        elif rule.motion == "exemplar":
            swarm = _choose_exemplars(swarm, draw, ids, rows, active)
            guide = swarm.best[take(swarm.exemplar, rows), jnp.arange(d, dtype=jnp.int32)[None]]
            v = w * v + c.social * draw.uniform(_R1, x.shape, dtype) * away(guide - x)
        else:
            alive = (jnp.arange(m) < active).astype(dtype)[:, None]
            mean = (swarm.position * alive).sum(axis=0, keepdims=True) / alive.sum()
            r1, r2, r3 = (draw.uniform(stream, x.shape, dtype) for stream in (_R1, _R2, _R3))
            v = w * r1 * v + c.social * r2 * away(swarm.position[winners] - x) + c.cognitive * r3 * away(mean - x)
        v = _clip(v, -limit, limit)
    x, v = (a.reshape(-1, d) for a in inside(rule, x, v, low, high))
    return swarm, rows, x, v


def placed(swarm: Swarm, rows: Rows, position: jax.Array, velocity: jax.Array) -> Swarm:
    """The swarm with these rows at other positions, and with other velocities, float[n, d] each."""
    return swarm._replace(position=put(swarm.position, rows, position), velocity=put(swarm.velocity, rows, velocity))


def remember(
    rule: Rule,
    swarm: Swarm,
    rows: Rows,
    position: jax.Array,
    improved: jax.Array,
    merit: jax.Array,
    gained: jax.Array,
) -> Swarm:
    """What the particles keep of a generation.

    Args:
      rows: as `move` gave them.
      position: float[n, d], where they were evaluated.
      improved: bool[n], it is better than what the particle knew (a compete swarm keeps its positions anyway).
      merit: float[m], of all particles' memories from now on.
      gained: bool[], the best of the swarm improved.
    """
    keep = jnp.ones_like(improved) if rule.motion == "compete" else improved
    best = put(swarm.best, rows, jnp.where(keep[:, None], position, take(swarm.best, rows)))
    failures = swarm.failures
    if failures.size:
        failures = put(failures, rows, jnp.where(improved, 0, take(failures, rows) + 1))
    return swarm._replace(best=best, merit=merit, stalled=~gained, failures=failures)


def needed(rule: Rule) -> int:
    """The fewest particles the rule makes sense with."""
    if rule.motion == "compete" or rule.graph == "global":
        return 2
    if rule.graph in ("random", "informants"):
        return max(2, rule.informants)
    return {"ring": 3, "vonneumann": 5}[rule.graph]


class Draw(NamedTuple):
    """Random numbers of one generation; from the words unless there is a key for threefry."""

    words: jax.Array  # uint32[STREAMS, 2]
    key: jax.Array | None

    def uniform(self, stream: int, shape: tuple[int, ...], dtype: Any, part: int = 0) -> jax.Array:
        if self.key is None:
            seed = self.words[stream] if part == 0 else self.words[stream] ^ np.uint32(0x632BE59B * part % 2**32)
            return counter_random.uniform(seed, shape, dtype)
        return jax.random.uniform(jax.random.fold_in(jax.random.fold_in(self.key, stream), part), shape, dtype)

    def pair(self, shape: tuple[int, ...], dtype: Any) -> tuple[jax.Array, jax.Array]:
        if self.key is None:
            return counter_random.uniform_pair(self.words[_R1], shape, dtype)
        return self.uniform(_R1, shape, dtype), self.uniform(_R2, shape, dtype)

    def normal(self, stream: int, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        if self.key is None:
            return counter_random.normal(self.words[stream], shape, dtype)
        return jax.random.normal(jax.random.fold_in(self.key, stream), shape, dtype)


def inertia_at(rule: Rule, c: Coefficients, generation: Any, draw: Draw) -> jax.Array:
    """``float[]``, the share of its velocity that a particle keeps in this generation."""
    if rule.schedule == "linear":
        done = jnp.clip(jnp.asarray(generation).astype(c.horizon.dtype) / c.horizon, 0, 1)
        return c.inertia + (c.inertia_end - c.inertia) * done
    if rule.schedule == "random":  # one draw a generation, U(w/2, w)
        return c.inertia * (1 - draw.uniform(_TURN, (1,), c.inertia.dtype)[0] / 2)
    return c.inertia


def _leader_rows(rule: Rule, swarm: Swarm, ids: jax.Array, active: Any) -> jax.Array:
    if rule.graph == "global":  # one row, broadcast instead of gathered
        m = swarm.merit.shape[0]  # in two passes: XLA makes argmin one number at a time
        return jnp.where(swarm.merit == swarm.merit.min(), jnp.arange(m, dtype=jnp.int32), m - 1).min()[None]
    return topology.leaders(rule.graph, ids, swarm.merit, active, rule.informants, swarm.links)


@apart
def _guide(rule: Rule, best: jax.Array, x: jax.Array, lead: jax.Array, ids: jax.Array) -> jax.Array:
    """Where a particle's best informant was best; where it is itself if that pulls nowhere."""
    there = best.at[lead].get(mode="promise_in_bounds", wrap_negative_indices=False)
    return jnp.where((lead == ids)[:, None], x, there) if rule.solo else there


@apart
def _attract(
    rule: Rule,
    c: Coefficients,
    w: jax.Array,
    draw: Draw,
    x: jax.Array,
    v: jax.Array,
    p: jax.Array,
    guide: jax.Array,
    low: jax.Array,
    high: jax.Array,
    limit: jax.Array,
) -> jax.Array:
    away = _shortest(rule, low, high)
    r1, r2 = draw.pair(x.shape, x.dtype)
    v = w * _rebound(rule, x, v, low, high)
    v = v + c.cognitive * r1 * away(p - x) + c.social * r2 * away(guide - x)
    return _clip(v, -limit, limit)


def _sphere(
    c: Coefficients, draw: Draw, x: jax.Array, to_own: jax.Array, to_lead: jax.Array, own: jax.Array
) -> jax.Array:
    """x' - x of SPSO-2011."""
    both = (c.cognitive * to_own + c.social * to_lead) / 3
    centre = jnp.where(own[:, None], c.cognitive * to_own / 2, both)
    direction = draw.normal(_R1, x.shape, x.dtype)
    length = jnp.sqrt(_dot(direction))
    radius = jnp.sqrt(_dot(centre)) * draw.uniform(_R2, (x.shape[0], 1), x.dtype)
    return centre + direction * (radius / jnp.where(length > 0, length, 1))


def _dot(a: jax.Array) -> jax.Array:
    return (a * a).sum(axis=-1, keepdims=True)


def _informed(rule: Rule, swarm: Swarm, draw: Draw, x: jax.Array, ids: jax.Array, active: Any, away: Any) -> jax.Array:
    others = topology.neighbours(rule.graph, ids, active, rule.informants, swarm.links)
    total, count = jnp.zeros_like(x), jnp.zeros((x.shape[0], 1), x.dtype)
    for slot in range(others.shape[1]):  # a handful of informants
        row = others[:, slot]
        there = jnp.isfinite(swarm.merit[row])[:, None].astype(x.dtype)
        total = total + there * draw.uniform(_R1, x.shape, x.dtype, slot) * away(swarm.best[row] - x)
        count = count + there
    return total / jnp.maximum(count, 1)


def _choose_exemplars(swarm: Swarm, draw: Draw, ids: jax.Array, rows: Rows, active: Any) -> Swarm:
    """CLPSO: a particle that failed REFRESH times draws, for every dimension, whom it learns from."""
    n, d = ids.shape[0], swarm.position.shape[1]
    dtype = swarm.position.dtype
    size = jnp.asarray(active, jnp.int32)
    share = ids.astype(dtype) / jnp.maximum(size - 1, 1).astype(dtype)
    learn = jnp.asarray(0.05, dtype) + jnp.asarray(0.45 / np.expm1(10.0), dtype) * jnp.expm1(10 * share)
    first, second = (counter_random.integers(draw.words[s], (n, d), size) for s in (_R2, _R3))
    rival = jnp.where(swarm.merit[second] < swarm.merit[first], second, first)
    own = jnp.broadcast_to(ids[:, None], (n, d))
    chosen = jnp.where(draw.uniform(_TURN, (n, d), dtype) < learn[:, None], rival, own)
    # nobody to learn from: one random dimension follows another particle
    at, other = (counter_random.integers(draw.words[s], (n,), b) for s, b in ((_WHO, d), (_LINKS, size - 1)))
    other = lax.rem(ids + 1 + other, jnp.broadcast_to(size, ids.shape))
    alone = (chosen == own).all(axis=1)
    chosen = jnp.where(alone[:, None] & (jnp.arange(d, dtype=jnp.int32)[None] == at[:, None]), other[:, None], chosen)
    failures = take(swarm.failures, rows)
    due = failures >= REFRESH
    return swarm._replace(
        exemplar=put(swarm.exemplar, rows, jnp.where(due[:, None], chosen, take(swarm.exemplar, rows))),
        failures=put(swarm.failures, rows, jnp.where(due, 0, failures)),
    )


def _pairs(merit: jax.Array, seed: jax.Array, active: Any, n: int) -> tuple[jax.Array, jax.Array]:
    """Losers and winners, int32[n] each, of n random pairs among the active rows; all rows differ."""
    m = merit.shape[0]
    ticket = counter_random.bits(seed, (m,)) >> np.uint32(1)
    ticket = jnp.where(jnp.arange(m, dtype=jnp.int32) < active, ticket, ticket | np.uint32(1 << 31))
    order = jnp.argsort(ticket).astype(jnp.int32)
    a, b = order[:n], order[n : 2 * n]
    wins = merit[a] < merit[b]
    return jnp.where(wins, b, a), jnp.where(wins, a, b)


def _shortest(rule: Rule, low: jax.Array, high: jax.Array) -> Any:
    """What makes the difference of two places the shortest way between them."""
    if rule.bounds != "periodic":
        return lambda delta: delta
    width = high - low
    return lambda delta: delta - width * jnp.round(delta / width)


def _rebound(rule: Rule, x: jax.Array, v: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    if rule.bounds != "absorb":
        return v
    outward = ((x <= low) & (v < 0)) | ((x >= high) & (v > 0))
    return jnp.where(outward, jnp.asarray(REBOUND, v.dtype) * v, v)


@apart
def inside(rule: Rule, x: jax.Array, v: jax.Array, low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The next position and the velocity kept. Reflection and wrapping in closed form: no loops."""
    y, width = x + v, high - low
    if rule.bounds == "reflect":
        u = jnp.mod(y - low, 2 * width)
        y, v = low + jnp.minimum(u, 2 * width - u), jnp.where(u > width, -v, v)
    elif rule.bounds == "periodic":
        y = low + jnp.mod(y - low, width)
    return _clip(y, low, high), v


def _clip(a: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """As `jnp.clip`, a NaN staying one, by comparisons: the maximum of IEEE 754-2019 takes four instructions."""
    a = jnp.where(a <= low, low, a)
    return jnp.where(a >= high, high, a)
