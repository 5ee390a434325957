"""CMA-ES with restarts, a margin for integers, probabilities for categories, a diagonal mode for high dimensions."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels import cma, counter_random, threefry
from jhpo.kernels.cma_discrete import draw_categories, margin, spread_categories
from jhpo.kernels.loops import seldom
from jhpo.kernels.ranks import ranks
from jhpo.space.cells import edge_of
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, feasible_value, static_field, strategy
from jhpo.strategies.cmaes_members import Members, learned
from jhpo.strategies.cmaes_runs import CMAESState, another_run, converged, first_table, widened
from jhpo.strategies.declared import warn_of_unused

RESTARTS = ("none", "ipop", "bipop")
COVARIANCES = ("auto", "full", "diagonal")
BOUNDS = ("auto", "reflect")
CLIPPED = 50  # evaluations per dimension during which "auto" clips
ROUNDS = 20  # times that points outside are redrawn before they are reflected
WIDE = 0.1  # deviation above which they are redrawn; a narrow search near a bound would reject nearly all points
DIAGONAL_ABOVE = 200  # dimensions
LARGEST = 2048  # members of the largest generation
# Fields kept out of conditionals, which would copy these large buffers.
_HEAVY = ("asked", "rows", "value", "violation", "rank", "slot")


def _without_members(state: CMAESState) -> CMAESState:
    nothing: Any = dict.fromkeys(_HEAVY)
    return state._replace(**nothing)


def _with_members(light: CMAESState, state: CMAESState) -> CMAESState:
    heavy: Any = {name: getattr(state, name) for name in _HEAVY}
    return light._replace(**heavy)


@strategy
class CMAES(Strategy):
    """Covariance matrix adaptation (Hansen 2016), with active weights and restarts.

    The search distribution is a Gaussian in unit coordinates. Integers and ordinals leave their cell with a probability
    of at least ``1 / (d l)`` (Hamano et al. 2022); categories have a table of probabilities (as in Hamano et al. 2024).
    Infeasible members rank behind feasible ones (Deb's rules), failed members are ignored; if a whole generation fails,
    the distribution does not change.

    Args:
      population: points of an ask; ``4 + 3 ln d`` is the usual minimum, more makes the search more global.
      sigma: initial step size as a fraction of the unit range, in (0, 1].
      restarts: ``"none"``; ``"ipop"``: a converged run is restarted elsewhere with twice the population (Auger &
        Hansen 2005); ``"bipop"``: large runs alternate with small ones (Hansen 2009). A generation of a larger
        population takes several asks.
      growth: largest factor by which the population grows, a power of two; no generation exceeds 2,048 members.
      covariance: ``"full"``, ``"diagonal"`` (Ros & Hansen 2008), or ``"auto"``: diagonal above 200 dimensions.
      bounds: ``"reflect"``: points outside are redrawn while the search is wide, otherwise reflected; the update uses
        the unreflected points. ``"auto"`` clips points to the bound during the first ``50 d`` evaluations, which finds
        optima on a bound exactly and early; afterwards it acts like ``"reflect"``, because clipping stalls long runs
        near the bound.
      start: the first mean is the space's ``"default"`` or a ``"random"`` point; restarts are random.

    Raises:
      InvalidArgument: a population below 4, an unknown option, a coefficient outside its range.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-4.0, 4.0), "y": jhpo.Float(-4.0, 4.0)})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + 100.0 * (hp["y"] - hp["x"]) ** 2
    >>> bool(jhpo.minimize(f, space, jhpo.CMAES(12), budget=960).value < 1e-6)
    True
    """

    inside: ClassVar[bool] = True

    population: int = static_field(default=12)
    sigma: float = 0.25
    restarts: str = static_field(default="ipop")
    growth: int = static_field(default=64)
    covariance: str = static_field(default="auto")
    bounds: str = static_field(default="auto")
    start: str = static_field(default="default")

    def __post_init__(self) -> None:
        check_integer("population", self.population, 4)
        check_number("sigma", self.sigma, 0.0, 1.0, open_low=True)
        check_integer("growth", self.growth)
        if self.growth & (self.growth - 1):
            raise invalid("growth", "a power of two", self.growth)
        options = {"restarts": RESTARTS, "covariance": COVARIANCES, "bounds": BOUNDS, "start": ("default", "random")}
        for name, allowed in options.items():
            if getattr(self, name) not in allowed:
                raise invalid(name, f"one of {allowed}", getattr(self, name))
        if self.restarts == "none":
            warn_of_unused(self, 'with restarts="none"', "growth")

    # -- protocol -------------------------------------------------------------------------------------------

    def init(self, space: Space, key: jax.Array) -> CMAESState:
        dtype, d, n = default_dtype(), space.dim, self.population
        mean = jnp.asarray(space.default_unit(), dtype)
        if self.start == "random":
            mean = space.sample_unit(key, 1, dtype)[0]
        b = self._asks
        infinite = jnp.asarray(jnp.inf, dtype)
        count = lambda value: jnp.asarray(value, jnp.int32)  # noqa: E731
        sigma = jnp.asarray(self.sigma, dtype)
        return CMAESState(
            space=space,
            gauss=cma.gaussian(mean, sigma, self._diagonal(space)),
            table=first_table(space, dtype),
            asked=jnp.full((n, d), jnp.asarray(0.5, dtype)),
            rows=jnp.full((b, n, d), jnp.asarray(0.5, dtype)),
            value=jnp.full((b, n), infinite),
            violation=jnp.full((b, n), infinite),
            rank=jnp.zeros((b, n), jnp.int32),
            slot=count(0),
            told=count(0),
            factor=count(1),
            leader=jnp.full((2,), infinite),
            recent=jnp.full((10 + -(-30 * d // n),), infinite),
            first_value=infinite,
            done=jnp.asarray(False),
            first_sigma=sigma,
            doublings=count(0),
            small=jnp.asarray(False),
            spent=jnp.zeros((3,), jnp.int32),
            limit=count(np.iinfo(np.int32).max),
            best_unit=mean,
            best_value=infinite,
            best_violation=infinite,
        )

    def ask(self, state: CMAESState, key: jax.Array) -> tuple[jax.Array, CMAESState]:
        k_restart, k_normal, k_category = threefry.split(key, 3)
        if self.restarts != "none":
            bipop, sigma = self.restarts == "bipop", jnp.asarray(self.sigma, state.value.dtype)
            another = functools.partial(another_run, bipop=bipop, asks=self._asks, population=self.population)
            state = _with_members(seldom(another, state.done, _without_members(state), k_restart, sigma), state)
        space = state.space
        clip = self._clips(state)
        wide = jnp.max(cma.deviations(state.gauss)) > WIDE
        rounds = jnp.where(wide & ~clip.all(), ROUNDS, 0)
        drawn = cma.sample_inside(state.gauss, k_normal, self.population, rounds)
        units = jnp.where(clip[None, :], jnp.clip(drawn, 0.0, 1.0), cma.reflected(drawn))
        asked = jnp.where(clip[None, :], units, drawn)
        if space.categorical.any():
            category = draw_categories(counter_random.seeds(k_category, 1)[0], state.table, self.population)
            centres, on = space.from_index(category, units.dtype), jnp.asarray(space.categorical)[None, :]
            units, asked = jnp.where(on, centres, units), jnp.where(on, centres, asked)
        return units, state._replace(asked=asked)

    def tell(self, state: CMAESState, units: jax.Array, result: Evaluation) -> CMAESState:
        value, violation = (x.astype(units.dtype) for x in feasible_value(result))
        # without constraints the violation is implied by the value: skip it
        constrained = result.constraint is not None and result.constraint.shape[-1] > 0
        state = self._remember(state, units, value, violation)
        rank = ranks(value, violation if constrained else None)
        at, zero = state.slot, jnp.zeros((), jnp.int32)
        state = state._replace(
            rows=jax.lax.dynamic_update_slice(state.rows, state.asked[None], (at, zero, zero)),
            value=jax.lax.dynamic_update_slice(state.value, value[None], (at, zero)),
            violation=jax.lax.dynamic_update_slice(state.violation, violation[None], (at, zero)),
            rank=jax.lax.dynamic_update_slice(state.rank, rank[None], (at, zero)),
            slot=(at + 1) % self._asks,
            told=state.told + 1,
            spent=state.spent.at[2].add(self.population),
        )
        members = Members(state.rows, state.value, state.violation if constrained else None, state.rank, state.slot)
        light = _without_members(state)
        if self._asks == 1:
            return _with_members(self._adapt(light, members), state)
        due = state.told >= state.factor
        return _with_members(jax.lax.cond(due, self._adapt, lambda s, _: s, light, members), state)

    def _remember(self, state: CMAESState, units: jax.Array, value: jax.Array, violation: jax.Array) -> CMAESState:
        """Updates the best member overall and of this generation."""
        least = jnp.min(violation)
        top = jnp.argmin(jnp.where(violation == least, value, jnp.inf))
        mine = jnp.stack([violation[top], value[top]])

        def first(theirs: jax.Array) -> jax.Array:
            return (mine[0] < theirs[0]) | ((mine[0] == theirs[0]) & (mine[1] < theirs[1]))

        better = first(jnp.stack([state.best_violation, state.best_value]))
        return state._replace(
            leader=jnp.where(first(state.leader), mine, state.leader),
            best_unit=jnp.where(better, units[top], state.best_unit),
            best_value=jnp.where(better, mine[1], state.best_value),
            best_violation=jnp.where(better, mine[0], state.best_violation),
        )

    def absorb(self, state: CMAESState, units: jax.Array, result: Evaluation) -> CMAESState:
        """Before the first generation, centres the distribution at the best point with the spread of the points.

        Later only the best member is updated.
        """
        value, violation = feasible_value(result)
        units, value, violation = (x.astype(state.rows.dtype) for x in (units, value, violation))
        top = jnp.lexsort((value, violation))[0]
        good = ~jnp.isinf(violation)
        squares = jnp.where(good[:, None], jnp.square(units - units[top][None, :]), 0.0)
        apart = jnp.sqrt(squares.sum() / (jnp.maximum(good.sum() - 1, 1) * units.shape[1]).astype(units.dtype))
        sigma = jnp.clip(apart, jnp.minimum(0.05, state.first_sigma), state.first_sigma)
        begin = (state.spent.sum() == 0) & (state.told == 0) & good.any()
        start = cma.gaussian(units[top], sigma, self._diagonal(state.space))
        return self._remember(state, units, value, violation)._replace(
            gauss=jax.tree.map(lambda a, b: jnp.where(begin, a, b), start, state.gauss), leader=state.leader
        )

    def best(self, state: CMAESState) -> tuple[jax.Array, jax.Array]:
        """The best member so far, ``float[d]``, and its value ``float[]``."""
        return state.best_unit, state.best_value

    # -- one generation -------------------------------------------------------------------------------------

    @property
    def _asks(self) -> int:
        """Number of asks of the largest generation."""
        fitting = 1 << (max(LARGEST // self.population, 1).bit_length() - 1)
        return 1 if self.restarts == "none" else min(self.growth, fitting)

    def _diagonal(self, space: Space) -> bool:
        return self.covariance == "diagonal" or (self.covariance == "auto" and space.dim > DIAGONAL_ABOVE)

    def _clips(self, state: CMAESState) -> jax.Array:
        """``bool[d]``: coordinates that are currently clipped instead of reflected."""
        discrete = jnp.asarray(state.space.cells > 0)
        if self.bounds != "auto":
            return discrete
        first = (state.doublings == 0) & (state.spent[2] < CLIPPED * state.space.dim)
        return discrete | first

    def _adapt(self, state: CMAESState, members: Members) -> CMAESState:
        space, dtype = state.space, state.gauss.mean.dtype
        adapted = ~space.categorical
        kind = self.population * np.arange(1, self._asks + 1), int(adapted.sum()), self._diagonal(space)
        table = cma.rates(*kind, dtype)
        r = jax.tree.map(lambda column: column[state.factor - 1], table)
        said, shares = learned(space, state.gauss, state.table.shape[1], state.factor, members, r)
        some = shares.mass > 0
        moved = cma.update(state.gauss, r, said, adapted, cma.postpones(*kind))
        g = jax.tree.map(lambda new, old: jnp.where(some, new, old), moved, state.gauss)
        # reflection is periodic with period 2
        mirrored = g.mean - 2.0 * jnp.round(g.mean / 2.0)
        g = g._replace(mean=jnp.where(self._clips(state), jnp.clip(g.mean, 0.0, 1.0), mirrored))
        # a step size beyond the width of the cube has no effect
        size = jnp.sqrt(jnp.max(jnp.where(adapted, cma.variances(g), 0.0)) + 1e-30)
        g = g._replace(sigma=jnp.minimum(g.sigma, 1.0 / size))
        if self.restarts == "none":
            g = widened(g, g.sigma * size)
        discrete = (space.cells > 0) & adapted
        size = (state.factor * self.population).astype(dtype)  # members of a generation of this run
        if discrete.any():
            low, high = _cell_edges(space, g.mean)
            g = margin(g, low, high, discrete, 1.0 / (space.dim * size))
        categories = state.table
        if space.categorical.any():
            freedom = float((space.cells[space.categorical] - 1).sum())
            rate = r.mu_eff / (r.mu_eff + freedom + 2.0)
            categories = spread_categories(categories, shares.categories, rate, 1.0 / (space.dim * size))
        slot = g.generation % state.recent.shape[0]
        recent = state.recent.at[slot].set(state.leader[1])
        state = state._replace(
            gauss=g,
            table=categories,
            recent=recent,
            first_value=jnp.where(jnp.isinf(state.first_value), state.leader[1], state.first_value),
            told=jnp.zeros_like(state.told),
            leader=jnp.full_like(state.leader, jnp.inf),
        )
        return state._replace(done=converged(state, size))


def _cell_edges(space: Space, mean: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lower and upper edges ``float[d]`` of the cells that hold ``mean``; infinite at the ends of the range."""
    index, cells = space.index(mean), jnp.asarray(space.cells)

    def edge(i: jax.Array) -> jax.Array:
        parts = [
            edge_of(p, i[where], mean.dtype) if p.cells else jnp.zeros((p.size,), mean.dtype)
            for p, where in zip(space.parameters, space.slices)
        ]
        return jnp.concatenate(parts)

    below = jnp.where(index > 0, edge(index), -jnp.inf)
    above = jnp.where(index < cells - 1, edge(index + 1), jnp.inf)
    return below, above
