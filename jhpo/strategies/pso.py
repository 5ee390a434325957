"""Particle swarm optimisation: one strategy, its variants by options; restarts, constraints, noise, failed members."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels import swarm
from jhpo.kernels.rows import Rows, put, take, window
from jhpo.kernels.topology import TOPOLOGIES
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, feasible_value, static_field, strategy
from jhpo.strategies.swarms import PRESETS, better, check_stability, lead, merit_of, one_of, owners, places, thrown

RESTARTS = ("grow", "same", "none")
SMALL_BUDGET = 500  # evaluations below which forty particles hardly move
SPREAD = 1e-12  # widest extent of a swarm, in units of the cube, that counts as collapsed


class PSOState(NamedTuple):
    """m = particles * max_growth rows; the first ``active`` of them take part."""

    space: Space  # static
    swarm: swarm.Swarm  # particles in the unit cube, float[m, d] each
    value: jax.Array  # float[m], of each particle's best, +inf before the first success; a running mean with noise
    violation: jax.Array  # float[m], how far that is from feasible: 0 if it is, +inf before the first success
    seen: jax.Array  # float[m], evaluations in value; float[0] without noise
    scatter: jax.Array  # float[2], with noise: sum of squared deviations of the re-evaluations, and their number
    rows: jax.Array  # int32[n], the particles asked for last, where they are no block: of a cso swarm; else int32[0]
    again: jax.Array  # bool[n], which of them were asked for their best again; bool[0] without noise
    active: jax.Array  # int32[], particles taking part
    turn: jax.Array  # int32[], asks since the last restart
    stale: jax.Array  # int32[], tells since the swarm's best improved
    best_unit: jax.Array  # float[d], best of the earlier swarms
    best_value: jax.Array  # float[], its value
    best_violation: jax.Array  # float[], +inf if there is none
    restarts: jax.Array  # int32[], so far


@strategy
class PSO(Strategy):
    """Particle swarm optimisation in the unit cube.

    Variants (``docs/swarms.md`` says which for what): spso2006 (default), spso2011 (rotation invariant), gbest
    (constriction), ring, vonneumann, random, fips, clpso (many local optima), cso (many dimensions). Every option
    that is not given has the variant's published value.

    - Integers and categories are real numbers in the state; the space snaps them when they are decoded.
    - Constraints follow Deb's rules: feasible before infeasible, then by value or by violation.
    - Failed members (NaN, +-inf) never become a best; a particle that never succeeded is thrown anew each time.
    - A swarm of k * population particles takes k asks to move once, a block at a time. ``PSO(1, particles=40)`` is the
      steady-state swarm: one particle an ask, which knows all that was told before.
    - May be asked while points are pending. A late result goes to the particle that still stands where it was
      asked for; any other given result replaces the worst personal best that it beats.
    - A swarm that collapsed or stopped improving is started again, twice as large if ``restart="grow"``. The arrays
      keep one shape, so nothing is compiled again.
    - With ``noisy``, a share of each generation goes to the personal bests that look best or are known least
      (lowest mean - s / sqrt(count)); their values are running means.

    Args:
      population: points of an ask.
      variant: name of the preset.
      particles: of the first swarm, a multiple of the population; ``population`` if None (cso: twice as many, as only
        the losers move).
      topology: other graph than the variant's: global, ring, vonneumann, random, informants.
      inertia, cognitive, social: coefficients, checked for stability when they are numbers.
      schedule: of the inertia: constant, linear (to ``inertia_end`` over ``horizon`` moves of the swarm), random.
      inertia_end, horizon: see schedule. Stability is asked of the end of a linear schedule.
      bounds: absorb, reflect or periodic.
      clamp: largest velocity, as a share of the cube's edge.
      informants: K of the random graphs.
      restart: grow, same (size) or none.
      max_growth: largest swarm, in populations; a power of two.
      patience: generations without improvement that end a swarm, as a multiple of 10 + 30 d / particles. A linear
        schedule runs to its end first.
      noisy: evaluate personal bests again.
      reevaluate: share of a generation that does, in (0, 1).

    Raises:
      InvalidArgument: an option outside its range, coefficients with which the swarm diverges, or a population
        smaller than the variant needs.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0), "y": jhpo.Float(-5.0, 5.0)})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + (hp["y"] + 2.0) ** 2
    >>> bool(jhpo.minimize(f, space, jhpo.PSO(20), budget=1000).value < 1e-4)
    True
    """

    steady: ClassVar[bool] = True

    population: int = static_field(default=40)
    variant: str = static_field(default="spso2006")
    particles: int | None = static_field(default=None)
    topology: str | None = static_field(default=None)
    inertia: Any = None
    cognitive: Any = None
    social: Any = None
    schedule: str | None = static_field(default=None)
    inertia_end: Any = None
    horizon: Any = 250.0
    bounds: str = static_field(default="absorb")
    clamp: Any = None
    informants: int = static_field(default=3)
    restart: str = static_field(default="grow")
    max_growth: int = static_field(default=4)
    patience: Any = 10.0
    noisy: bool = static_field(default=False)
    reevaluate: float = static_field(default=0.25)

    def __post_init__(self) -> None:
        check_integer("population", self.population)
        one_of("variant", self.variant, tuple(PRESETS))
        preset = PRESETS[self.variant]
        for name in ("topology", "inertia", "cognitive", "social", "schedule", "inertia_end", "clamp"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(preset, name))
        options = {"topology": TOPOLOGIES, "schedule": swarm.SCHEDULES, "bounds": swarm.BOUNDS, "restart": RESTARTS}
        for name, allowed in options.items():
            one_of(name, getattr(self, name), allowed)
        check_integer("informants", self.informants)
        check_integer("max_growth", self.max_growth)
        if self.max_growth & (self.max_growth - 1):
            raise invalid("max_growth", "a power of two", self.max_growth)
        for name in ("horizon", "clamp", "patience"):
            check_number(name, getattr(self, name), 0.0, open_low=True)
        check_number("reevaluate", self.reevaluate, 0.0, 1.0, open_low=True)
        if self.noisy and self._competing:
            raise invalid("noisy", f"a variant with personal bests, which {self.variant} has not", True)
        if preset.motion == "informed" and self.topology == "global":
            raise invalid("topology", f"a graph with few informants for the variant {self.variant}", self.topology)
        if self.particles is not None and check_integer("particles", self.particles) % self.population:
            raise invalid("particles", f"a multiple of the population ({self.population})", self.particles)
        least = max(swarm.needed(self.rule), 2 * self.population if self._competing else 1)
        if self._particles < least:
            name = "population" if self.particles is None else "particles"
            raise invalid(name, f"at least {least} particles for {self.variant}", self._particles)
        end = self.inertia_end if self.schedule == "linear" else self.inertia
        check_stability(self.rule, end, self.cognitive, self.social)

    @property
    def _competing(self) -> bool:
        return PRESETS[self.variant].motion == "compete"

    @property
    def rule(self) -> swarm.Rule:
        """What shapes the swarm's program."""
        preset = PRESETS[self.variant]
        return swarm.Rule(
            motion=preset.motion,
            graph=str(self.topology),
            bounds=self.bounds,
            schedule=str(self.schedule),
            informants=self.informants,
            solo=preset.solo,
        )

    @property
    def _particles(self) -> int:
        """Rows of the first swarm."""
        return self.particles or self.population * (2 if self._competing else 1)

    @property
    def _rows(self) -> int:
        return self._particles * (self.max_growth if self.restart == "grow" else 1)

    def init(self, space: Space, key: jax.Array) -> PSOState:
        dtype, n, m = default_dtype(), self.population, self._rows
        k_place, k_swarm = jax.random.split(key)
        noisy_rows, asked = (m, n) if self.noisy else (0, 0)
        return PSOState(
            space=space,
            swarm=swarm.create(self.rule, k_swarm, places(space, k_place, m, dtype, even=True), 0.0, 1.0),
            value=jnp.full((m,), jnp.inf, dtype),
            violation=jnp.full((m,), jnp.inf, dtype),
            seen=jnp.zeros((noisy_rows,), dtype),
            scatter=jnp.zeros((2,), dtype),
            rows=jnp.arange(n if self._competing else 0, dtype=jnp.int32),
            again=jnp.zeros((asked,), bool),
            active=jnp.asarray(self._particles, jnp.int32),
            turn=jnp.zeros((), jnp.int32),
            stale=jnp.zeros((), jnp.int32),
            best_unit=jnp.asarray(space.default_unit(), dtype),
            best_value=jnp.asarray(jnp.inf, dtype),
            best_violation=jnp.asarray(jnp.inf, dtype),
            restarts=jnp.zeros((), jnp.int32),
        )

    def ask(self, state: PSOState, key: jax.Array) -> tuple[jax.Array, PSOState]:
        k_move, k_lost, k_restart = jax.random.split(key, 3)
        if self.restart != "none":
            # a loop of one turn or none: a cond copies the arrays of the swarm, and under vmap makes every restart
            state, _ = jax.lax.while_loop(
                lambda carry: carry[1],
                lambda carry: (self._restarted(carry[0], k_restart), jnp.zeros((), bool)),
                (state, self._exhausted(state)),
            )
        n, old = self.population, state.swarm
        blocks = state.active // n
        fresh = state.turn < blocks  # the first round evaluates the places where the particles start
        block = state.turn % blocks
        stalled = old.stalled & (block == 0)  # informants change between two rounds, not within one
        rows: Any  # a block of particles, or the losers of a generation of pairs
        moved, rows, x, velocity = swarm.move(
            self.rule,
            self._coefficients(old.position.dtype),
            old._replace(stalled=stalled),
            k_move,
            generation=jnp.maximum(state.turn // blocks - 1, 0),
            block=(n, block, state.active),
        )
        if self._competing:
            rows = jnp.where(fresh, block * n + jnp.arange(n, dtype=jnp.int32), rows)
        x = jnp.where(fresh, take(old.position, rows), x)
        velocity = jnp.where(fresh, take(old.velocity, rows), velocity)
        lost = ~fresh & jnp.isinf(take(state.violation, rows))
        x, velocity = jax.lax.cond(lost.any(), thrown, lambda x, v, *_: (x, v), x, velocity, lost, k_lost)
        units, again = x, state.again
        if self.noisy:
            again = ~fresh & ~lost & self._uncertain(state, rows)
            units = jnp.where(again[:, None], take(old.best, rows), x)
            x = jnp.where(again[:, None], take(old.position, rows), x)
            velocity = jnp.where(again[:, None], take(old.velocity, rows), velocity)
        kept = old._replace(
            links=jnp.where(fresh, old.links, moved.links),
            exemplar=jnp.where(fresh, old.exemplar, moved.exemplar),
            failures=jnp.where(fresh, old.failures, moved.failures),
        )
        placed = swarm.placed(kept, rows, x, velocity)
        asked = rows if self._competing else state.rows
        return units, state._replace(swarm=placed, rows=asked, again=again, turn=state.turn + 1)

    def tell(self, state: PSOState, units: jax.Array, result: Evaluation) -> PSOState:
        value, violation = (a.astype(state.value.dtype) for a in feasible_value(result))
        rows = self._asked(state)
        old_value, old_violation = take(state.value, rows), take(state.violation, rows)
        improved = better(violation, value, old_violation, old_value)
        if self._competing:  # its memory is where the particles are; one whose result is pending stays where it was
            improved = jnp.ones_like(improved) if result.mask is None else result.mask
            units = jnp.where(improved[:, None], units, take(state.swarm.best, rows))
        new_value, new_violation = value, violation
        count, scatter = state.seen, state.scatter
        if self.noisy:
            seen = take(count, rows)
            repeated = state.again & jnp.isfinite(violation)
            improved = improved & ~state.again
            delta = jnp.where(repeated, value - old_value, 0)
            mean = old_value + delta / (seen + 1)
            squares = (delta * jnp.where(repeated, value - mean, 0)).sum()
            scatter = scatter + jnp.stack([squares, repeated.sum().astype(delta.dtype)])
            count = put(count, rows, jnp.where(improved, 1, seen + repeated.astype(seen.dtype)))
            new_value = jnp.where(repeated, mean, value)
            new_violation = jnp.where(repeated, jnp.maximum(old_violation, violation), violation)
            written = improved | repeated
        else:
            written = improved
        best_value, best_violation = lead(state.value, state.violation)
        values = put(state.value, rows, jnp.where(written, new_value, old_value))
        violations = put(state.violation, rows, jnp.where(written, new_violation, old_violation))
        gained = (improved & better(violation, value, best_violation, best_value)).any()
        merit = merit_of(values, violations, result.constraint)
        memory = swarm.remember(self.rule, state.swarm, rows, units, improved, merit, gained)
        begins = (state.turn - 1) % (state.active // self.population) == 0
        memory = memory._replace(stalled=memory.stalled & (begins | state.swarm.stalled))
        if self._competing:
            memory = memory._replace(position=memory.best)
        waited = jnp.asarray(True) if result.mask is None else result.mask.any()
        return state._replace(
            swarm=memory,
            value=values,
            violation=violations,
            seen=count,
            scatter=scatter,
            stale=jnp.where(gained, 0, state.stale + waited.astype(jnp.int32)),
        )

    def absorb(self, state: PSOState, units: jax.Array, result: Evaluation) -> PSOState:
        """Late results go to their particles; other points replace the worst personal bests that they beat."""
        value, violation = (a.astype(state.value.dtype) for a in feasible_value(result))
        old, units = state.swarm, units.astype(state.swarm.best.dtype)
        m, k = self._rows, min(units.shape[0], self._particles)
        own = owners(old.position, units)
        mine = jnp.zeros((m,), bool).at[own].set(True, mode="drop")
        worst = jnp.lexsort(
            (-state.value, -state.violation, mine | (jnp.arange(m, dtype=jnp.int32) >= state.active))
        ).astype(jnp.int32)
        given = jnp.lexsort((value, violation))[:k]  # best first
        row = jnp.where(own[given] < m, own[given], worst[:k])
        turn = jnp.arange(k, dtype=jnp.int32)
        first = jnp.full((m,), jnp.int32(k)).at[row].min(turn)[row] == turn
        wins = first & better(violation[given], value[given], state.violation[row], state.value[row])
        at = jnp.where(wins, row, m)  # out of range: dropped
        write = lambda a, new: a.at[at].set(new, mode="drop")  # noqa: E731
        values, violations = write(state.value, value[given]), write(state.violation, violation[given])
        best = write(old.best, units[given])
        changed = old._replace(best=best, merit=merit_of(values, violations, result.constraint))
        if self._competing:
            changed = changed._replace(position=best)
        seen = write(state.seen, jnp.ones((k,), state.seen.dtype)) if self.noisy else state.seen
        return state._replace(swarm=changed, value=values, violation=violations, seen=seen)

    def best(self, state: PSOState) -> tuple[jax.Array, jax.Array]:
        """Best point so far, ``float[d]``, and its value (+inf if nothing succeeded).

        With noise the upper bound mean + s / sqrt(count) decides, and is the value.
        """
        value = self._bound(state, 1.0)
        row = jnp.argmin(jnp.where(state.violation == state.violation.min(), value, jnp.inf))
        mine = better(state.violation[row], value[row], state.best_violation, state.best_value)
        return (
            jnp.where(mine, state.swarm.best[row], state.best_unit),
            jnp.where(mine, value[row], state.best_value),
        )

    def _asked(self, state: PSOState) -> Rows:
        """The particles asked for last: cso's losers, the whole swarm where that is all it has, or a block."""
        n = self.population
        if self._competing:
            return state.rows
        return None if self._rows == n else window((state.turn - 1) % (state.active // n) * n, n)

    def _coefficients(self, dtype: Any) -> swarm.Coefficients:
        names = swarm.Coefficients._fields
        return swarm.Coefficients(*(jnp.asarray(getattr(self, name), dtype) for name in names))

    def _bound(self, state: PSOState, side: float) -> jax.Array:
        """Values, or with noise their confidence bound on one side."""
        if not self.noisy:
            return state.value
        spread = jnp.sqrt(state.scatter[0] / jnp.maximum(state.scatter[1], 1))
        return state.value + side * spread / jnp.sqrt(jnp.maximum(state.seen, 1))

    def _uncertain(self, state: PSOState, rows: Rows) -> jax.Array:
        """``bool[n]``: the feasible bests with the lowest lower bounds, on average the share of a block."""
        feasible = take(state.violation, rows) == 0
        lower = jnp.where(feasible, take(self._bound(state, -1.0), rows), jnp.inf)
        share = jnp.asarray(self.reevaluate * self.population, lower.dtype)
        due = jnp.floor((state.turn + 1).astype(lower.dtype) * share) - jnp.floor(
            state.turn.astype(lower.dtype) * share
        )
        rank = jnp.argsort(jnp.argsort(lower)).astype(lower.dtype)
        return (rank < due) & jnp.isfinite(lower)

    def _exhausted(self, state: PSOState) -> jax.Array:
        """Collapsed to a point (of the dtype's resolution), or nothing gained for long."""
        x, dtype = state.swarm.position, state.swarm.position.dtype
        there = (jnp.arange(x.shape[0], dtype=jnp.int32) < state.active)[:, None]
        extent = jnp.where(there, x, -jnp.inf).max(axis=0) - jnp.where(there, x, jnp.inf).min(axis=0)
        collapsed = (extent <= SPREAD).all()
        blocks = (state.active // self.population).astype(dtype)
        wait = 10 + 30 * x.shape[1] / state.active.astype(dtype)
        stuck = state.stale.astype(dtype) >= blocks * jnp.asarray(self.patience, dtype) * wait
        if self.schedule == "linear":  # the search narrows at the end of the schedule, not before
            stuck = stuck & (state.turn.astype(dtype) >= blocks * jnp.asarray(self.horizon, dtype))
        if self.noisy:  # a mean that no longer falls says nothing
            stuck = jnp.zeros_like(stuck)
        begun = state.turn > state.active // self.population
        return begun & (collapsed | stuck) & jnp.isfinite(state.violation).any()

    def _restarted(self, state: PSOState, key: jax.Array) -> PSOState:
        m, dtype = self._rows, state.swarm.position.dtype
        unit, value = self.best(state)
        feasible = jnp.minimum(state.best_violation, state.violation.min())
        k_place, k_swarm = jax.random.split(key)
        nothing = jnp.full((m,), jnp.inf, dtype)
        return state._replace(
            swarm=swarm.create(self.rule, k_swarm, places(state.space, k_place, m, dtype, even=False), 0.0, 1.0),
            value=nothing,
            violation=nothing,
            seen=jnp.zeros_like(state.seen),
            active=jnp.minimum(2 * state.active, m).astype(jnp.int32),
            turn=jnp.zeros((), jnp.int32),
            stale=jnp.zeros((), jnp.int32),
            best_unit=unit,
            best_value=value,
            best_violation=feasible,
            restarts=state.restarts + 1,
        )


def swarm_for(evaluations: int | None) -> PSO:
    """The swarm of a search that names no strategy: the default one, or a small and fast one for a small budget.

    A swarm has to move about twenty times to be worth its name. ``docs/swarms.md`` has the measurements.

    >>> swarm_for(5000).population, swarm_for(200).population, swarm_for(200).variant
    (40, 10, 'gbest')
    """
    if evaluations is None or evaluations >= SMALL_BUDGET:
        return PSO()
    return PSO(10, variant="gbest")
