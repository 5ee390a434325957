"""One search after another: a wide one, perhaps on shorter trainings, then another from the best distinct points."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels.trees import Number
from jhpo.space.space import Space
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
    """The first phase: the search, and the k best distinct points it has seen."""

    space: Space  # static
    inner: State  # of the search
    elite: jax.Array  # float[k, d], best first; random points where nothing has succeeded yet
    value: jax.Array  # float[k], +inf where the point is a random one
    violation: jax.Array  # float[k], +inf where the point is a random one
    key: jax.Array  # key[], with which the polish begins


class PolishState(NamedTuple):
    """The second phase: the polish, and the points it begins with."""

    inner: State  # of the polish
    elite: jax.Array  # float[k, d]; float[0, d] when a polish of several phases has left its first one
    turn: jax.Array  # int32[], generations asked for in this phase; in the first one the elite is evaluated


@strategy
class Chain(Strategy):
    """A search, then a polish that begins from the best distinct points of the search.

    The search trains its members for a share ``horizon`` of the steps, which costs as much less. When it has made its
    ``evaluations``, its best points that differ by at least ``distance`` are trained to the end: these values, at the
    horizon of the polish, are what the polish learns first (see `Strategy.absorb`), and then it goes on by itself.
    Values of different horizons are never compared: the best of a study is the best of its longest trainings.

    A chain of three is a chain whose polish is a chain. Steps from one phase to the next depend on the number of
    evaluations alone, never on time or on a budget, so that a resumed study takes them where the first one did.

    Args:
      search: a strategy, or one as text: ``"pso"``, ``"pso(population=16)"``.
      polish: the same; one that learns from points it did not ask for.
      evaluations: of the search, rounded up to whole generations.
      horizon: share of the training steps in the search, in (0, 1]. 1 for host objectives, which know no shorter one.
      distance: least difference of two starts in some coordinate of the unit cube.

    Raises:
      InvalidArgument: an option outside its range, a search in phases of its own, or a polish that would ignore
        the points it is given.

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

    def __post_init__(self) -> None:
        for name in ("search", "polish"):
            given = getattr(self, name)
            if isinstance(given, str):
                from jhpo.strategies import strategy_from_text

                given = strategy_from_text(given)
                object.__setattr__(self, name, given)
            if isinstance(given, (bool, int, float, type(None))) or isinstance(given, type):
                raise invalid(name, "an instance of a strategy, or its name", given)
        check_integer("evaluations", self.evaluations)
        check_number("horizon", self.horizon, 0.0, 1.0, open_low=True)
        check_number("distance", self.distance, 0.0, 1.0)
        if not isinstance(self.search, Strategy) or not isinstance(self.polish, Strategy):
            return  # a tree that holds something else for a moment, as in jax.tree.map
        if type(self.search).segments is not Strategy.segments:
            raise invalid("search", "a strategy of one phase (chain the polish instead)", type(self.search).__name__)
        if not self.polish.steady and type(self.polish).absorb is Strategy.absorb:
            raise invalid("polish", "a strategy that learns from given points", type(self.polish).__name__)

    # -- what the host asks ---------------------------------------------------------------------------------

    @property
    def population(self) -> int:
        """Points of a generation of the search."""
        return self.search.population

    @property
    def needs_grad(self) -> bool:  # type: ignore[override]
        """The first phase takes gradients; `request` says it of the others."""
        return self.search.needs_grad

    @property
    def host_float64(self) -> bool:  # type: ignore[override]
        """Float64 on the host for both phases if one of them wants it."""
        return self.search.host_float64 or self.polish.host_float64

    @property
    def _generations(self) -> int:
        return -(-self.evaluations // self.search.population)

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
        """The search, the points handed over, and what the polish makes sense for; None if it has no end."""
        limit = self.polish.max_evaluations(space)
        return None if limit is None else self._generations * self.population + self.polish.population + limit

    def prepare(self, evaluations: int) -> Chain:
        """Each phase with buffers for its own share."""
        mine = self._generations * self.search.population
        rest = max(evaluations - mine, self.polish.population)
        return dataclasses.replace(self, search=self.search.prepare(mine), polish=self.polish.prepare(rest))

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
        k_search, k_polish, k_elite = jax.random.split(key, 3)
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
        """The phase under way learns from points it did not ask for."""
        if isinstance(state, SearchState):
            return self._keep(state, units, result)._replace(inner=self.search.absorb(state.inner, units, result))
        return state._replace(inner=self.polish.absorb(state.inner, units, result))

    def advance(self, state: State) -> PolishState:
        if isinstance(state, PolishState):
            return state._replace(inner=self.polish.advance(state.inner), elite=state.elite[:0])
        inner = self.polish.init(state.space, state.key)
        return PolishState(inner, state.elite, jnp.zeros((), jnp.int32))

    def _keep(self, state: SearchState, units: jax.Array, result: Evaluation) -> SearchState:
        """The best distinct of the points kept and the points told, best first."""
        dtype, k = state.value.dtype, state.value.shape[0]
        value, violation = (x.astype(dtype) for x in feasible_value(result))
        rows = jnp.concatenate([state.elite, units.astype(dtype)])
        value = jnp.concatenate([state.value, value])
        violation = jnp.concatenate([state.violation, violation])
        canonical = state.space.canonical(rows)

        def pick(left: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            # ties, among them the points that failed, go to the earlier row: the random ones stay at the end
            at = jnp.lexsort((value, violation, ~left))[0]
            far = jnp.abs(canonical - canonical[at][None, :]).max(axis=1) >= jnp.asarray(self.distance, dtype)
            failed = jnp.isinf(violation)
            left = jnp.where(failed, left, left & far).at[at].set(False)
            return left, at

        _, chosen = jax.lax.scan(pick, jnp.ones(rows.shape[:1], bool), None, k)
        return state._replace(elite=rows[chosen], value=value[chosen], violation=violation[chosen])
