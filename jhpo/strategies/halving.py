"""Successive halving and Hyperband: many members are trained a little, the best of them further."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, invalid
from jhpo.kernels import threefry
from jhpo.space.space import Space
from jhpo.strategies import read_inner
from jhpo.strategies.base import (
    Evaluation,
    Ids,
    Rung,
    State,
    Strategy,
    default_dtype,
    feasible_value,
    static_field,
    strategy,
)
from jhpo.strategies.brackets import Bracket, Plan, bracket, hyperband, plan_of, rung_steps


class HalvingState(NamedTuple):
    """The bracket under way: n is the population, r the number of rungs of the longest bracket."""

    space: Space  # static
    proposer: State  # state of what chooses new members
    turn: jax.Array  # int32[], generations asked for
    started: jax.Array  # int32[], members of the bracket that were evaluated
    units: jax.Array  # float[n, d], the members in the order in which they began
    curve: jax.Array  # float[n, r], their values at each rung; +inf where untrained, and at every rung up to a failure
    member: jax.Array  # int32[n], of each row of the generation; -1 where the row is empty
    parent: jax.Array  # int32[n], which row of the generation before it each row continues; -1 likewise


@strategy
class SuccessiveHalving(Strategy):
    """Trains ``population`` members for a few steps, the best third of them three times as long, and so on to the end.

    Members are paused at each rung and continued, never trained again: a `Trainable` is needed. The survivors alone are
    trained on, in programs of their number, so that a bracket of r rungs costs about r times what its finalists cost,
    on the device too (Jamieson and Talwalkar 2016). Members that fail are never among the survivors: the next best take
    their places. When a bracket has ended the next one begins; the budget counts the members that are begun.

    Rungs lie at the end of the training and at ``1 / eta`` of each later rung, rounded up, down to ``min_steps``; of n
    members at a rung ``n / eta``, rounded down, go on. Schedules of a trainable that depend on its length (a cosine
    decay) are those of the whole training. A member with fewer steps of its own than a rung is at its end there.

    Args:
      population: members of a bracket.
      eta: reduction factor, an integer of at least 2.
      min_steps: the least training before a first comparison; None for three rungs before the end, fewer in a small
        population.
      proposer: a strategy that chooses the members, or None for random ones: `BayesOpt` makes it BOHB-like (Falkner et
        al. 2018). It is asked once a bracket for its own population, at most ``population``; the others are random. At
        the end of a bracket it is told of its points, at the highest rung that was reached; of those stopped earlier,
        what they would have there had they gained as much as the median survivor, with the variance of such gains.
        Members that violate a measured constraint are failures to it, how far they do it does not hear.
      max_steps: the last rung; the whole training by default, which `minimize`, `run` and `Study.optimize` know.

    Raises:
      InvalidArgument: an option outside its range, a population of which nobody would be trained to the end, a first
        rung that is longer than the training, or a proposer of another kind.

    >>> import jhpo
    >>> class Descent:
    ...     steps = 27
    ...     def init(self, hp, key): return jnp.ones(2)
    ...     def step(self, hp, w, t): return w - hp["lr"] * jnp.array([0.1, 1.0]) * w
    ...     def evaluate(self, hp, w): return jnp.sum(w**2)
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-3, 1e1, log=True)})
    >>> result = jhpo.minimize(Descent(), space, jhpo.SuccessiveHalving(27, min_steps=3), budget=54)
    >>> result.steps, 2 * (27 * 3 + 9 * 6 + 3 * 18), bool(result.value < 0.1)
    (378, 378, True)
    """

    population: int = static_field(default=81)
    eta: int = static_field(default=3)
    min_steps: int | None = static_field(default=None)
    proposer: Any = None
    max_steps: int | None = static_field(default=None)
    pauses = True

    def __post_init__(self) -> None:
        check_integer("population", self.population)
        check_integer("eta", self.eta, 2)
        for name in ("min_steps", "max_steps"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        object.__setattr__(self, "proposer", read_inner("proposer", self.proposer, optional=True))
        if self.proposer is not None:
            self._check_proposer(self.proposer)
        if self.max_steps is not None:
            self._brackets(self.max_steps)

    def _check_proposer(self, proposer: Strategy) -> None:
        if proposer.needs_grad:
            raise invalid("proposer", "a strategy that needs no gradients", type(proposer).__name__)
        if type(proposer).segments is not Strategy.segments or proposer.continues:
            raise invalid("proposer", "a strategy of one phase that pauses no members", type(proposer).__name__)
        if proposer.population > self.population:
            raise invalid("proposer", f"one of at most {self.population} points (the population)", proposer.population)

    # -- what the host asks ---------------------------------------------------------------------------------

    def _brackets(self, steps: int) -> tuple[Bracket, ...]:
        stops = rung_steps(steps, self.eta, self.min_steps, self.population)
        return (bracket(self.population, stops, self.eta),)

    def rungs(self, steps: int) -> tuple[Rung, ...]:
        last: int = self.lasting(steps).max_steps
        return tuple(rung for one in self._brackets(last) for rung in one)

    def lasting(self, steps: int) -> Any:
        if self.max_steps is not None and self.max_steps > steps:
            raise invalid("max_steps", f"at most the {steps} steps of the training", self.max_steps)
        last = steps if self.max_steps is None else self.max_steps
        if self.min_steps is not None and self.min_steps > last:
            raise invalid("min_steps", f"at most the {last} steps of the training", self.min_steps)
        self._brackets(last)
        return dataclasses.replace(self, max_steps=last)

    def parents(self, state: HalvingState) -> Ids:
        return state.parent

    @property
    def host_float64(self) -> bool:  # type: ignore[override]
        """Float64 on the host if the proposer wants it."""
        return self.proposer is not None and self.proposer.host_float64

    def max_evaluations(self, space: Space) -> int | None:
        """As many as the proposer has, if it chooses all members."""
        if self.proposer is None or self.proposer.population < self.population:
            return None
        limit: int | None = self.proposer.max_evaluations(space)
        return limit

    def prepare(self, evaluations: int) -> Any:
        if self.proposer is None:
            return self
        # it is told of no more than these, and one generation of it is under way
        return dataclasses.replace(self, proposer=self.proposer.prepare(evaluations + self.proposer.population))

    def full(self, state: HalvingState) -> bool:
        return self.proposer is not None and self.proposer.full(state.proposer)

    def nearly_full(self, state: HalvingState) -> bool:
        return self.proposer is not None and self.proposer.nearly_full(state.proposer)

    def grow(self, state: HalvingState) -> HalvingState:
        return state if self.proposer is None else state._replace(proposer=self.proposer.grow(state.proposer))

    # -- protocol -------------------------------------------------------------------------------------------

    def init(self, space: Space, key: jax.Array) -> HalvingState:
        dtype, n, plan = default_dtype(), self.population, self._plan()
        zero, none = jnp.zeros((), jnp.int32), jnp.full((n,), -1, jnp.int32)
        return HalvingState(
            space=space,
            proposer=None if self.proposer is None else self.proposer.init(space, key),
            turn=zero,
            started=zero,
            units=jnp.zeros((n, space.dim), dtype),
            curve=jnp.full((n, int(plan.rung.max()) + 1), jnp.asarray(jnp.inf, dtype)),
            member=none,
            parent=none,
        )

    def ask(self, state: HalvingState, key: jax.Array) -> tuple[jax.Array, HalvingState]:
        plan, n = self._plan(), self.population
        at = state.turn % jnp.int32(len(plan.size))

        def begin(state: HalvingState) -> tuple[jax.Array, HalvingState]:
            k_random, k_proposer = threefry.split(key)
            units, proposer = state.space.sample_unit(k_random, n, state.units.dtype), state.proposer
            if self.proposer is not None:
                chosen, proposer = self.proposer.ask(proposer, k_proposer)
                units = units.at[: chosen.shape[0]].set(chosen.astype(units.dtype))
            rows = jnp.arange(n, dtype=jnp.int32)
            member = jnp.where(rows < jnp.asarray(plan.size)[at], rows, -1)
            return units, state._replace(proposer=proposer, member=member, parent=jnp.full_like(rows, -1))

        def go_on(state: HalvingState) -> tuple[jax.Array, HalvingState]:
            return state.units[jnp.maximum(state.member, 0)], state

        units, state = jax.lax.cond(jnp.asarray(plan.begins)[at], begin, go_on, state)
        return units, state._replace(turn=state.turn + 1)

    def tell(self, state: HalvingState, units: jax.Array, result: Evaluation) -> HalvingState:
        plan, n = self._plan(), self.population
        generations = jnp.int32(len(plan.size))
        at = (state.turn - 1) % generations
        rung, begins, there = jnp.asarray(plan.rung)[at], jnp.asarray(plan.begins)[at], state.member >= 0
        if result.mask is not None:
            there = there & result.mask
        value, violation = feasible_value(result)
        value = jnp.where(there, value, jnp.inf).astype(state.curve.dtype)
        state = state._replace(
            started=jnp.where(begins, there.sum(dtype=jnp.int32), state.started),
            units=jnp.where(begins, units.astype(state.units.dtype), state.units),
            curve=jnp.where(begins, jnp.full_like(state.curve, jnp.inf), state.curve),
        )
        # rows that are empty write to no member
        alive = jnp.isfinite(value)
        curve = state.curve.at[jnp.where(there, state.member, n), rung].set(value, mode="drop")
        # what is infeasible has failed, to the proposer: of its value it would only learn that the place is good
        curve = curve.at[jnp.where(there & (violation > 0), state.member, n)].set(jnp.inf, mode="drop")
        state = state._replace(curve=curve)

        after = (at + 1) % generations
        share = state.started // jnp.asarray(plan.among)[after]
        count = jnp.minimum(jnp.maximum(share, 1), alive.sum(dtype=jnp.int32))
        order = jnp.lexsort((value, violation, ~alive)).astype(jnp.int32)
        kept = jnp.arange(n, dtype=jnp.int32) < count
        state = state._replace(
            member=jnp.where(kept, state.member[order], -1), parent=jnp.where(kept, order, -1)
        )  # fmt: skip
        if self.proposer is None:
            return state
        ends = jnp.asarray(plan.ends)[at]
        proposer = jax.lax.cond(ends, lambda s: self._learn(s, rung), lambda s: s.proposer, state)
        return state._replace(proposer=proposer)

    def _learn(self, state: HalvingState, rung: jax.Array) -> State:
        """The proposer's state at the end of a bracket, whose last rung is given."""
        m = self.proposer.population
        final, variance = finals(state.curve, rung)
        there = jnp.arange(m) < state.started
        told = Evaluation(jnp.where(there, final[:m], jnp.nan))
        if self.proposer.steady:
            told = told._replace(mask=there, variance=variance[:m])
        # points for which the bracket had no room are not evaluated any more
        return self.proposer.withdraw(self.proposer.tell(state.proposer, state.units[:m], told))

    def _plan(self) -> Plan:
        if self.max_steps is None:
            raise invalid(
                "max_steps", "the length of the training (minimize, run and Study.optimize know it)", self.max_steps
            )
        return plan_of(self._brackets(self.max_steps), self.eta)


def finals(curve: jax.Array, rung: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What members would have reached at a rung: their value there, or the last one and what the survivors gained.

    Args:
      curve: ``float[n, r]``, values at each rung, +inf where there is none.
      rung: ``int32[]``.

    Returns:
      ``float[n]``, NaN where a member failed; and its variance ``float[n]``, by how much gains differ on the rungs that
      it did not reach. One gain alone says little: there is one more, of nothing, on each rung.

    >>> curve = jnp.array([[9.0, 5.0, 4.0], [8.0, 6.0, jnp.inf], [9.5, jnp.inf, jnp.inf]])
    >>> [x.tolist() for x in finals(curve, jnp.int32(2))]
    [[4.0, 5.0, 5.5], [0.0, 1.0, 6.5]]
    """
    r = curve.shape[1]
    gained = jnp.where(jnp.isfinite(curve[:, 1:]), curve[:, 1:] - curve[:, :-1], jnp.nan)
    gain = jnp.nan_to_num(jnp.nanmedian(gained, axis=0))
    count = jnp.maximum(jnp.isfinite(gained).sum(axis=0, dtype=curve.dtype), 1.0)
    apart = jnp.nan_to_num(jnp.nanmean((gained - gain[None, :]) ** 2, axis=0)) + gain**2 / count
    counts = jnp.arange(1, r, dtype=jnp.int32) <= rung

    def later(each: jax.Array) -> jax.Array:
        """From each rung to the last one."""
        summed = jnp.cumsum(jnp.where(counts, each, 0.0)[::-1])[::-1]
        return jnp.concatenate([summed, jnp.zeros((1,), summed.dtype)])

    reached = jnp.max(jnp.where(jnp.isfinite(curve), jnp.arange(r, dtype=jnp.int32), -1), axis=1)
    at = jnp.maximum(reached, 0)
    value = jnp.take_along_axis(curve, at[:, None], axis=1)[:, 0] + later(gain)[at]
    return jnp.where(reached < 0, jnp.nan, value), later(apart)[at]


@strategy
class Hyperband(SuccessiveHalving):
    """`SuccessiveHalving` in brackets of different boldness, one after the other (Li et al. 2018).

    The first bracket begins with ``population`` members and compares them after ``min_steps``; each later one begins
    with fewer members, which are compared for the first time a rung later, and the last one trains all of its members
    to the end: where early values mislead, they do no harm there. Then the first one begins again.

    Args and errors are those of `SuccessiveHalving`.

    >>> import jhpo
    >>> [tuple(rung) for rung in jhpo.Hyperband(9, min_steps=10).rungs(90)]
    [(9, 0, 10), (3, 10, 30), (1, 30, 90), (5, 0, 30), (1, 30, 90), (3, 0, 90)]
    """

    def _brackets(self, steps: int) -> tuple[Bracket, ...]:
        return hyperband(self.population, rung_steps(steps, self.eta, self.min_steps, self.population), self.eta)
