"""`Chain`: a search, possibly on shorter trainings, then a polish that starts from its best distinct points."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels import threefry
from jhpo.kernels.trees import Number
from jhpo.space.space import Space
from jhpo.strategies import read_inner
from jhpo.strategies.base import (
    Evaluation,
    Ids,
    Request,
    State,
    Strategy,
    default_dtype,
    feasible_value,
    static_field,
    strategy,
)


class SearchState(NamedTuple):
    """State of the first phase: the search, and its k best distinct points."""

    space: Space  # static
    inner: State  # of the search
    elite: jax.Array  # float[k, d], best first, then random points
    value: jax.Array  # float[k], +inf for random points
    violation: jax.Array  # float[k], +inf for random points
    key: jax.Array  # key[] for the polish's `init`


class PolishState(NamedTuple):
    """State of the second phase: the polish, and the points it starts from."""

    inner: State  # of the polish
    elite: jax.Array  # float[k, d]; float[0, d] where the polish has been told them, or is in its second phase
    turn: jax.Array  # int32[], generations asked for in this phase; the first one evaluates the elite


@strategy
class Chain(Strategy):
    """A search, then a polish that starts from the best distinct points of the search.

    The search trains its members for a fraction ``horizon`` of the steps. After ``evaluations`` of them, its best
    points that differ by at least ``distance`` are trained to the end, and the polish absorbs the results
    (`Strategy.absorb`); from then on it runs by itself. A search that trained them to the end already
    (``horizon=1.0``) hands its results over, unless the polish needs gradients. Values of different horizons are never
    compared: the best of a study is the best of its longest trainings. For three phases, let the polish be a chain.

    The phase changes after a fixed number of evaluations, whatever the time or the budget, so that a resumed study
    changes it at the same point.

    Args:
      search: a strategy, or one as text: ``"pso"``, ``"pso(population=16)"``.
      polish: a strategy that can absorb points, or one as text.
      evaluations: of the search, rounded up to whole generations.
      horizon: fraction of the training steps in the search, in (0, 1]; has to be 1 for host objectives.
      distance: two starting points differ by at least this in some coordinate of the unit cube.

    Raises:
      InvalidArgument: an option outside its range, a search with several phases, or a polish that cannot absorb
        points.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0), "y": jhpo.Float(-5.0, 5.0)})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + 3.0 * (hp["y"] + 2.0) ** 2
    >>> chain = jhpo.Chain(jhpo.SobolSearch(16), jhpo.HyperGradient(2), evaluations=32)
    >>> bool(jhpo.minimize(f, space, chain, budget=100).value < 1e-4)
    True
    """

    search: Any = "sobol(population=16)"
    polish: Any = "hypergradient"
    evaluations: int = static_field(default=64)
    horizon: float = static_field(default=0.25)
    distance: Number = 0.1

    phased = True

    def __post_init__(self) -> None:
        for name in ("search", "polish"):
            object.__setattr__(self, name, read_inner(name, getattr(self, name)))
        check_integer("evaluations", self.evaluations)
        check_number("horizon", self.horizon, 0.0, 1.0, open_low=True)
        check_number("distance", self.distance, 0.0, 1.0)
        if type(self.search).segments is not Strategy.segments:
            raise invalid("search", "a strategy of one phase (chain the polish instead)", type(self.search).__name__)
        if not self.polish.steady and type(self.polish).absorb is Strategy.absorb:
            note = "one that overrides `absorb` does, or one with steady = True"
            raise invalid("polish", "a strategy that learns from given points", type(self.polish).__name__, note=note)

    # -- on the host ----------------------------------------------------------------------------------------

    @property
    def population(self) -> int:
        """Points per generation of the search."""
        return self.search.population

    @property
    def needs_grad(self) -> bool:  # type: ignore[override]
        """Whether the first phase needs gradients; see `request` for the others."""
        return self.search.needs_grad

    @property
    def host_float64(self) -> bool:  # type: ignore[override]
        """Float64 on the host for both phases if one of them needs it."""
        return self.search.host_float64 or self.polish.host_float64

    @property
    def _generations(self) -> int:
        return -(-self.evaluations // self.search.population)

    @property
    def _hands_over(self) -> bool:
        """Whether the search measures all that the polish begins with: its best points are not evaluated again."""
        usual = (Strategy.request, Chain.request)
        polish: Any = self.polish
        if type(self.search).request is not Strategy.request or type(polish).request not in usual:
            return False
        first = polish.horizon if isinstance(polish, Chain) else 1.0
        return self.horizon == first == 1.0 and not polish.needs_grad

    def segments(self, generations: int) -> tuple[int, ...]:
        mine = min(self._generations, generations)
        return (mine, *self.polish.segments(generations - mine)) if generations > mine else (mine,)

    def request(self, state: State) -> Request:
        if isinstance(state, PolishState):
            return self.polish.request(state.inner)
        wanted = self.search.request(state.inner)
        return wanted._replace(horizon=self.horizon * wanted.horizon)

    def evaluation_ids(self, state: State, ids: Ids) -> Ids:
        phase = self.polish if isinstance(state, PolishState) else self.search
        return phase.evaluation_ids(state.inner, ids)

    def max_evaluations(self, space: Space) -> int | None:
        """The evaluations of the search, of the starting points and of the polish; None if that has no end."""
        limit = self.polish.max_evaluations(space)
        again = 0 if self._hands_over else self.polish.population
        return None if limit is None else self._generations * self.population + again + limit

    def prepare(self, evaluations: int) -> Chain:
        """Each phase with buffers for its own evaluations."""
        mine = self._generations * self.search.population
        rest = max(evaluations - mine, self.polish.population)
        return dataclasses.replace(self, search=self.search.prepare(mine), polish=self.polish.prepare(rest))

    def measuring(self, constraints: int) -> Chain:
        """Each phase for so many constraints; itself if none of them need know."""
        search, polish = (phase.measuring(constraints) for phase in (self.search, self.polish))
        same = search is self.search and polish is self.polish
        return self if same else dataclasses.replace(self, search=search, polish=polish)

    def full(self, state: State) -> bool:
        phase = self.polish if isinstance(state, PolishState) else self.search
        return phase.full(state.inner)

    def nearly_full(self, state: State) -> bool:
        phase = self.polish if isinstance(state, PolishState) else self.search
        return phase.nearly_full(state.inner)

    def grow(self, state: State) -> State:
        phase = self.polish if isinstance(state, PolishState) else self.search
        return state._replace(inner=phase.grow(state.inner))

    # -- protocol -------------------------------------------------------------------------------------------

    def init(self, space: Space, key: jax.Array) -> SearchState:
        dtype, k = default_dtype(), self.polish.population
        k_search, k_polish, k_elite = threefry.split(key, 3)
        infinite = jnp.full((k,), jnp.asarray(jnp.inf, dtype))
        inner = self.search.init(space, k_search)
        return SearchState(space, inner, space.sample_unit(k_elite, k, dtype), infinite, infinite, k_polish)

    def ask(self, state: State, key: jax.Array) -> tuple[jax.Array, State]:
        if isinstance(state, SearchState):
            units, inner = self.search.ask(state.inner, key)
            return units, state._replace(inner=inner)
        if not len(state.elite):
            units, inner = self.polish.ask(state.inner, key)
            return units, state._replace(inner=inner)
        units, inner = jax.lax.cond(
            state.turn == 0,
            lambda inner: (state.elite, inner),
            lambda inner: self.polish.ask(inner, key),
            state.inner,
        )
        return units, state._replace(inner=inner, turn=state.turn + 1)

    def tell(self, state: State, units: jax.Array, result: Evaluation) -> State:
        if isinstance(state, SearchState):
            return self._keep(state, units, result)._replace(inner=self.search.tell(state.inner, units, result))
        result = self._alike(state, result)
        if not len(state.elite):
            return state._replace(inner=self.polish.tell(state.inner, units, result))
        inner = jax.lax.cond(
            state.turn == 1,
            lambda inner: self.polish.absorb(inner, units, result),
            lambda inner: self.polish.tell(inner, units, result),
            state.inner,
        )
        return state._replace(inner=inner)

    def absorb(self, state: State, units: jax.Array, result: Evaluation) -> State:
        """The current phase absorbs the points."""
        if isinstance(state, SearchState):
            return self._keep(state, units, result)._replace(inner=self.search.absorb(state.inner, units, result))
        return state._replace(inner=self.polish.absorb(state.inner, units, self._alike(state, result)))

    def advance(self, state: State) -> PolishState:
        if isinstance(state, PolishState):
            return state._replace(inner=self.polish.advance(state.inner), elite=state.elite[:0])
        inner, none = self.polish.init(state.space, state.key), jnp.zeros((), jnp.int32)
        if not self._hands_over:
            return PolishState(inner, state.elite, none)
        told = _results(state, _learns_each(self.polish, inner))
        return PolishState(self.polish.absorb(inner, state.elite, told), state.elite[:0], none)

    def _alike(self, state: PolishState, result: Evaluation) -> Evaluation:
        """The result in the form of those that were handed over: strategies compare it with them."""
        if result.constraint is not None or not self._hands_over or _learns_each(self.polish, state.inner):
            return result
        return result._replace(constraint=jnp.zeros_like(result.value)[:, None])

    def _keep(self, state: SearchState, units: jax.Array, result: Evaluation) -> SearchState:
        """Updates the elite with the points told."""
        dtype, k = state.value.dtype, state.value.shape[0]
        value, violation = (x.astype(dtype) for x in feasible_value(result))
        rows = jnp.concatenate([state.elite, units.astype(dtype)])
        value = jnp.concatenate([state.value, value])
        violation = jnp.concatenate([state.violation, violation])
        canonical = state.space.canonical(rows)

        def pick(left: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            # ties, failed points included, go to the earlier row, so that random points stay last
            at = jnp.lexsort((value, violation, ~left))[0]
            far = jnp.abs(canonical - canonical[at][None, :]).max(axis=1) >= jnp.asarray(self.distance, dtype)
            failed = jnp.isinf(violation)
            left = jnp.where(failed, left, left & far).at[at].set(False)
            return left, at

        _, chosen = jax.lax.scan(pick, jnp.ones(rows.shape[:1], bool), None, k)
        return state._replace(elite=rows[chosen], value=value[chosen], violation=violation[chosen])


def _learns_each(phase: Strategy, state: State) -> bool:
    """Whether the strategy, or the phase that it is in, learns constraints one by one."""
    if isinstance(phase, Chain):
        return _learns_each(phase.polish if isinstance(state, PolishState) else phase.search, state.inner)
    return type(phase).measuring is not Strategy.measuring


def _results(state: SearchState, each: bool) -> Evaluation:
    """Those of the elite: violations as one constraint, unless ``each`` is learnt by itself."""
    if each:
        return Evaluation(state.value, mask=state.violation == 0)
    return Evaluation(state.value, constraint=-state.violation[:, None], mask=~jnp.isinf(state.violation))
