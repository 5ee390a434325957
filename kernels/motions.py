"""How particles move: one function per motion, which returns the next velocities.

Notation: m particles, n of them moved at once, d dimensions. x position, v velocity, p best position of a particle,
l best position among its informants, r uniform in [0, 1) and drawn for every particle and dimension, w inertia,
c1 cognitive and c2 social coefficient.

  attract   w v + c1 r1 (p - x) + c2 r2 (l - x)                        Clerc & Kennedy 2002; SPSO-2006
  sphere    w v + x' - x, x' in the ball around G = mean(x, x + c1 (p - x), x + c2 (l - x)) through x, the direction
            uniform, the distance U(0, 1) |x - G|                      SPSO-2011, Clerc 2012, eqs. 3.8-3.12
  informed  w v + c2 mean_k r_k (p_k - x) over all informants k        FIPS, Mendes, Kennedy & Neves 2004
  exemplar  w v + c2 r (p_f(d) - x), one informant f(d) per dimension  CLPSO, Liang et al. 2006
  compete   loser of a random pair: w r1 v + c2 r2 (x_winner - x) + c1 r3 (mean x - x)    CSO, Cheng & Jin 2015
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.kernels import topology
from jhpo.kernels.bounds import Box, limited, rebound, shortest
from jhpo.kernels.loops import abreast, apart, most, seldom, width
from jhpo.kernels.rows import Rows, Window, exchanged, joined, take, take_joined, window
from jhpo.kernels.swarm_front import bests, beyond, grown, with_far
from jhpo.kernels.swarm_parts import R1, R2, R3, Coefficients, Draw, Rule, Swarm


class Moving(NamedTuple):
    """Arguments of a motion of n particles."""

    rule: Rule
    c: Coefficients  # with the inertia of this generation
    draw: Draw
    within: Box
    swarm: Swarm  # all m particles
    rows: Rows  # the rows that move
    own: jax.Array  # int32[n], the same rows as numbers
    ids: jax.Array  # int32[n], the particles in these rows
    away: Window | None  # the particles that have changed places with the first ones
    active: jax.Array | int  # int32[], only the first ``active`` rows take part
    winners: jax.Array | None  # int32[n], the winner of each particle's pair (compete)

    @property
    def x(self) -> jax.Array:
        """float[n, d]: their positions."""
        return take(self.swarm.position, self.rows)

    def way(self, to: jax.Array) -> jax.Array:
        """float[n, d]: the displacement from the particles' positions to ``to``."""
        return shortest(self.rule, self.within, to - self.x)

    def kept(self) -> jax.Array:
        """float[n, d]: the velocities after a rebound."""
        return rebound(self.rule, self.x, take(self.swarm.velocity, self.rows), self.within)

    def limited(self, v: jax.Array) -> jax.Array:
        """Velocities clipped to the clamp."""
        return limited(v, self.within, self.c.clamp)

    def leaders(self) -> jax.Array:
        """The row of each particle's best informant, ``int32[n]``; ``int32[1]`` if all follow the same."""
        if self.rule.graph == "global":
            return self.swarm.leader[None]
        if not self.at_once:
            return _leaders(self.rule, None, self.swarm, self.ids, self.active, self.away)
        lead = self.near_leaders()
        if not self.swarm.far_best.shape[0]:
            return lead
        find = functools.partial(_leaders, self.rule)
        return seldom(find, grown(self.swarm, self.active), lead, self.swarm, self.ids, self.active, self.away)

    @property
    def at_once(self) -> bool:
        """Whether, unless restarts have added particles, all move and may inform each other at random."""
        everyone = isinstance(self.active, int) or self.swarm.far_best.shape[0] > 0
        return self.rule.graph == "informants" and everyone and len(self.own) == self.swarm.best.shape[0]

    def near_leaders(self) -> jax.Array:
        """`leaders` of a swarm `at_once` if restarts have not added any particles."""
        return topology.leaders_of_all(self.swarm.merit, self.rule.informants, self.swarm.links)

    def guide(self) -> jax.Array:
        """``float[n, d]``: the best position of each one's best informant; with ``solo`` its own place if it is that.

        float[1, d] if all follow the same.
        """
        lead = self.near_leaders() if self.at_once else self.leaders()
        near = _guide(self.rule, self.swarm.position, self.swarm.best, self.rows, self.own, lead)
        if not self.at_once or not self.swarm.far_best.shape[0]:
            return with_far(self.swarm, self.active, lead, near)
        find = functools.partial(_guide_of_grown, self.rule)
        due = grown(self.swarm, self.active)
        return seldom(find, due, near, self.swarm, self.ids, self.own, self.active, self.away)


def _leaders(
    rule: Rule, _: object, swarm: Swarm, ids: jax.Array, active: jax.Array | int, away: Window | None
) -> jax.Array:
    return topology.leaders(rule.graph, ids, swarm.merits, active, rule.informants, swarm.links, away)


def attract(m: Moving) -> jax.Array:
    """Towards the particle's own best and that of its best informant."""
    k = width(len(m.ids))
    (guide,) = abreast(len(m.ids), m.guide())
    # joined outside: written in place only if what is compiled apart has the shape of its arguments and results
    arrays = tuple(joined(a, k) for a in (m.swarm.position, m.swarm.velocity, m.swarm.best))
    assert m.rows is None or isinstance(m.rows, Window)  # all or a block of them: only competing swarms move others
    v = _attract((m.rule, k), m.c, m.draw, m.within, arrays, m.rows, guide)
    return v.reshape(-1, m.swarm.best.shape[1])


@apart
def _guide(rule: Rule, position: jax.Array, best: jax.Array, rows: Rows, own: jax.Array, lead: jax.Array) -> jax.Array:
    """The best position of each particle's best informant; with ``solo`` its own position if it leads itself.

    Of informants beyond the rows of ``best`` any position.
    """
    there = jnp.minimum(lead, best.shape[0] - 1)
    there = best.at[there].get(mode="promise_in_bounds", wrap_negative_indices=False)
    return jnp.where((lead == own)[:, None], take(position, rows), there) if rule.solo else there


def _guide_of_grown(
    rule: Rule,
    _: jax.Array,
    swarm: Swarm,
    ids: jax.Array,
    own: jax.Array,
    active: jax.Array | int,
    away: Window | None,
) -> jax.Array:
    lead = _leaders(rule, None, swarm, ids, active, away)
    near = _guide(rule, swarm.position, swarm.best, None, own, lead)
    return beyond(len(own), near, swarm.far_best, lead)


@apart
def _attract(
    static: tuple[Rule, int],
    c: Coefficients,
    draw: Draw,
    within: Box,
    arrays: tuple[jax.Array, ...],
    rows: Window | None,
    guide: jax.Array,
) -> jax.Array:
    """`attract` on k rows joined into one, read from the arrays of the swarm without a copy."""
    rule, k = static
    x, v, p = (take_joined(a, rows, k) for a in arrays)
    within = Box(*abreast(k, *within)) if k > 1 else within
    r1, r2 = draw.pair(x.shape, x.dtype)
    v = c.inertia * rebound(rule, x, v, within)
    to_own, to_guide = (shortest(rule, within, to - x) for to in (p, guide))
    return limited(v + c.cognitive * r1 * to_own + c.social * r2 * to_guide, within, c.clamp)


def sphere(m: Moving) -> jax.Array:
    """Into a ball around the mean of three points; rotation-invariant."""
    lead, c = m.leaders(), m.c
    to_own, to_lead = m.way(take(m.swarm.best, m.rows)), m.way(bests(m.swarm, m.active, lead))
    both = (c.cognitive * to_own + c.social * to_lead) / 3
    centre = jnp.where((lead == m.own)[:, None], c.cognitive * to_own / 2, both)
    direction = m.draw.normal(R1, m.x.shape, m.x.dtype)
    length = jnp.sqrt(_dot(direction))
    radius = jnp.sqrt(_dot(centre)) * m.draw.uniform(R2, (m.x.shape[0], 1), m.x.dtype)
    return m.limited(c.inertia * m.kept() + (centre + direction * (radius / jnp.where(length > 0, length, 1))))


def _dot(a: jax.Array) -> jax.Array:
    return (a * a).sum(axis=-1, keepdims=True)


def informed(m: Moving) -> jax.Array:
    """Towards the bests of all informants, averaged."""
    swarm, x = m.swarm, m.x
    others = topology.neighbours(m.rule.graph, m.ids, m.active, m.rule.informants, swarm.links)
    merit = swarm.merits
    total, count = jnp.zeros_like(x), jnp.zeros((x.shape[0], 1), x.dtype)
    for slot in range(others.shape[1]):  # a handful of informants
        row = exchanged(others[:, slot], m.away)
        there = jnp.isfinite(merit[row])[:, None].astype(x.dtype)
        total = total + there * m.draw.uniform(R1, x.shape, x.dtype, slot) * m.way(bests(swarm, m.active, row))
        count = count + there
    return m.limited(m.c.inertia * m.kept() + m.c.social * (total / jnp.maximum(count, 1)))


def exemplar(m: Moving) -> jax.Array:
    """Towards the bests of other particles, another one for each dimension."""
    columns = jnp.arange(m.x.shape[1], dtype=jnp.int32)[None]
    rows = exchanged(take(m.swarm.exemplar, m.rows), m.away)
    guide = bests(m.swarm, m.active, rows, jnp.broadcast_to(columns, rows.shape))
    r = m.draw.uniform(R1, m.x.shape, m.x.dtype)
    return m.limited(m.c.inertia * m.kept() + m.c.social * r * m.way(guide))


def compete(m: Moving) -> jax.Array:
    """Towards the winner of the pair and the mean of the swarm."""
    r1, r2, r3 = (m.draw.uniform(stream, m.x.shape, m.x.dtype) for stream in (R1, R2, R3))
    to_winner, to_mean = m.way(m.swarm.position[m.winners]), m.way(_mean(m))
    return m.limited(m.c.inertia * r1 * m.kept() + m.c.social * r2 * to_winner + m.c.cognitive * r3 * to_mean)


def _mean(m: Moving) -> jax.Array:
    """``float[1, d]``: the mean position of the active particles, summed n at a time."""
    position, n, active = m.swarm.position, len(m.ids), m.active
    if isinstance(active, int):
        return position.mean(axis=0, keepdims=True)

    def part(i: jax.Array, total: jax.Array) -> jax.Array:
        rows = window(i * n, n)
        there = rows.start + jnp.arange(n, dtype=jnp.int32) < active
        return total + jnp.where(there[:, None], take(position, rows), 0).sum(axis=0, keepdims=True)

    zero = jnp.zeros((1, position.shape[1]), position.dtype)
    return lax.fori_loop(0, most(-(-active // n)), part, zero) / active.astype(position.dtype)


MOTIONS: dict[str, Callable[[Moving], jax.Array]] = {
    f.__name__: f for f in (attract, sphere, informed, exemplar, compete)
}
