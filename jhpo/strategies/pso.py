"""Particle swarm optimisation: one strategy with variants, restarts, constraints, noise and failed members."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels import swarm, threefry
from jhpo.kernels.loops import seldom
from jhpo.kernels.rows import Rows, take, window
from jhpo.kernels.topology import TOPOLOGIES
from jhpo.kernels.trees import Number
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, feasible_value, static_field, strategy
from jhpo.strategies.declared import altered, warn_of_unused
from jhpo.strategies.swarm_memory import (
    PSOState,
    absorbed,
    best_of,
    competing,
    in_front,
    learned,
    noisy,
    plain,
    uncertain,
)
from jhpo.strategies.swarm_starts import alike, restarted, started
from jhpo.strategies.swarms import PRESETS, check_stability, one_of, places

RESTARTS = ("grow", "same", "none")
LIFE = 100  # earlier evaluations for each particle of a swarm that has grown


@strategy
class PSO(Strategy):
    """Particle swarm optimisation in the unit cube.

    ``docs/strategies/pso.md`` says which variant to use when, and how constraints, failures, noise and pending trials
    are handled. Options that are not given have the variant's published values.

    A swarm of k * population particles moves once in k asks, one block after another; ``PSO(1, particles=40)`` is a
    steady-state swarm that moves one particle per ask. A swarm that has collapsed or stopped improving is restarted
    without recompiling. A search is differentiable, except for its discrete choices.

    Args:
      population: points of an ask.
      variant: spso2006, spso2011 (rotation-invariant), gbest (constriction), ring, vonneumann, random, fips, clpso
        (many local optima) or cso (many dimensions).
      particles: of the first swarm, a multiple of the population; ``population`` if None (cso: twice as many, as only
        the losers move).
      topology: another graph than the variant's: global, ring, vonneumann, random, informants.
      inertia, cognitive, social: coefficients, checked for stability unless they are traced.
      schedule: of the inertia: constant, linear (to ``inertia_end`` over ``horizon`` moves of the swarm), random.
      inertia_end, horizon: see schedule. The stability of a linear schedule is checked at its end.
      bounds: absorb, reflect or periodic.
      clamp: largest velocity, as a fraction of the cube's edge.
      informants: number K of informants in the random graphs.
      restart: grow (twice the particles), same (size) or none.
      max_growth: size of the largest swarm as a multiple of the first, a power of two. A swarm begins larger than the
        one before it only after 100 evaluations for each of its particles.
      patience: generations without improvement that end a swarm, as a multiple of 10 + 30 d / particles. A linear
        schedule runs to its end first.
      noisy: re-evaluate the personal bests with the lowest lower confidence bound; their values become running means.
      reevaluate: fraction of a generation used for that, in (0, 1].

    Raises:
      InvalidArgument: an option outside its range, coefficients with which the swarm diverges, or fewer particles
        than the variant needs.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0), "y": jhpo.Float(-5.0, 5.0)})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + (hp["y"] + 2.0) ** 2
    >>> bool(jhpo.minimize(f, space, jhpo.PSO(20), budget=1000).value < 1e-4)
    True
    """

    steady: ClassVar[bool] = True
    inside: ClassVar[bool] = True

    population: int = static_field(default=40)
    variant: str = static_field(default="spso2006")
    particles: int | None = static_field(default=None)
    topology: str | None = static_field(default=None)
    inertia: Number | None = None
    cognitive: Number | None = None
    social: Number | None = None
    schedule: str | None = static_field(default=None)
    inertia_end: Number | None = None
    horizon: Number = 250.0
    bounds: str = static_field(default="absorb")
    clamp: Number | None = None
    informants: int = static_field(default=3)
    restart: str = static_field(default="grow")
    max_growth: int = static_field(default=4)
    patience: Number = 10.0
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
        if not self.noisy:
            warn_of_unused(self, "without noisy=True", "reevaluate")
        if self.restart != "grow":
            warn_of_unused(self, f'with restart="{self.restart}"', "max_growth")
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
        """The static options of the kernel."""
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
        """Particles of the first swarm."""
        return self.particles or self.population * (2 if self._competing else 1)

    @property
    def fronted(self) -> bool:
        """Whether the swarm has a front: a block is moved at once, and only restarts add more."""
        return self._particles == self.population < self._rows

    @property
    def _rows(self) -> int:
        return self._particles * (self.max_growth if self.restart == "grow" else 1)

    def prepare(self, evaluations: int) -> PSO:
        """Without rows for larger swarms than so many evaluations let begin: memory, and time to fill it."""
        growth, affordable = self.max_growth, max(evaluations // (LIFE * self._particles), 1)
        while growth > affordable:
            growth //= 2
        return altered(self, max_growth=growth)

    def init(self, space: Space, key: jax.Array) -> PSOState:
        dtype, n, m, first = default_dtype(), self.population, self._rows, self._particles
        k_place, k_swarm = threefry.split(key)
        noisy_rows, asked = (m, n) if self.noisy else (0, 0)
        start = places(space, k_place, first, dtype, even=True)
        created = swarm.create(self.rule, k_swarm, start, 0.0, 1.0, rows=m, front=self.fronted)
        return PSOState(
            space=space,
            swarm=created._replace(failures=jnp.zeros_like(created.failures)),  # counted from the first move on
            value=created.merit,
            violation=created.merit,
            far_value=created.far_merit,
            far_violation=created.far_merit,
            seen=jnp.zeros((noisy_rows,), dtype),
            scatter=jnp.zeros((2,), dtype),
            rows=jnp.arange(n if self._competing else 0, dtype=jnp.int32),
            again=jnp.zeros((asked,), bool),
            active=jnp.asarray(first, jnp.int32),
            turn=jnp.zeros((), jnp.int32),
            before=jnp.zeros((), jnp.int32),
            stale=jnp.zeros((), jnp.int32),
            best_unit=jnp.asarray(space.default_unit(), dtype),
            best_value=jnp.asarray(jnp.inf, dtype),
            best_violation=jnp.asarray(jnp.inf, dtype),
            restarts=jnp.zeros((), jnp.int32),
        )

    def ask(self, state: PSOState, key: jax.Array) -> tuple[jax.Array, PSOState]:
        n = self.population
        if self.restart != "none":
            stuck, near = self._stuck(state), alike(state) & self._begun(state)
            grows = state.before + state.turn >= LIFE * lax.div(2 * state.active, jnp.int32(n))
            state = seldom(restarted, stuck | near, state, stuck, grows, key)
        blocks = lax.div(state.active, jnp.int32(n))
        fresh = state.turn < blocks  # the first round evaluates the initial positions
        block = lax.rem(state.turn, blocks)
        if self.fronted:
            state = in_front(state, block)
        # informants change between rounds, not within one
        old = state.swarm._replace(stalled=state.swarm.stalled & (block == 0))
        stands = fresh & (state.restarts == 0)
        rows: Any  # a block of particles, or the losers of a generation of pairs
        moved, rows, x, velocity = swarm.move(
            self.rule,
            self._coefficients(old.position.dtype),
            old,
            key,
            generation=jnp.maximum(lax.div(state.turn, blocks) - 1, 0),
            block=(n, block, state.active if self._rows > self._particles else self._particles),
            stands=None if self._competing else stands,
        )
        if self._competing:
            rows = jnp.where(fresh, block * n + jnp.arange(n, dtype=jnp.int32), rows)
        failed = jnp.isinf(take(state.violation, rows))
        new, stay = fresh | failed, None
        if self._competing:  # a particle that absorbed a point keeps that as its position
            stay = stands | (fresh & ~failed), take(old.position, rows), take(old.velocity, rows)
        else:
            new = new & ~stands
        begin = functools.partial(started, self.rule)
        x, velocity = seldom(begin, new.any(), (x, velocity), state.space, new, fresh, key, stay)
        units, again = x, state.again
        if self.noisy:
            again = ~(new | stands) & uncertain(state, rows, self.reevaluate)
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
        """Late results update their particles; other points replace the worst personal bests that they beat."""
        return absorbed(self.rule, self._particles, state, units, result)

    def best(self, state: PSOState) -> tuple[jax.Array, jax.Array]:
        """Best point so far, ``float[d]``, and its value ``float[]`` (+inf before the first success).

        With noise the value is the upper bound mean + s / sqrt(count), and the best point minimises it.
        """
        return best_of(state)

    def _asked(self, state: PSOState) -> Rows:
        """The particles asked for last: cso's losers, the whole swarm, or a block."""
        n = self.population
        if self._competing:
            return state.rows
        if self.fronted:
            return window(0, n)
        return None if self._rows == n else window(lax.rem(state.turn - 1, lax.div(state.active, jnp.int32(n))) * n, n)

    def _coefficients(self, dtype: DTypeLike) -> swarm.Coefficients:
        return swarm.Coefficients(*(jnp.asarray(getattr(self, name), dtype) for name in swarm.Coefficients._fields))

    def _begun(self, state: PSOState) -> jax.Array:
        """``bool[]``: whether the swarm has moved and some particle has succeeded."""
        return (state.turn > lax.div(state.active, jnp.int32(self.population))) & jnp.isfinite(state.swarm.least)

    def _stuck(self, state: PSOState) -> jax.Array:
        """``bool[]``: whether the swarm has stopped improving."""
        d, dtype = state.swarm.position.shape[1], state.swarm.position.dtype
        if self.noisy:  # running means do not show it
            return jnp.zeros((), bool)
        blocks = lax.div(state.active, jnp.int32(self.population)).astype(dtype)
        wait = 10 + 30 * d / state.active.astype(dtype)
        stuck = state.stale.astype(dtype) >= blocks * jnp.asarray(self.patience, dtype) * wait
        if self.schedule == "linear":  # the search converges only at the end of the schedule
            stuck = stuck & (state.turn.astype(dtype) >= blocks * jnp.asarray(self.horizon, dtype))
        return stuck & self._begun(state)
