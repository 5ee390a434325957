"""Particle swarm optimisation: one strategy, its variants by options; restarts, constraints, noise, failed members."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, invalid, is_concrete
from jhpo.kernels import counter_random, swarm
from jhpo.kernels.sobol import MAX_DIM, sobol
from jhpo.kernels.stability import swarm_radius
from jhpo.kernels.topology import TOPOLOGIES
from jhpo.space import Space
from jhpo.strategies._swarms import PRESETS, better, lead, merit_of
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, feasible_value, static_field, strategy

RESTARTS = ("grow", "same", "none")
SPREAD = 1e-12  # widest extent of a swarm, in units of the cube, that counts as collapsed


class PSOState(NamedTuple):
    """m = population * max_growth particles (twice as many for cso); the first ``active`` of them take part."""

    space: Space  # static
    swarm: swarm.Swarm  # particles in the unit cube, float[m, d] each
    value: jax.Array  # float[m], of each particle's best, +inf before the first success; a running mean with noise
    violation: jax.Array  # float[m], how far that is from feasible: 0 if it is, +inf before the first success
    seen: jax.Array  # float[m], evaluations in value; float[0] without noise
    scatter: jax.Array  # float[2], with noise: sum of squared deviations of the re-evaluations, and their number
    rows: jax.Array  # int32[n], the particles asked for last
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

    Variants (``docs/swarm.md`` says which for what): spso2006 (default), spso2011 (rotation invariant), gbest
    (constriction), ring, vonneumann, random, fips, clpso (many local optima), cso (many dimensions). Every option
    that is not given has the variant's published value.

    - Integers and categories are real numbers in the state; the space snaps them when they are decoded.
    - Constraints follow Deb's rules: feasible before infeasible, then by value or by violation.
    - Failed members (NaN, +-inf) never become a best; a particle that never succeeded is thrown anew each time.
    - A swarm that collapsed or stopped improving is started again, twice as large if ``restart="grow"``. The arrays
      keep one shape: a swarm of k * population particles takes k generations to move once, a block at a time, so
      no evaluation is wasted and nothing is compiled again.
    - With ``noisy``, a share of each generation goes to the personal bests that look best or are known least
      (lowest mean - s / sqrt(count)); their values are running means.

    Args:
      population: points of a generation.
      variant: name of the preset.
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

    population: int = static_field(default=40)
    variant: str = static_field(default="spso2006")
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
        _one_of("variant", self.variant, tuple(PRESETS))
        preset = PRESETS[self.variant]
        for name in ("topology", "inertia", "cognitive", "social", "schedule", "inertia_end", "clamp"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(preset, name))
        _one_of("topology", self.topology, TOPOLOGIES)
        _one_of("schedule", self.schedule, swarm.SCHEDULES)
        _one_of("bounds", self.bounds, swarm.BOUNDS)
        _one_of("restart", self.restart, RESTARTS)
        check_integer("informants", self.informants)
        check_integer("max_growth", self.max_growth)
        if self.max_growth & (self.max_growth - 1):
            raise invalid("max_growth", "a power of two", self.max_growth)
        check_number("horizon", self.horizon, 0.0, open_low=True)
        check_number("clamp", self.clamp, 0.0, open_low=True)
        check_number("patience", self.patience, 0.0, open_low=True)
        check_number("reevaluate", self.reevaluate, 0.0, 1.0, open_low=True)
        if self.noisy and preset.motion == "compete":
            raise invalid("noisy", f"a variant with personal bests, which {self.variant} has not", True)
        if preset.motion == "informed" and self.topology == "global":
            raise invalid("topology", f"a graph with few informants for the variant {self.variant}", self.topology)
        least = swarm.needed(self._rule)
        particles = self.population * (2 if preset.motion == "compete" else 1)
        if particles < least:
            raise invalid("population", f"at least {least} particles for {self.variant}", self.population)
        self._check_stability()

    def _check_stability(self) -> None:
        rule = self._rule
        end = self.inertia_end if rule.schedule == "linear" else self.inertia
        if not all(is_concrete(x) for x in (end, self.cognitive, self.social)):
            return  # traced coefficients: whoever traces them answers for them
        radius = swarm_radius(rule.motion, rule.schedule, end, self.cognitive, self.social, self._slots)
        if not radius < 1.0:
            got = {"inertia": float(end), "cognitive": float(self.cognitive), "social": float(self.social)}
            raise invalid(
                "inertia, cognitive, social",
                f"coefficients of a swarm that converges (spectral radius of its second moments < 1, not {radius:.3f})",
                got,
            )

    @property
    def _slots(self) -> int:
        return {"ring": 2, "vonneumann": 4}.get(str(self.topology), self.informants)

    @property
    def _rule(self) -> swarm.Rule:
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
        """Rows of the first swarm: a generation's points, and the winners that rest in a cso swarm."""
        return self.population * (2 if PRESETS[self.variant].motion == "compete" else 1)

    @property
    def _rows(self) -> int:
        return self._particles * (self.max_growth if self.restart == "grow" else 1)

    def init(self, space: Space, key: jax.Array) -> PSOState:
        dtype, n, m = default_dtype(), self.population, self._rows
        k_place, k_swarm = jax.random.split(key)
        noisy_rows, asked = (m, n) if self.noisy else (0, 0)
        return PSOState(
            space=space,
            swarm=swarm.create(self._rule, k_swarm, _places(space, k_place, m, dtype), 0.0, 1.0),
            value=jnp.full((m,), jnp.inf, dtype),
            violation=jnp.full((m,), jnp.inf, dtype),
            seen=jnp.zeros((noisy_rows,), dtype),
            scatter=jnp.zeros((2,), dtype),
            rows=jnp.arange(n, dtype=jnp.int32),
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
            state = jax.lax.cond(self._exhausted(state), self._restarted, lambda s, k: s, state, k_restart)
        n, old = self.population, state.swarm
        blocks = state.active // n
        fresh = state.turn < blocks  # the first round evaluates the places where the particles start
        block = state.turn % blocks
        moved, rows = swarm.move(
            self._rule,
            self._coefficients(old.position.dtype),
            old,
            k_move,
            generation=jnp.maximum(state.turn // blocks - 1, 0),
            block=(n, block, state.active),
        )
        moved = jax.tree.map(lambda a, b: jnp.where(fresh, a, b), old, moved)
        if not self._whole:
            here = block * n + jnp.arange(n, dtype=jnp.int32)
            rows = here if rows is None else jnp.where(fresh, here, rows)
        lost = ~fresh & jnp.isinf(self._take(state.violation, rows))
        x, velocity = self._take(moved.position, rows), self._take(moved.velocity, rows)
        x, velocity = jax.lax.cond(lost.any(), _thrown, lambda x, v, *_: (x, v), x, velocity, lost, k_lost)
        units, again = x, state.again
        if self.noisy:
            again = ~fresh & ~lost & self._uncertain(state, rows)
            units = jnp.where(again[:, None], self._take(old.best, rows), x)
            x = jnp.where(again[:, None], self._take(old.position, rows), x)
            velocity = jnp.where(again[:, None], self._take(old.velocity, rows), velocity)
        moved = moved._replace(
            position=self._put(moved.position, rows, x), velocity=self._put(moved.velocity, rows, velocity)
        )
        asked = state.rows if rows is None else rows
        return units, state._replace(swarm=moved, rows=asked, again=again, turn=state.turn + 1)

    def tell(self, state: PSOState, units: jax.Array, result: Evaluation) -> PSOState:
        value, violation = (a.astype(state.value.dtype) for a in feasible_value(result))
        rows = None if self._whole else state.rows
        old_value, old_violation = self._take(state.value, rows), self._take(state.violation, rows)
        improved = better(violation, value, old_violation, old_value)
        if self._rule.motion == "compete":
            improved = jnp.ones_like(improved)
        new_value, new_violation = value, violation
        count, scatter = state.seen, state.scatter
        if self.noisy:
            seen = self._take(count, rows)
            repeated = state.again & jnp.isfinite(violation)
            improved = improved & ~state.again
            delta = jnp.where(repeated, value - old_value, 0)
            mean = old_value + delta / (seen + 1)
            squares = (delta * jnp.where(repeated, value - mean, 0)).sum()
            scatter = scatter + jnp.stack([squares, repeated.sum().astype(delta.dtype)])
            count = self._put(count, rows, jnp.where(improved, 1, seen + repeated.astype(seen.dtype)))
            new_value = jnp.where(repeated, mean, value)
            new_violation = jnp.where(repeated, jnp.maximum(old_violation, violation), violation)
            written = improved | repeated
        else:
            written = improved
        best_value, best_violation = lead(state.value, state.violation)
        values = self._put(state.value, rows, jnp.where(written, new_value, old_value))
        violations = self._put(state.violation, rows, jnp.where(written, new_violation, old_violation))
        gained = (improved & better(violation, value, best_violation, best_value)).any()
        memory = swarm.remember(
            self._rule, state.swarm, rows, units, improved, merit_of(values, violations, result.constraint), gained
        )
        return state._replace(
            swarm=memory,
            value=values,
            violation=violations,
            seen=count,
            scatter=scatter,
            stale=jnp.where(gained, 0, state.stale + 1),
        )

    def absorb(self, state: PSOState, units: jax.Array, result: Evaluation) -> PSOState:
        """Given points replace the worst personal bests that they beat."""
        value, violation = (a.astype(state.value.dtype) for a in feasible_value(result))
        given = jnp.lexsort((value, violation))
        worst = jnp.lexsort((-state.value, -state.violation, jnp.arange(state.value.shape[0]) >= state.active))
        k = min(units.shape[0], self._particles)
        given, worst = given[:k], worst[:k]
        wins = better(violation[given], value[given], state.violation[worst], state.value[worst])
        values = state.value.at[worst].set(jnp.where(wins, value[given], state.value[worst]))
        violations = state.violation.at[worst].set(jnp.where(wins, violation[given], state.violation[worst]))
        old = state.swarm
        best = old.best.at[worst].set(jnp.where(wins[:, None], units[given].astype(old.best.dtype), old.best[worst]))
        changed = old._replace(best=best, merit=merit_of(values, violations, result.constraint))
        if self._rule.motion == "compete":  # its memory is where the particles are
            changed = changed._replace(position=best)
        count = state.seen
        if self.noisy:
            count = count.at[worst].set(jnp.where(wins, 1, count[worst]))
        return state._replace(swarm=changed, value=values, violation=violations, seen=count)

    def best(self, state: PSOState) -> tuple[jax.Array, jax.Array]:
        """Best point so far, ``float[d]``, and its value (+inf if nothing succeeded); with noise the upper bound
        mean + s / sqrt(count) decides, and is the value."""
        value = self._bound(state, 1.0)
        row = jnp.lexsort((value, state.violation))[0]
        mine = better(state.violation[row], value[row], state.best_violation, state.best_value)
        return (
            jnp.where(mine, state.swarm.best[row], state.best_unit),
            jnp.where(mine, value[row], state.best_value),
        )

    @property
    def _whole(self) -> bool:
        """Every generation is the whole swarm, in order: nothing needs to be gathered."""
        return self._rows == self.population

    def _take(self, a: jax.Array, rows: jax.Array | None) -> jax.Array:
        return a if rows is None else a[rows]

    def _put(self, a: jax.Array, rows: jax.Array | None, new: jax.Array) -> jax.Array:
        return new if rows is None else a.at[rows].set(new, unique_indices=True)

    def _coefficients(self, dtype: Any) -> swarm.Coefficients:
        names = swarm.Coefficients._fields
        return swarm.Coefficients(*(jnp.asarray(getattr(self, name), dtype) for name in names))

    def _bound(self, state: PSOState, side: float) -> jax.Array:
        """Values, or with noise their confidence bound on one side."""
        if not self.noisy:
            return state.value
        spread = jnp.sqrt(state.scatter[0] / jnp.maximum(state.scatter[1], 1))
        return state.value + side * spread / jnp.sqrt(jnp.maximum(state.seen, 1))

    def _uncertain(self, state: PSOState, rows: jax.Array | None) -> jax.Array:
        """``bool[n]``: the share of feasible bests with the lowest lower bounds."""
        feasible = self._take(state.violation, rows) == 0
        lower = jnp.where(feasible, self._take(self._bound(state, -1.0), rows), jnp.inf)
        k = max(1, round(self.reevaluate * self.population))
        chosen = jnp.zeros(lower.shape, bool).at[jnp.argsort(lower)[:k]].set(True)
        return chosen & jnp.isfinite(lower)

    def _exhausted(self, state: PSOState) -> jax.Array:
        """Collapsed to a point (of the dtype's resolution), or nothing gained for long."""
        x, dtype = state.swarm.position, state.swarm.position.dtype
        there = (jnp.arange(x.shape[0]) < state.active)[:, None]
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
            swarm=swarm.create(self._rule, k_swarm, _places(state.space, k_place, m, dtype), 0.0, 1.0),
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


def _one_of(name: str, value: Any, options: tuple[str, ...]) -> None:
    if value not in options:
        raise invalid(name, f"one of {list(options)}", value)


def _places(space: Space, key: jax.Array, m: int, dtype: Any) -> jax.Array:
    """Where particles start: evenly spread points, or a sample where priors or constraints say more."""
    plain = not space.has_constraints and all(getattr(p, "prior", None) is None for p in space.parameters)
    if plain and space.dim <= MAX_DIM:
        return sobol(jnp.zeros((), jnp.uint32), m, space.dim, jax.random.bits(key, (space.dim,), jnp.uint32), dtype)
    return space.sample_unit(key, m, dtype)


def _thrown(x: jax.Array, v: jax.Array, lost: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Particles that never succeeded get a new place, and rest."""
    place = counter_random.uniform(counter_random.seeds(key, 1)[0], x.shape, x.dtype)
    return jnp.where(lost[:, None], place, x), jnp.where(lost[:, None], 0, v)
