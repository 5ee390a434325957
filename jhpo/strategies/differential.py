"""Differential evolution: rand/1/bin, current-to-pbest/1 and L-SHADE, for mixed spaces, in batches of any size."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels import counter_random
from jhpo.kernels import differential as de
from jhpo.kernels.loops import once, seldom
from jhpo.kernels.ranks import ranks
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, feasible_value, static_field, strategy
from jhpo.strategies.declared import altered, warn_of_unused

VARIANTS = ("lshade", "current_to_pbest", "rand1")
LEAST = 4  # rows that rand/1 needs, and the final size of L-SHADE's pool
MEMORY = 6
ARCHIVE = 2.6  # entries per member alive
OPEN_ENDED = 50  # largest default pool without a known budget
SWEEPS = 16  # least number of sweeps over L-SHADE's first pool within a known budget
_STREAMS = 11  # of random numbers in a generation


class DEState(NamedTuple):
    """A pool of members; a sweep makes one trial for each member alive, batch by batch."""

    space: Space  # static
    rows: jax.Array  # float[p, d], the pool; sorted from best to worst when a sweep begins
    value: jax.Array  # float[p], +inf where failed, unknown or dead
    violation: jax.Array  # float[p], as in `feasible_value`
    known: jax.Array  # bool[p], evaluated; the first trial of an unknown member is the member itself
    alive: jax.Array  # int32[], only the first ``alive`` rows take part
    cursor: jax.Array  # int32[], next target of the sweep
    spent: jax.Array  # int32[], evaluations told
    archive: jax.Array  # float[a, d], replaced members; a = 0 for rand/1
    archived: jax.Array  # int32[], entries in use
    memory_f: jax.Array  # float[h], successful scale factors
    memory_cr: jax.Array  # float[h], successful crossover rates, -1 is terminal
    slot: jax.Array  # int32[], entry of the memory to write next
    success: de.Success  # float[p] each, of this sweep
    target: jax.Array  # int32[n], of the trials asked for
    f: jax.Array  # float[n], their scale factors
    cr: jax.Array  # float[n], their crossover rates
    draw: jax.Array  # float[n], uniform, selects the archive entry that a loser overwrites


@strategy
class DifferentialEvolution(Strategy):
    """Differential evolution (Storn & Price 1997) and its adaptive successor L-SHADE (Tanabe & Fukunaga 2014).

    A member is replaced if its trial is no worse by Deb's rules; a failed trial never replaces. Coordinates that
    leave the cube are moved halfway to the bound. Where the donors differ in a category, the trial may get a random
    one. The pool is separate from the batch: with a smaller batch a sweep takes several asks, with a larger one each
    member has several trials, of which the best counts.

    Args:
      population: points of a generation (the batch).
      variant: ``"lshade"``, ``"current_to_pbest"`` or ``"rand1"``.
      pool: members; if None ``population``, for L-SHADE ``18 d``, but at most a sixteenth of a known budget, and
        at most 50 without one.
      f: scale factor of the plain variants, in (0, 2].
      cr: crossover rate of the plain variants, in [0, 1].
      p: fraction of the pool that counts as best, in (0, 1].
      horizon: evaluations over which L-SHADE's pool shrinks to 4; if None the budget, if that is known. Without
        either the pool keeps its size.

    Raises:
      InvalidArgument: fewer than 4 members, an unknown variant, a coefficient outside its range.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-4.0, 4.0), "y": jhpo.Float(-4.0, 4.0)})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + 100.0 * (hp["y"] - hp["x"]) ** 2
    >>> bool(jhpo.minimize(f, space, jhpo.DifferentialEvolution(16), budget=2400).value < 1e-4)
    True
    """

    inside: ClassVar[bool] = True

    population: int = static_field(default=32)
    variant: str = static_field(default="lshade")
    pool: int | None = static_field(default=None)
    f: float = 0.5
    cr: float = 0.9
    p: float = 0.11
    horizon: int | None = static_field(default=None)

    def __post_init__(self) -> None:
        check_integer("population", self.population)
        if self.variant not in VARIANTS:
            raise invalid("variant", f"one of {VARIANTS}", self.variant)
        if self.pool is not None:
            check_integer("pool", self.pool, LEAST)
        elif self.variant != "lshade":
            check_integer("population", self.population, LEAST)
        if self.horizon is not None:
            check_integer("horizon", self.horizon)
        check_number("f", self.f, 0.0, 2.0, open_low=True)
        check_number("cr", self.cr, 0.0, 1.0)
        check_number("p", self.p, 0.0, 1.0, open_low=True)
        if self.variant == "lshade":
            warn_of_unused(self, 'with variant="lshade", which adapts its own', "f", "cr")
        if self.variant == "rand1":
            warn_of_unused(self, 'with variant="rand1"', "p")

    # -- protocol -------------------------------------------------------------------------------------------

    def prepare(self, evaluations: int) -> DifferentialEvolution:
        """With the budget as the horizon, unless one was given."""
        if self.variant != "lshade" or self.horizon is not None:
            return self
        return altered(self, horizon=max(int(evaluations), 1))

    def init(self, space: Space, key: jax.Array) -> DEState:
        dtype, d, n = default_dtype(), space.dim, self.population
        size = self._pool(space)
        entries = 0 if self.variant == "rand1" else int(np.ceil(ARCHIVE * size))
        infinite = jnp.full((size,), jnp.asarray(jnp.inf, dtype))
        zeros = jnp.zeros((size,), dtype)
        half = jnp.full((MEMORY,), jnp.asarray(0.5, dtype))
        count = lambda value: jnp.asarray(value, jnp.int32)  # noqa: E731
        return DEState(
            space=space,
            rows=space.sample_unit(key, size, dtype),
            value=infinite,
            violation=infinite,
            known=jnp.zeros((size,), bool),
            alive=count(size),
            cursor=count(0),
            spent=count(0),
            archive=jnp.full((entries, d), jnp.asarray(0.5, dtype)),
            archived=count(0),
            memory_f=half,
            memory_cr=half,
            slot=count(0),
            success=de.Success(zeros, zeros, zeros),
            target=jnp.zeros((n,), jnp.int32),
            f=jnp.zeros((n,), dtype),
            cr=jnp.zeros((n,), dtype),
            draw=jnp.zeros((n,), dtype),
        )

    def ask(self, state: DEState, key: jax.Array) -> tuple[jax.Array, DEState]:
        n, dtype = self.population, state.rows.dtype
        seeds = counter_random.seeds(key, _STREAMS)  # one hash of the key; a key for each use would be hashed in a loop
        s_slot, s_f, s_cr, s_draw = seeds[:4]
        target = (state.cursor + jnp.arange(n, dtype=jnp.int32)) % state.alive
        if self.variant == "lshade":
            slot = counter_random.integers(s_slot, (n,), MEMORY)
            f, cr = de.cauchy_f(s_f, state.memory_f[slot]), de.normal_cr(s_cr, state.memory_cr[slot])
        else:
            f, cr = (jnp.broadcast_to(jnp.asarray(x, dtype), (n,)) for x in (self.f, self.cr))
        parent = state.rows[target]
        mutant = self._mutants(state, target, f, seeds[4:9])
        trial = jnp.where(state.known[target][:, None], de.crossover(seeds[9:], parent, mutant, cr), parent)
        draw = counter_random.uniform(s_draw, (n,), dtype)
        return once(trial), state._replace(target=target, f=f, cr=cr, draw=draw)

    def tell(self, state: DEState, units: jax.Array, result: Evaluation) -> DEState:
        value, violation = feasible_value(result)
        value, violation = value.astype(units.dtype), violation.astype(units.dtype)
        target, size = state.target, state.rows.shape[0]
        # of several trials of one member only the best counts
        constrained = result.constraint is not None and result.constraint.shape[-1] > 0
        rank = ranks(value, violation if constrained else None)
        first = jax.ops.segment_min(rank, target, size)[target] == rank
        held, lacking = state.value[target], state.violation[target]
        better = (violation < lacking) | ((violation == lacking) & (value < held))
        equal = (violation == lacking) & (value == held)
        wins = first & ~jnp.isinf(violation) & (better | equal)
        at = jnp.where(wins, target, size)  # out of range: dropped
        gain = jnp.where(violation < lacking, lacking - violation, held - value)
        gained = jnp.where(wins & better, target, size)
        put = lambda old, new, where: old.at[where].set(new, mode="drop")  # noqa: E731
        archive, archived = state.archive, state.archived
        if self.variant != "rand1":
            lost = wins & better & ~jnp.isinf(lacking)
            capacity = jnp.floor(ARCHIVE * state.alive.astype(jnp.float32)).astype(jnp.int32)
            archive, archived = de.archive_losers(archive, archived, capacity, state.rows[target], lost, state.draw)
        success = state.success
        state = state._replace(
            rows=put(state.rows, units, at),
            value=put(state.value, value, at),
            violation=put(state.violation, violation, at),
            known=put(state.known, jnp.ones_like(wins), jnp.where(first & self._told(result), target, size)),
            cursor=state.cursor + self.population,
            spent=state.spent + self.population,
            archive=archive,
            archived=archived,
            success=de.Success(
                put(success.gain, gain, gained), put(success.f, state.f, gained), put(success.cr, state.cr, gained)
            ),
        )
        return seldom(_next_sweep, state.cursor >= state.alive, state, self)

    def absorb(self, state: DEState, units: jax.Array, result: Evaluation) -> DEState:
        """The points replace the worst members of the pool that they beat."""
        value, violation = feasible_value(result)
        units, value, violation = (x.astype(state.rows.dtype) for x in (units, value, violation))
        size = state.rows.shape[0]
        k = min(units.shape[0], size)
        dead = jnp.arange(size, dtype=jnp.int32) >= state.alive
        given = jnp.lexsort((value, violation))[:k]
        worst = jnp.lexsort((-state.value, -state.violation, dead))[:k]
        wins = (violation[given] < state.violation[worst]) | (
            (violation[given] == state.violation[worst]) & (value[given] < state.value[worst])
        )
        at = jnp.where(wins, worst, size)  # out of range: dropped
        return state._replace(
            rows=state.rows.at[at].set(units[given], mode="drop"),
            value=state.value.at[at].set(value[given], mode="drop"),
            violation=state.violation.at[at].set(violation[given], mode="drop"),
            known=state.known.at[at].set(True, mode="drop"),
        )

    def best(self, state: DEState) -> tuple[jax.Array, jax.Array]:
        """The best member of the pool, ``float[d]``, and its value ``float[]``; the pool never loses it."""
        top = jnp.lexsort((state.value, state.violation))[0]
        return state.rows[top], state.value[top]

    # -- parts ----------------------------------------------------------------------------------------------

    def _pool(self, space: Space) -> int:
        if self.pool is not None or self.variant != "lshade":
            return self.pool or self.population
        most = 18 * space.dim
        return max(2 * LEAST, min(most, OPEN_ENDED if self.horizon is None else self.horizon // SWEEPS))

    def _told(self, result: Evaluation) -> jax.Array:
        return jnp.ones(result.value.shape, bool) if result.mask is None else result.mask

    def _mutants(self, state: DEState, target: jax.Array, f: jax.Array, seeds: jax.Array) -> jax.Array:
        """Mutants ``float[n, d]`` in the cube, before the crossover; ``seeds`` uint32[5, 2]."""
        donors, categories = seeds[:3], seeds[3:]
        space, rows, alive = state.space, state.rows, state.alive
        scale = f[:, None]
        if self.variant == "rand1":
            taken = target[:, None]
            for seed in donors:
                taken = jnp.concatenate([taken, de.distinct_below(seed, taken, alive)[:, None]], axis=1)
            base, first, second = (rows[taken[:, k]] for k in (1, 2, 3))
            mutant, anchor = base + scale * (first - second), base
        else:
            count = jnp.maximum(2.0, jnp.round(self.p * alive.astype(rows.dtype)))
            top = jnp.floor(counter_random.uniform(donors[0], target.shape, rows.dtype) * count).astype(jnp.int32)
            one = de.distinct_below(donors[1], target[:, None], alive)
            two = de.distinct_below(donors[2], jnp.stack([target, one], axis=1), alive + state.archived)
            # entries of the archive are numbered after the members alive
            member, entry = jnp.minimum(two, alive - 1), jnp.maximum(two - alive, 0)
            second = jnp.where((two < alive)[:, None], rows[member], state.archive[entry])
            anchor, first = rows[target], rows[one]
            base = rows[jnp.minimum(top, alive - 1)]
            mutant = anchor + scale * (base - anchor) + scale * (first - second)
        mutant = de.bounced(mutant, anchor)
        if not space.categorical.any():
            return mutant
        index = lambda x: space.index(x)  # noqa: E731
        category = de.mutate_categories(categories, index(base), index(first), index(second), f, space.cells)
        return jnp.where(jnp.asarray(space.categorical)[None, :], space.from_index(category, mutant.dtype), mutant)


def _next_sweep(state: DEState, strategy: DifferentialEvolution) -> DEState:
    """Updates the memory, sorts the pool, and shrinks it."""
    memory_f, memory_cr, slot = state.memory_f, state.memory_cr, state.slot
    if strategy.variant == "lshade":
        memory_f, memory_cr, slot = de.remember(memory_f, memory_cr, slot, state.success)
    size = state.rows.shape[0]
    alive = state.alive
    if strategy.variant == "lshade" and strategy.horizon is not None:
        alive = jnp.minimum(alive, de.shrunk(size, LEAST, state.spent, jnp.asarray(strategy.horizon, jnp.int32)))
    order = jnp.lexsort((state.value, state.violation))
    living = jnp.arange(size, dtype=jnp.int32) < alive
    zeros = jnp.zeros_like(state.value)
    return state._replace(
        rows=state.rows[order],
        value=jnp.where(living, state.value[order], jnp.inf),
        violation=jnp.where(living, state.violation[order], jnp.inf),
        known=state.known[order],
        alive=alive,
        cursor=jnp.zeros_like(state.cursor),
        memory_f=memory_f,
        memory_cr=memory_cr,
        slot=slot,
        success=de.Success(zeros, zeros, zeros),
    )
