"""NSGA-II: a genetic algorithm for several objectives, on mixed and conditional spaces."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import check_integer, check_number
from jhpo.kernels import counter_random as counter
from jhpo.kernels import genetic, pareto
from jhpo.kernels.loops import apart
from jhpo.kernels.order import lexsort
from jhpo.objectives import Objectives, check_count
from jhpo.space.space import Space
from jhpo.strategies.base import (
    Evaluation,
    State,
    Strategy,
    default_dtype,
    feasible_value,
    objective_values,
    static_field,
    strategy,
)


class NSGA2State(NamedTuple):
    """The surviving members, best first: by front, then by crowding distance."""

    space: Space  # static
    rows: jax.Array  # float[n, d], genes, including those of inactive parameters
    values: jax.Array  # float[n, m], +inf where unknown
    violation: jax.Array  # float[n], as in `feasible_value`; +inf where unknown
    valid: jax.Array  # int32[], only the first ``valid`` members have values


@strategy
class NSGA2(Strategy):
    """NSGA-II (Deb et al. 2002): non-dominated sorting, crowding distances, and binary tournaments.

    Floats have simulated binary crossover and polynomial mutation within their bounds. Integers and categories are
    inherited from one of the parents; a mutated category becomes another one, a mutated integer moves like a float,
    but at least by one step. A child differs from its parents, and duplicates in a space with discrete parameters are
    removed. Constraints follow Deb's rules; failed members never survive. With one objective it is an elitist genetic
    algorithm.

    Args:
      population: points of a generation, and number of survivors.
      objectives: number of objectives; set by a search with ``directions``.
      crossover: probability that two parents are crossed, in [0, 1].
      mutation: probability that a coordinate mutates; None for one active coordinate on average.
      crossover_index: distribution index of the crossover: the larger, the closer children are to their parents.
      mutation_index: distribution index of the mutation.

    Raises:
      InvalidArgument: fewer than 4 members, or a coefficient outside its range.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-2.0, 4.0)})
    >>> both = lambda hp: (hp["x"] ** 2, (hp["x"] - 2.0) ** 2)
    >>> result = jhpo.minimize(both, space, jhpo.NSGA2(32), budget=640, directions=["minimize", "minimize"])
    >>> inside = [-0.02 < point.params["x"] < 2.02 for point in result.pareto()]
    >>> all(inside), len(inside) > 32
    (True, True)
    """

    population: int = static_field(default=64)
    objectives: int = static_field(default=1)
    crossover: float = 0.9
    mutation: float | None = None
    crossover_index: float = 15.0
    mutation_index: float = 20.0

    several = True

    def __post_init__(self) -> None:
        check_integer("population", self.population, 4)
        check_integer("objectives", self.objectives)
        check_number("crossover", self.crossover, 0.0, 1.0)
        if self.mutation is not None:
            check_number("mutation", self.mutation, 0.0, 1.0)
        check_number("crossover_index", self.crossover_index, 0.0)
        check_number("mutation_index", self.mutation_index, 0.0)

    # -- protocol -------------------------------------------------------------------------------------------

    def for_objectives(self, objectives: Objectives) -> NSGA2:
        """The strategy for so many objectives.

        Raises:
          InvalidArgument: it was made for another number of objectives, more than one.
        """
        check_count(self.objectives, objectives)
        count = objectives.count
        return self if self.objectives == count else dataclasses.replace(self, objectives=count)

    def init(self, space: Space, key: jax.Array) -> NSGA2State:
        dtype, n = default_dtype(), self.population
        infinite = jnp.asarray(jnp.inf, dtype)
        return NSGA2State(
            space=space,
            rows=jnp.full((n, space.dim), jnp.asarray(0.5, dtype)),
            values=jnp.full((n, self.objectives), infinite),
            violation=jnp.full((n,), infinite),
            valid=jnp.zeros((), jnp.int32),
        )

    def ask(self, state: NSGA2State, key: jax.Array) -> tuple[jax.Array, NSGA2State]:
        def fresh(state: NSGA2State, key: jax.Array) -> jax.Array:
            return state.space.sample_unit(key, self.population, state.rows.dtype)

        # a crossover needs two members with values
        return jax.lax.cond(state.valid < 2, fresh, self._children, state, key), state

    def tell(self, state: NSGA2State, units: jax.Array, result: Evaluation) -> NSGA2State:
        rows, values, violation, valid = competing(state, units, result)
        free = result.constraint is None or result.constraint.shape[-1] == 0
        chosen, _ = pareto.best(values, None if free else violation, self.population)
        return NSGA2State(state.space, rows[chosen], values[chosen], violation[chosen], valid)

    def absorb(self, state: NSGA2State, units: jax.Array, result: Evaluation) -> NSGA2State:
        """The points compete with the members as children do."""
        return self.tell(state, units, result)

    # -- parts ----------------------------------------------------------------------------------------------

    def _children(self, state: NSGA2State, key: jax.Array) -> jax.Array:
        space, rows, n = state.space, state.rows, self.population
        dtype, d, pairs = rows.dtype, space.dim, -(-n // 2)
        lots, crossed, mixed, spread, chance, size = counter.seeds(key, 6)
        # members are sorted, so the winner of a tournament is the smaller index
        drawn = counter.uniform(lots, (pairs, 4), dtype) * jnp.maximum(state.valid, 1).astype(dtype)
        drawn = jnp.minimum(drawn.astype(jnp.int32), jnp.maximum(state.valid - 1, 0))
        a, b = (rows[jnp.minimum(drawn[:, k], drawn[:, k + 1])] for k in (0, 2))
        cross = counter.uniform(crossed, (pairs, 1), dtype) < self.crossover
        # two bits of each word are drawn, the third says that the parents are crossed
        words = counter.bits(mixed, (pairs, d)) & np.uint32(3) | jnp.where(cross, np.uint32(4), np.uint32(0))
        low, high = _crossed(None, a, b, counter.uniform(spread, (pairs, d), dtype), self.crossover_index)
        if space.cells.any():
            discrete = jnp.asarray(space.cells > 0)[None, :]
            low, high = jnp.where(discrete, a, low), jnp.where(discrete, b, high)
        first, second = _dealt(None, a, b, low, high, words)
        child = jnp.concatenate([first, second])[:n]
        copied = (child == jnp.concatenate([a, b])[:n]).all(axis=1) | (child == jnp.concatenate([b, a])[:n]).all(axis=1)
        lot = counter.uniform(chance, (n, d), dtype)
        return self._mutated(space, child, copied, lot, counter.uniform(size, (n, d), dtype))

    def _mutated(self, space: Space, child: jax.Array, copied: jax.Array, lot: jax.Array, size: jax.Array) -> jax.Array:
        """Children after mutation; in a copy of a parent at least one coordinate mutates.

        Args:
          copied: bool[n], equal to a parent. lot, size: float[n, d], uniform, select the coordinates and their moves.
        """
        movable = np.broadcast_to(space.cells != 1, child.shape)
        active = jnp.asarray(movable)
        if any(space.conditions):
            active = active & space.active(child)
        lot = jnp.where(active, lot, jnp.inf)
        count = jnp.maximum(jnp.sum(active, axis=1, keepdims=True, dtype=child.dtype), 1.0)
        chance = 1.0 / count if self.mutation is None else jnp.asarray(self.mutation, child.dtype)
        mutates = lot < chance
        mutates = mutates | (copied[:, None] & jnp.isfinite(lot) & _lowest(lot))
        moved = _moved(None, child, size, self.mutation_index)
        if space.cells.any():
            cells = jnp.asarray(np.where(space.cells > 0, space.cells, 1), jnp.int32)
            cell = genetic.other_cell(
                space.index(child), space.index(moved), size, cells, jnp.asarray(space.categorical)
            )
            discrete = jnp.asarray(space.cells > 0)[None, :]
            moved = jnp.where(discrete, space.from_index(cell, child.dtype), moved)
        return jnp.where(mutates, moved, child)


@apart
def _crossed(_: None, a: jax.Array, b: jax.Array, u: jax.Array, index: jax.Array | float) -> Any:
    """The crossover on its own: fused into what uses it, its powers are computed once for each use.

    In one axis, here and in the mutation: a CPU computes rows of a few coordinates partly one by one.
    """
    low, high = genetic.simulated_binary(a.reshape(-1), b.reshape(-1), u.reshape(-1), index)
    return low.reshape(a.shape), high.reshape(a.shape)


@apart
def _dealt(_: None, a: jax.Array, b: jax.Array, low: jax.Array, high: jax.Array, words: jax.Array) -> Any:
    """Two children: the second bit of a word takes crossed coordinates, the first swaps them, the third crosses."""
    one, other, low, high, words = (x.reshape(-1) for x in (a, b, low, high, words))
    swapped, taken, cross = ((words & np.uint32(bit)) > 0 for bit in (1, 2, 4))
    low, high = jnp.where(taken, low, one), jnp.where(taken, high, other)
    first = jnp.where(cross, jnp.where(swapped, high, low), one)
    second = jnp.where(cross, jnp.where(swapped, low, high), other)
    return first.reshape(a.shape), second.reshape(a.shape)


@apart
def _moved(_: None, child: jax.Array, u: jax.Array, index: jax.Array | float) -> Any:
    """The mutation on its own."""
    return genetic.polynomial(child.reshape(-1), u.reshape(-1), index).reshape(child.shape)


def _lowest(lot: jax.Array) -> jax.Array:
    """``bool[n, d]``: the least of each row, of numbers >= 0, as integers: a CPU takes a third of the time for them."""
    words = jax.lax.bitcast_convert_type(lot, jnp.int32 if lot.dtype.itemsize == 4 else jnp.int64)
    return words == jnp.min(words, axis=1, keepdims=True)


def competing(state: State, units: jax.Array, result: Evaluation) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Children, then members: rows, values and violations, inf where they failed or are there twice.

    And the number of members with values after the selection, int32[].
    """
    dtype = state.rows.dtype
    value, violation = feasible_value(result)
    values = jnp.where(jnp.isfinite(value)[:, None], objective_values(result), jnp.inf)
    rows = jnp.concatenate([units.astype(dtype), state.rows])
    values = jnp.concatenate([values.astype(dtype), state.values])
    violation = jnp.concatenate([violation.astype(dtype), state.violation])
    if (state.space.cells > 1).any():
        violation = jnp.where(_repeated(state.space, rows, violation), jnp.inf, violation)
    values = jnp.where(jnp.isinf(violation)[:, None], jnp.inf, values)
    valid = jnp.sum(~jnp.isinf(violation), dtype=jnp.int32)
    return rows, values, violation, jnp.minimum(valid, state.rows.shape[0])


def _repeated(space: Space, rows: jax.Array, violation: jax.Array) -> jax.Array:
    """bool[k]: whether the row is the same point as an earlier row with a value."""
    units = space.canonical(rows)
    words = jax.lax.bitcast_convert_type(units.astype(jnp.float32), jnp.uint32)
    odd = np.random.default_rng(0).integers(0, 2**32, units.shape[1], np.uint32) | np.uint32(1)
    # an odd factor for each coordinate: rows that differ in one of them have different sums
    code = jnp.sum(words * jnp.asarray(odd)[None, :], axis=1, dtype=jnp.uint32)
    code = jax.lax.bitcast_convert_type(code ^ (code >> np.uint32(16)), jnp.int32)
    order = lexsort((jnp.isinf(violation).astype(jnp.int32), code))
    same = (units[order][1:] == units[order][:-1]).all(axis=1)
    return jnp.zeros(rows.shape[:1], bool).at[order[1:]].set(same)
