"""NSGA-III: a genetic algorithm for many objectives, whose members spread along reference directions."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels import counter_random as counter
from jhpo.kernels import niching, pareto, threefry
from jhpo.kernels.order import lexsort
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, static_field, strategy
from jhpo.strategies.nsga2 import NSGA2, competing


class NSGA3State(NamedTuple):
    """The surviving members, best first: by front, in random order within one; and what their values are scaled by."""

    space: Space  # static
    rows: jax.Array  # float[n, d], genes, including those of inactive parameters
    values: jax.Array  # float[n, m], +inf where unknown
    violation: jax.Array  # float[n], as in `feasible_value`; +inf where unknown
    valid: jax.Array  # int32[], only the first ``valid`` members have values
    ideal: jax.Array  # float[m], the lowest feasible values so far, +inf before there are any
    extremes: jax.Array  # float[m, m], for each objective the point that is best in all others, +inf likewise
    seed: jax.Array  # uint32[2], of the order of equals
    told: jax.Array  # uint32[], generations told


@strategy
class NSGA3(NSGA2):
    """NSGA-III (Deb and Jain 2014) for four objectives and more, where nearly all members share the first front.

    Crossover, mutation and the order of fronts are those of `NSGA2`. From the last front that has room the members are
    chosen that fill the emptiest of evenly spread reference directions, the nearest first. Values are scaled by the
    ideal point and the worst values of the extreme points, which are kept from one generation to the next (the paper
    uses the intercepts of the plane through these points, which need not exist).

    Args:
      population: points of a generation, and number of survivors. There are as many directions as a lattice of at most
        so many points has: 91 for 92 members and three objectives, 84 for 84 members and four.
      objectives: number of objectives; set by a search with ``directions``.
      crossover: probability that two parents are crossed, in [0, 1].
      mutation: probability that a coordinate mutates; None for one active coordinate on average.
      crossover_index: distribution index of the crossover: the larger, the closer children are to their parents.
      mutation_index: distribution index of the mutation.

    Raises:
      InvalidArgument: fewer than 4 members, or a coefficient outside its range.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})
    >>> three = lambda hp: (hp["x"] ** 2, hp["y"] ** 2, (hp["x"] - 1.0) ** 2 + (hp["y"] - 1.0) ** 2)
    >>> result = jhpo.minimize(three, space, jhpo.NSGA3(28), budget=280, directions=["minimize"] * 3)
    >>> len(result.pareto()) > 28
    True
    """

    population: int = static_field(default=92)
    crossover_index: float = 30.0

    def init(self, space: Space, key: jax.Array) -> NSGA3State:  # type: ignore[override]
        first, m = super().init(space, key), self.objectives
        infinite = jnp.full((m, m), jnp.inf, first.rows.dtype)
        seed = threefry.bits(key, (2,))
        return NSGA3State(*first, infinite[0], infinite, seed, jnp.zeros((), jnp.uint32))

    def tell(self, state: NSGA3State, units: jax.Array, result: Evaluation) -> NSGA3State:  # type: ignore[override]
        rows, values, violation, valid = competing(state, units, result)
        feasible = violation == 0
        rank = pareto.ranks(values, violation, enough=self.population)
        ideal = jnp.minimum(state.ideal, jnp.min(jnp.where(feasible[:, None], values, jnp.inf), axis=0))
        extremes = niching.extremes(values, feasible & (rank == 0), state.extremes, ideal)
        lot = counter.scramble(jnp.arange(rank.shape[0], dtype=jnp.uint32), state.seed ^ state.told)
        lot = (lot >> 1).astype(jnp.int32)
        level = self._levels(values, rank, ideal, extremes, feasible)
        chosen = lexsort((lot, level, rank))[: self.population]
        chosen = chosen[lexsort((lot[chosen], rank[chosen]))]
        return NSGA3State(
            state.space, rows[chosen], values[chosen], violation[chosen], valid, ideal, extremes, state.seed,
            state.told + jnp.uint32(1),
        )  # fmt: skip

    def _levels(
        self, values: jax.Array, rank: jax.Array, ideal: jax.Array, extremes: jax.Array, feasible: jax.Array
    ) -> jax.Array:
        """int32[k]: how full its niche would be, for members of the last front with room; see `niching.levels`."""
        m = values.shape[1]
        lines = jnp.asarray(niching.directions(m, self.population), values.dtype)
        extent = jnp.max(jnp.where(jnp.isfinite(extremes), extremes, -jnp.inf), axis=0) - ideal
        scale = jnp.where(jnp.isfinite(extent) & (extent > 0), extent, 1.0)
        scaled = jnp.where(feasible[:, None], (values - ideal[None, :]) / scale[None, :], 0.0)
        last = jnp.sort(rank)[self.population - 1]
        niche, distance = niching.assigned(scaled, lines)
        return niching.levels(niche, distance, feasible & (rank < last), feasible & (rank == last), len(lines))
