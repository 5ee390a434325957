"""The state of a particle swarm and its updates by results: plain, noisy, competing, absorbed."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.kernels import swarm
from jhpo.kernels.loops import apart, most, seldom
from jhpo.kernels.order import first_least
from jhpo.kernels.rows import Rows, put, take
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, feasible_value
from jhpo.strategies.swarms import better, merit_of, owners


class PSOState(NamedTuple):
    """m = particles * max_growth rows, of which ``active`` take part; a row is written when first asked for."""

    space: Space  # static
    swarm: swarm.Swarm  # particles in the unit cube, float[m, d] each; with a front if m > n = particles
    value: jax.Array  # float[m], of each particle's best, +inf before the first success; a running mean with noise
    violation: jax.Array  # float[m], its constraint violation: 0 if feasible, +inf before the first success
    far_value: jax.Array  # of the rows that are not in front, float[m - n]; then value is float[n]
    far_violation: jax.Array  # likewise
    seen: jax.Array  # float[m], number of evaluations in value; float[0] without noise
    scatter: jax.Array  # float[2], with noise: sum of squared deviations of the re-evaluations, and their number
    rows: jax.Array  # int32[n], the particles asked for last in a cso swarm; otherwise int32[0]
    again: jax.Array  # bool[n], whether their best was re-evaluated; bool[0] without noise
    active: jax.Array  # int32[], particles taking part
    turn: jax.Array  # int32[], asks since the last restart
    before: jax.Array  # int32[], asks before that
    stale: jax.Array  # int32[], tells since the swarm's best improved
    best_unit: jax.Array  # float[d], best of the earlier swarms
    best_value: jax.Array  # float[], its value
    best_violation: jax.Array  # float[], +inf if there is none
    restarts: jax.Array  # int32[], so far

    @property
    def values(self) -> jax.Array:
        """``float[m]``: the values of all rows."""
        return swarm.everywhere(self.value, self.far_value)

    @property
    def violations(self) -> jax.Array:
        """``float[m]``: the violations of all rows."""
        return swarm.everywhere(self.violation, self.far_violation)


class Told(NamedTuple):
    """The personal bests of n particles after a generation."""

    units: jax.Array  # float[n, d]
    improved: jax.Array  # bool[n], whether the unit replaces the best
    value: jax.Array  # float[n], of the new best
    violation: jax.Array  # float[n], of the new best


def plain(state: PSOState, rows: Rows, units: jax.Array, value: jax.Array, violation: jax.Array) -> Told:
    """Update without noise: a better point replaces the personal best."""
    return Told(units, *_better_ones(None, take(state.value, rows), take(state.violation, rows), value, violation))


@apart  # so that the arrays of all particles are read before they are written in place, without a copy
def _better_ones(
    _: None, old_value: jax.Array, old_violation: jax.Array, value: jax.Array, violation: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    improved = better(violation, value, old_violation, old_value)
    return improved, jnp.where(improved, value, old_value), jnp.where(improved, violation, old_violation)


def competing(
    state: PSOState, rows: Rows, units: jax.Array, value: jax.Array, violation: jax.Array, mask: jax.Array | None
) -> Told:
    """Update of a competing swarm: the best is the position; particles with pending results do not change."""
    there = jnp.ones(value.shape, bool) if mask is None else mask
    return Told(
        jnp.where(there[:, None], units, take(state.swarm.best, rows)),
        there,
        jnp.where(there, value, take(state.value, rows)),
        jnp.where(there, violation, take(state.violation, rows)),
    )


def noisy(
    state: PSOState, rows: Rows, units: jax.Array, value: jax.Array, violation: jax.Array
) -> tuple[PSOState, Told]:
    """Update with noise: re-evaluated bests have running means as values."""
    found = plain(state, rows, units, value, violation)
    old_value, seen = take(state.value, rows), take(state.seen, rows)
    repeated = state.again & jnp.isfinite(violation)
    improved = found.improved & ~state.again
    delta = jnp.where(repeated, value - old_value, 0)
    mean = old_value + delta / (seen + 1)
    squares = (delta * jnp.where(repeated, value - mean, 0)).sum()
    old_violation = take(state.violation, rows)
    told = Told(
        units,
        improved,
        jnp.where(repeated, mean, jnp.where(improved, value, old_value)),
        jnp.where(repeated, jnp.maximum(old_violation, violation), jnp.where(improved, violation, old_violation)),
    )
    return state._replace(
        scatter=state.scatter + jnp.stack([squares, repeated.sum().astype(delta.dtype)]),
        seen=put(state.seen, rows, jnp.where(improved, 1, seen + repeated.astype(seen.dtype))),
    ), told


def learned(rule: swarm.Rule, population: int, state: PSOState, rows: Rows, told: Told, result: Evaluation) -> PSOState:
    """The state after a generation."""
    merit = merit_of(told.value, told.violation, result.constraint)
    revised = state.seen.size > 0
    memory = swarm.remember(rule, state.swarm, rows, told.units, told.improved, merit, revised=revised)
    gained = ~memory.stalled
    begins = lax.rem(state.turn - 1, lax.div(state.active, jnp.int32(population))) == 0
    memory = memory._replace(stalled=memory.stalled & (begins | state.swarm.stalled))
    if rule.motion == "compete":
        memory = memory._replace(position=put(memory.position, rows, told.units))
    waited = jnp.asarray(True) if result.mask is None else result.mask.any()
    return state._replace(
        swarm=memory,
        value=put(state.value, rows, told.value),
        violation=put(state.violation, rows, told.violation),
        stale=jnp.where(gained, 0, state.stale + waited.astype(jnp.int32)),
    )


def absorbed(rule: swarm.Rule, particles: int, state: PSOState, units: jax.Array, result: Evaluation) -> PSOState:
    """The state after absorbing results.

    Late results update their particles; other points replace the worst personal bests that they beat, at most
    ``particles`` of them.
    """
    value, violation = (a.astype(state.value.dtype) for a in feasible_value(result))
    old, units = state.swarm, units.astype(state.swarm.best.dtype)
    values, violations = state.values, state.violations
    m, k = values.shape[0], min(units.shape[0], particles)
    own = owners(swarm.everywhere(old.position, old.far_position), units)
    mine = jnp.zeros((m,), bool).at[own].set(True, mode="drop")
    idle = mine | (jnp.arange(m, dtype=jnp.int32) >= state.active)
    worst = jnp.lexsort((-values, -violations, idle)).astype(jnp.int32)
    given = jnp.lexsort((value, violation))[:k]  # best first
    row = jnp.where(own[given] < m, own[given], worst[:k])
    turn = jnp.arange(k, dtype=jnp.int32)
    first = jnp.full((m,), jnp.int32(k)).at[row].min(turn)[row] == turn
    wins = first & better(violation[given], value[given], violations[row], values[row])
    at = jnp.where(wins, row, m)  # out of range: dropped

    def write(a: jax.Array, new: jax.Array) -> jax.Array:
        return a.at[at].set(new, mode="drop")

    n = old.best.shape[0]
    best = write(swarm.everywhere(old.best, old.far_best), units[given])
    merit = write(old.merits, merit_of(value[given], violation[given], result.constraint))
    leader = first_least(merit)
    changed = old._replace(
        best=best[:n],
        far_best=best[n:],
        merit=merit[:n],
        far_merit=merit[n:],
        leader=leader,
        least=merit[leader],
    )
    if rule.motion == "compete":
        changed = changed._replace(position=best)
    seen = write(state.seen, jnp.ones((k,), state.seen.dtype)) if state.seen.size else state.seen
    values, violations = write(values, value[given]), write(violations, violation[given])
    return state._replace(
        swarm=changed,
        value=values[:n],
        far_value=values[n:],
        violation=violations[:n],
        far_violation=violations[n:],
        seen=seen,
    )


def in_front(state: PSOState, block: jax.Array) -> PSOState:
    """The state with a block's particles in the first rows; only if some search of a batch has to exchange any."""
    due = most((state.swarm.front != block).astype(jnp.int32)) > 0
    n, seen = state.value.shape[0], state.seen
    others = (state.value, state.far_value), (state.violation, state.far_violation), (seen[:n], seen[n:])
    swarm_then, (value, violation, counts) = seldom(
        lambda held, block: swarm.brought(held[0], held[1], block), due, (state.swarm, others), block
    )
    return state._replace(
        swarm=swarm_then,
        value=value[0],
        far_value=value[1],
        violation=violation[0],
        far_violation=violation[1],
        seen=swarm.everywhere(*counts),
    )


def bound(state: PSOState, side: float) -> jax.Array:
    """``float[m]``: values, or with noise their upper (``side`` = 1) or lower (-1) confidence bounds."""
    if not state.seen.size:
        return state.values
    spread = jnp.sqrt(state.scatter[0] / jnp.maximum(state.scatter[1], 1))
    return state.values + side * spread / jnp.sqrt(jnp.maximum(state.seen, 1))


def best_of(state: PSOState) -> tuple[jax.Array, jax.Array]:
    """Best point so far, ``float[d]``, and its value (+inf before a success); with noise the upper bound."""
    value = bound(state, 1.0)
    violation = state.violations
    row = jnp.argmin(jnp.where(violation == violation.min(), value, jnp.inf))
    mine = better(violation[row], value[row], state.best_violation, state.best_value)
    unit = swarm.bests(state.swarm, state.active, row)
    return jnp.where(mine, unit, state.best_unit), jnp.where(mine, value[row], state.best_value)


def uncertain(state: PSOState, rows: Rows, reevaluate: float) -> jax.Array:
    """``bool[n]``: feasible bests with the lowest lower bounds, on average a fraction ``reevaluate`` of a block."""
    feasible = take(state.violation, rows) == 0
    lower = jnp.where(feasible, take(bound(state, -1.0), rows), jnp.inf)
    share = jnp.asarray(reevaluate * lower.shape[0], lower.dtype)
    turns = jnp.stack([state.turn, state.turn + 1]).astype(lower.dtype)
    before, after = jnp.floor(turns * share)
    rank = jnp.argsort(jnp.argsort(lower)).astype(lower.dtype)
    return (rank < after - before) & jnp.isfinite(lower)
