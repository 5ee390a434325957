"""Particle swarm optimisation: one strategy, its variants by options; restarts, constraints, noise, failed members."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels import swarm
from jhpo.kernels.loops import seldom
from jhpo.kernels.rows import Rows, take, window
from jhpo.kernels.topology import TOPOLOGIES
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, feasible_value, static_field, strategy
from jhpo.strategies.swarm_memory import PSOState, absorbed, best_of, bound, competing, learned, noisy, plain
from jhpo.strategies.swarm_starts import SPREAD, restarted, started
from jhpo.strategies.swarms import PRESETS, check_stability, one_of, places

RESTARTS = ("grow", "same", "none")
SMALL_BUDGET = 500  # evaluations below which forty particles hardly move
_LOOKED_AT = 16  # particles that tell at once that a swarm has not collapsed


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
    - Derivatives pass through a search in both modes, restarts included (the choices themselves have none).
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
        dtype, n, m, first = default_dtype(), self.population, self._rows, self._particles
        k_place, k_swarm = jax.random.split(key)
        noisy_rows, asked = (m, n) if self.noisy else (0, 0)
        start = places(space, k_place, first, dtype, even=True)
        created = swarm.create(self.rule, k_swarm, start, 0.0, 1.0, rows=m)
        return PSOState(
            space=space,
            swarm=created._replace(failures=jnp.zeros_like(created.failures)),  # counted from the first move
            value=jnp.full((m,), jnp.inf, dtype),
            violation=jnp.full((m,), jnp.inf, dtype),
            seen=jnp.zeros((noisy_rows,), dtype),
            scatter=jnp.zeros((2,), dtype),
            rows=jnp.arange(n if self._competing else 0, dtype=jnp.int32),
            again=jnp.zeros((asked,), bool),
            active=jnp.asarray(first, jnp.int32),
            turn=jnp.zeros((), jnp.int32),
            stale=jnp.zeros((), jnp.int32),
            best_unit=jnp.asarray(space.default_unit(), dtype),
            best_value=jnp.asarray(jnp.inf, dtype),
            best_violation=jnp.asarray(jnp.inf, dtype),
            restarts=jnp.zeros((), jnp.int32),
        )

    def ask(self, state: PSOState, key: jax.Array) -> tuple[jax.Array, PSOState]:
        if self.restart != "none":
            stuck, near = self._stuck(state), self._near(state)
            state = seldom(restarted, stuck | near, state, stuck, key)
        n, old = self.population, state.swarm
        blocks = lax.div(state.active, jnp.int32(n))
        fresh = state.turn < blocks  # the first round evaluates the places where the particles start
        block = lax.rem(state.turn, blocks)
        # informants change between two rounds, not within one
        old = old._replace(stalled=old.stalled & (block == 0))
        rows: Any  # a block of particles, or the losers of a generation of pairs
        moved, rows, x, velocity = swarm.move(
            self.rule,
            self._coefficients(old.position.dtype),
            old,
            key,
            generation=jnp.maximum(lax.div(state.turn, blocks) - 1, 0),
            block=(n, block, state.active),
        )
        if self._competing:
            rows = jnp.where(fresh, block * n + jnp.arange(n, dtype=jnp.int32), rows)
        new = fresh | jnp.isinf(take(state.violation, rows))
        x, velocity = seldom(
            functools.partial(started, self.rule), new.any(), (x, velocity), state, rows, new, fresh, key
        )
        units, again = x, state.again
        if self.noisy:
            again = ~new & self._uncertain(state, rows)
            units = jnp.where(again[:, None], take(old.best, rows), x)
            x = jnp.where(again[:, None], take(old.position, rows), x)
            velocity = jnp.where(again[:, None], take(old.velocity, rows), velocity)
        placed = swarm.placed(moved, rows, x, velocity)
        asked = rows if self._competing else state.rows
        return units, state._replace(swarm=placed, rows=asked, again=again, turn=state.turn + 1)

    def tell(self, state: PSOState, units: jax.Array, result: Evaluation) -> PSOState:
        value, violation = (a.astype(state.value.dtype) for a in feasible_value(result))
        rows = self._asked(state)
        if self._competing:
            told = competing(state, rows, units, value, violation, result.mask)
        elif self.noisy:
            state, told = noisy(state, rows, units, value, violation)
        else:
            told = plain(state, rows, units, value, violation)
        return learned(self.rule, self.population, state, rows, told, result)

    def absorb(self, state: PSOState, units: jax.Array, result: Evaluation) -> PSOState:
        """Late results go to their particles; other points replace the worst personal bests that they beat."""
        return absorbed(self.rule, self._particles, state, units, result)

    def best(self, state: PSOState) -> tuple[jax.Array, jax.Array]:
        """Best point so far, ``float[d]``, and its value (+inf if nothing succeeded).

        With noise the upper bound mean + s / sqrt(count) decides, and is the value.
        """
        return best_of(state)

    def _asked(self, state: PSOState) -> Rows:
        """The particles asked for last: cso's losers, the whole swarm where that is all it has, or a block."""
        n = self.population
        if self._competing:
            return state.rows
        return None if self._rows == n else window(lax.rem(state.turn - 1, lax.div(state.active, jnp.int32(n))) * n, n)

    def _coefficients(self, dtype: Any) -> swarm.Coefficients:
        names = swarm.Coefficients._fields
        return swarm.Coefficients(*(jnp.asarray(getattr(self, name), dtype) for name in names))

    def _uncertain(self, state: PSOState, rows: Rows) -> jax.Array:
        """``bool[n]``: the feasible bests with the lowest lower bounds, on average the share of a block."""
        feasible = take(state.violation, rows) == 0
        lower = jnp.where(feasible, take(bound(state, -1.0), rows), jnp.inf)
        share = jnp.asarray(self.reevaluate * self.population, lower.dtype)
        due = jnp.floor((state.turn + 1).astype(lower.dtype) * share) - jnp.floor(
            state.turn.astype(lower.dtype) * share
        )
        rank = jnp.argsort(jnp.argsort(lower)).astype(lower.dtype)
        return (rank < due) & jnp.isfinite(lower)

    def _begun(self, state: PSOState) -> jax.Array:
        """``bool[]``: the swarm has moved, and some particle succeeded."""
        return (state.turn > lax.div(state.active, jnp.int32(self.population))) & jnp.isfinite(state.swarm.least)

    def _stuck(self, state: PSOState) -> jax.Array:
        """``bool[]``: nothing was gained for long."""
        d, dtype = state.swarm.position.shape[1], state.swarm.position.dtype
        if self.noisy:  # a mean that no longer falls says nothing
            return jnp.zeros((), bool)
        blocks = lax.div(state.active, jnp.int32(self.population)).astype(dtype)
        wait = 10 + 30 * d / state.active.astype(dtype)
        stuck = state.stale.astype(dtype) >= blocks * jnp.asarray(self.patience, dtype) * wait
        if self.schedule == "linear":  # the search narrows at the end of the schedule, not before
            stuck = stuck & (state.turn.astype(dtype) >= blocks * jnp.asarray(self.horizon, dtype))
        return stuck & self._begun(state)

    def _near(self, state: PSOState) -> jax.Array:
        """``bool[]``: the first particles lie so near to each other that the swarm may have collapsed."""
        few = state.swarm.position[: min(self._particles, _LOOKED_AT)]
        return (few.max(axis=0) - few.min(axis=0) <= SPREAD).all() & self._begun(state)


def swarm_for(evaluations: int | None) -> PSO:
    """The swarm of a search that names no strategy: the default one, or a small and fast one for a small budget.

    A swarm has to move about twenty times to be worth its name. ``docs/swarms.md`` has the measurements.

    >>> swarm_for(5000).population, swarm_for(200).population, swarm_for(200).variant
    (40, 10, 'gbest')
    """
    if evaluations is None or evaluations >= SMALL_BUDGET:
        return PSO()
    return PSO(10, variant="gbest")
