"""Greedy search: coordinate moves around the best point, with steps that double on success and halve on failure."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import check_integer, check_number
from jhpo.kernels import threefry
from jhpo.kernels.sobol import MAX_DIM, sobol
from jhpo.space.space import Space
from jhpo.strategies.base import (
    Evaluation,
    Strategy,
    default_dtype,
    feasible_value,
    static_field,
    strategy,
)


class GreedyState(NamedTuple):
    """The best point, and a step for every coordinate and direction."""

    space: Space  # static
    seed: jax.Array  # uint32[d], scramble of the first generation's Sobol points
    centre: jax.Array  # float[d], best point found
    value: jax.Array  # float[], its value, +inf before the first success
    violation: jax.Array  # float[], its constraint violation, 0 if feasible
    step: jax.Array  # float[2d], lengths of the moves, in unit coordinates (cells for discrete coordinates)
    cursor: jax.Array  # uint32[], next move of the cycle
    move: jax.Array  # int32[n], the moves asked for last, -1 for random points
    generation: jax.Array  # uint32[], generations asked for


@strategy
class Greedy(Strategy):
    """Opportunistic pattern search (Hooke and Jeeves 1961; Torczon 1997) for mixed spaces.

    The first generation is a scrambled Sobol sample. Afterwards every member moves one coordinate of the
    best point, or a random pair of coordinates, in a cycle over all 2d moves; a fraction of the members is random.
    Continuous and ordered coordinates move by a step that is multiplied by ``expand`` after a success and by
    ``contract`` after a failure; categories jump to another value. When all steps are below ``smallest`` they are
    reset to ``first_step``.

    Args:
      population: points of a generation.
      first_step: initial step, in (0, 1].
      expand: factor after success, >= 1.
      contract: factor after failure, in (0, 1].
      explore: fraction of random members, in [0, 1].
      smallest: step below which all steps are reset, in [0, 1].

    Raises:
      InvalidArgument: a coefficient lies outside its range.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-4.0, 4.0), "y": jhpo.Float(-4.0, 4.0)})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + (hp["y"] + 2.0) ** 2
    >>> bool(jhpo.minimize(f, space, jhpo.Greedy(16), budget=640).value < 1e-4)
    True
    """

    population: int = static_field(default=32)
    first_step: float = 0.25
    expand: float = 2.0
    contract: float = 0.5
    explore: float = 0.1
    smallest: float = 1e-6

    def __post_init__(self) -> None:
        check_integer("population", self.population)
        check_number("first_step", self.first_step, 0.0, 1.0, open_low=True)
        check_number("expand", self.expand, 1.0)
        check_number("contract", self.contract, 0.0, 1.0, open_low=True)
        check_number("explore", self.explore, 0.0, 1.0)
        check_number("smallest", self.smallest, 0.0, 1.0)

    def init(self, space: Space, key: jax.Array) -> GreedyState:
        dtype, n = default_dtype(), self.population
        return GreedyState(
            space=space,
            seed=threefry.bits(key, (space.dim,)),
            centre=jnp.asarray(space.default_unit(), dtype),
            value=jnp.asarray(jnp.inf, dtype),
            violation=jnp.asarray(jnp.inf, dtype),
            step=jnp.full((2 * space.dim,), jnp.asarray(self.first_step, dtype)),
            cursor=jnp.zeros((), jnp.uint32),
            move=jnp.full((n,), -1, jnp.int32),
            generation=jnp.zeros((), jnp.uint32),
        )

    def ask(self, state: GreedyState, key: jax.Array) -> tuple[jax.Array, GreedyState]:
        space, n, d = state.space, self.population, state.space.dim
        dtype = state.centre.dtype
        k_explore, k_random, k_pair, k_jump = threefry.split(key, 4)
        # every fourth member moves two coordinates, for valleys that are not aligned with an axis
        paired = (np.arange(n) % 4 == 3) & (d > 1)
        place = np.cumsum(~paired) - 1
        move = ((state.cursor + jnp.asarray(place, jnp.uint32)) % np.uint32(2 * d)).astype(jnp.int32)
        lap = jnp.asarray(place // (2 * d))  # a generation longer than the cycle repeats it with shorter steps
        length = state.step[move] * (jnp.asarray(self.contract, dtype) ** lap.astype(dtype))
        moved = jax.vmap(lambda m, s, k: _moved(space, state.centre, m, s, k))(move, length, threefry.split(k_jump, n))
        other = jax.random.randint(k_pair, (n,), 0, 2 * d, jnp.int32)
        both = jax.vmap(lambda u, m, k: _moved(space, u, m, state.step[m], k))(moved, other, threefry.split(k_pair, n))
        units = jnp.where(paired[:, None], both, moved)
        start = jnp.isinf(state.value) & jnp.isinf(state.violation)
        even = sobol(state.generation * np.uint32(n), n, d, state.seed, dtype) if d <= MAX_DIM else None
        spread = space.sample_unit(k_random, n, dtype)
        first = spread if even is None or space.has_constraints else even
        random = (jax.random.uniform(k_explore, (n,), dtype) < jnp.asarray(self.explore, dtype)) | start
        units = jnp.where(random[:, None], jnp.where(start, first, spread), units)
        move = jnp.where(random | paired, -1, move)
        cursor = (state.cursor + jnp.where(start, jnp.uint32(0), jnp.uint32((~paired).sum()))) % np.uint32(2 * d)
        return units, state._replace(move=move, cursor=cursor, generation=state.generation + jnp.uint32(1))

    def tell(self, state: GreedyState, units: jax.Array, result: Evaluation) -> GreedyState:
        value, violation = feasible_value(result)
        better = (violation < state.violation) | ((violation == state.violation) & (value < state.value))
        dtype = state.step.dtype
        # a step grows if any of the members that tried it improved
        told = state.move >= 0
        slot = jnp.where(told, state.move, state.step.shape[0])
        worked = jnp.zeros(state.step.shape, bool).at[slot].max(better & told, mode="drop")
        tried = jnp.zeros(state.step.shape, bool).at[slot].max(told, mode="drop")
        factor = jnp.where(worked, jnp.asarray(self.expand, dtype), jnp.asarray(self.contract, dtype))
        step = jnp.where(tried, jnp.minimum(state.step * factor, 0.5), state.step)
        resolution = jnp.asarray(np.tile(np.where(state.space.cells > 0, 0.5 / np.maximum(state.space.cells, 1), 0), 2))
        floor = jnp.maximum(resolution.astype(dtype), jnp.asarray(self.smallest, dtype))
        done = (step <= floor).all()
        step = jnp.where(done, jnp.asarray(self.first_step, dtype), step)
        best = jnp.lexsort((value, violation))[0]
        take = better[best]
        return state._replace(
            centre=jnp.where(take, units[best], state.centre),
            value=jnp.where(take, value[best], state.value),
            violation=jnp.where(take, violation[best], state.violation),
            step=step,
        )

    def absorb(self, state: GreedyState, units: jax.Array, result: Evaluation) -> GreedyState:
        none = state._replace(move=jnp.full((units.shape[0],), -1, jnp.int32))
        return self.tell(none, units, result)._replace(move=state.move, step=state.step)


def _moved(space: Space, unit: jax.Array, move: jax.Array, step: jax.Array, key: jax.Array) -> jax.Array:
    """``float[d]`` with one coordinate moved: by ``step``, by at least a cell, or to another category."""
    at, up = move // 2, move % 2 == 0
    cells = jnp.asarray(np.maximum(space.cells, 1), unit.dtype)[at]
    discrete = jnp.asarray(space.cells > 0)[at]
    here = space.index(unit)
    signed = jnp.where(up, step, -step)
    stepped = unit[at] + signed
    # reflect at the bounds, so that the move is not lost
    stepped = jnp.where(stepped > 1, 2 - stepped, jnp.abs(stepped))
    whole = jnp.sign(signed) * jnp.maximum(jnp.round(jnp.abs(signed) * cells), 1)
    cell = jnp.clip(here[at].astype(unit.dtype) + whole, 0, cells - 1)
    others = 1 + jnp.floor(jax.random.uniform(key, (), unit.dtype) * jnp.maximum(cells - 1, 1))
    jumped = (here[at].astype(unit.dtype) + jnp.where(cells > 1, others, jnp.zeros_like(others))) % cells
    cell = jnp.where(jnp.asarray(space.categorical)[at], jumped, cell)
    centres = space.from_index(here.at[at].set(cell.astype(jnp.int32)), unit.dtype)
    return unit.at[at].set(jnp.where(discrete, centres[at], jnp.clip(stepped, 0, 1)))
