"""Population-based training: a population that trains once, whose losers take over from its winners on the way."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, invalid, is_concrete
from jhpo.kernels import threefry
from jhpo.kernels.cells import distinct
from jhpo.space.space import Space
from jhpo.strategies import bandit
from jhpo.strategies.bandit import Increments
from jhpo.strategies.base import (
    Evaluation,
    Ids,
    Rung,
    Strategy,
    default_dtype,
    feasible_value,
    static_field,
    strategy,
)
from jhpo.strategies.exploring import SLACK, perturbed, truncation
from jhpo.strategies.migrating import Exchange, migration

EXCHANGES = 20  # parts of a training, unless `exchange` says otherwise


class PBTState(NamedTuple):
    """The population under way: n members, d coordinates."""

    space: Space  # static
    turn: jax.Array  # int32[], generations asked for
    units: jax.Array  # float[n, d], hyperparameters of the last generation
    value: jax.Array  # float[n], what it reached; +inf where a member failed
    violation: jax.Array  # float[n], of constraints; +inf likewise
    there: jax.Array  # bool[n], members that are trained; the others come last
    parent: jax.Array  # int32[n], row of the generation before that each row continues; -1 where none
    base: jax.Array  # float[n], value with which the last generation began; +inf where unknown
    seen: Increments  # what stretches of training gained, for `explore="bandit"`


@strategy
class PopulationBasedTraining(Strategy):
    """Trains ``population`` members once; every ``exchange`` steps the worst go on from copies of the best.

    A copy takes over the whole state of the training, by one gather on the device, and goes on with hyperparameters
    near those of its parent (Jaderberg et al. 2017): what comes out is a trained population, and for each member a
    *schedule* of hyperparameters, `Result.schedule`, which `jhpo.replay` trains again. A `Trainable` is needed. Members
    that have failed are replaced at the next exchange; if all have failed, no one is trained on.

    A member is one trial, whatever it took over, so that one population costs ``population`` evaluations of the
    budget, which is that of as many trainings; a further one begins from new random members. The best is the member
    that is best at the end.

    What is best after the next few steps decides, so that a hyperparameter that pays late loses: an early drop of the
    learning rate, no regularisation. Rare exchanges look further ahead, and sub-populations of which some exchange
    rarely (``intervals``) do both (Doulazmi et al. 2025); see docs/strategies/pbt.md.

    Args:
      population: members, side by side.
      exchange: steps between two exchanges; a twentieth of the training by default.
      fraction: share of the population that is replaced in each, and of those that replace it, in (0, 0.5].
      scale: standard deviation of the step to new hyperparameters, as a share of the range of a parameter (in its
        scale: 0.1 of a logarithmic range of four decades is a factor of 2.5). Numbers in cells move by one at least.
      resample: probability with which a hyperparameter of a copy is drawn anew; a `Choice` changes in no other way.
      intervals: of sub-populations of equal size: ``(1, 4, 16)`` for three, of which the first takes part in every
        exchange and the last in every sixteenth. Good members migrate between them.
      explore: how copies choose their hyperparameters: near those of their parent (None), or by a "bandit": a Gaussian
        process of what was gained with which hyperparameters at which time says what to try (PB2, Parker-Holder et al.
        2020). Categories move as without it.
      max_steps: where to end; with the training by default, which `minimize`, `run` and `Study.optimize` know.

    Raises:
      InvalidArgument: an option outside its range, a population too small for one to be replaced, no exchange
        before the end of the training.

    >>> import jhpo
    >>> class Descent:
    ...     steps = 60
    ...     def init(self, hp, key): return jnp.array([3.0, 3.0])
    ...     def step(self, hp, w, t): return w - hp["lr"] * jnp.array([1.0, 20.0]) * w
    ...     def evaluate(self, hp, w): return jnp.sum(w**2)
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})
    >>> result = jhpo.minimize(Descent(), space, jhpo.PopulationBasedTraining(16, exchange=10), budget=16)
    >>> result.steps == 16 * 60, result.schedule().steps.tolist()
    (True, [10, 20, 30, 40, 50, 60])
    """

    population: int = static_field(default=32)
    exchange: int | None = static_field(default=None)
    fraction: float = 0.25
    scale: float = 0.1
    resample: float = 0.1
    max_steps: int | None = static_field(default=None)
    intervals: tuple[int, ...] | None = static_field(default=None)
    explore: str | None = static_field(default=None)
    pauses = True
    evolves = True

    def __post_init__(self) -> None:
        check_integer("population", self.population, 2)
        for name in ("exchange", "max_steps"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        check_number("fraction", self.fraction, 0.0, 0.5, open_low=True)
        check_number("scale", self.scale, 0.0, 1.0)
        check_number("resample", self.resample, 0.0, 1.0)
        if is_concrete(self.fraction) and self.fraction * self.population * SLACK < 1:
            least = -int(-1 // self.fraction)
            raise invalid(
                "population",
                f"at least {least} members, as fraction={self.fraction} of them are replaced; or a larger fraction",
                self.population,
            )
        self._check_intervals()
        if self.explore not in (None, "bandit"):
            raise invalid("explore", "None or 'bandit'", self.explore)
        if self.max_steps is not None:
            self.rungs(self.max_steps)

    def _check_intervals(self) -> None:
        if self.intervals is None:
            return
        if not isinstance(self.intervals, (tuple, list)) or len(self.intervals) < 2:
            raise invalid("intervals", "two or more ascending integers, such as (1, 4)", self.intervals)
        object.__setattr__(self, "intervals", tuple(check_integer("intervals", each) for each in self.intervals))
        if any(b <= a for a, b in itertools.pairwise(self.intervals)):
            raise invalid("intervals", "ascending integers, such as (1, 4)", self.intervals)
        check_number("fraction", self.fraction, 0.0, 1 / 3, open_low=True)
        each, rest = divmod(self.population, len(self.intervals))
        least = max(math.ceil(1.0 / (self.fraction * SLACK)), 3) if is_concrete(self.fraction) else 3
        if rest or each < least:
            expected = f"a multiple of the {len(self.intervals)} sub-populations, with at least {least} members in each"
            raise invalid("population", expected, self.population)

    # -- what the host asks ---------------------------------------------------------------------------------

    def rungs(self, steps: int) -> tuple[Rung, ...]:
        last = steps if self.max_steps is None else self.max_steps
        if last > steps:
            raise invalid("max_steps", f"at most the {steps} steps of the training", self.max_steps)
        if last < 2:
            raise invalid("steps", "at least two steps of training, with an exchange between them", last)
        each = -(-last // EXCHANGES) if self.exchange is None else self.exchange
        if each >= last:
            raise invalid("exchange", f"less than the {last} steps of the training", self.exchange)
        stops = [*range(each, last, each), last]
        if self.intervals is not None and self.intervals[-1] >= len(stops):
            raise invalid("intervals", f"at most {len(stops) - 1}, the exchanges of the training", self.intervals)
        return tuple(Rung(self.population, start, stop) for start, stop in zip([0, *stops], stops))

    def lasting(self, steps: int) -> Any:
        return dataclasses.replace(self, max_steps=self.rungs(steps)[-1].stop)

    def parents(self, state: PBTState) -> Ids:
        return state.parent

    # -- protocol -------------------------------------------------------------------------------------------

    def init(self, space: Space, key: jax.Array) -> PBTState:
        dtype, n = default_dtype(), self.population
        nothing = jnp.full((n,), jnp.asarray(jnp.inf, dtype))
        return PBTState(
            space=space,
            turn=jnp.zeros((), jnp.int32),
            units=jnp.zeros((n, space.dim), dtype),
            value=nothing,
            violation=nothing,
            there=jnp.zeros(n, jnp.bool_),
            parent=jnp.full((n,), -1, jnp.int32),
            base=nothing,
            seen=bandit.nothing(bandit.WINDOW if self.explore == "bandit" else 0, space.dim, dtype),
        )

    def ask(self, state: PBTState, key: jax.Array) -> tuple[jax.Array, PBTState]:
        if self.max_steps is None:
            known = "the length of the training (minimize, run and Study.optimize know it)"
            raise invalid("max_steps", known, self.max_steps)
        generations = jnp.int32(len(self.rungs(self.max_steps)))

        def begin(state: PBTState) -> tuple[jax.Array, jax.Array]:
            units = state.space.sample_unit(key, self.population, state.units.dtype)
            return units, jnp.full((self.population,), -1, jnp.int32)

        def go_on(state: PBTState) -> tuple[jax.Array, jax.Array]:
            k_exploit, k_explore = threefry.split(key)
            k_model = threefry.fold_in(k_explore, jnp.uint32(1))
            parent, giver, explores = self._exchange(k_exploit, state, state.turn % generations)
            units, given = state.units[jnp.maximum(parent, 0)], state.units[giver]
            fixed = jnp.asarray(state.space.static_mask)[None, :]
            units = jnp.where(~(distinct(units - given) & fixed).any(axis=1, keepdims=True), given, units)
            near = perturbed(state.space, k_explore, units, self.scale, self.resample)
            if self.explore == "bandit":
                number = state.turn % generations
                now = number.astype(units.dtype) / generations.astype(units.dtype)
                near = jnp.where(explores[:, None], near, units)
                near = bandit.chosen(state.space, k_model, state.seen, near, explores, now, number)
            return jnp.where(explores[:, None], near, units), parent

        units, parent = jax.lax.cond(state.turn % generations == 0, begin, go_on, state)
        base = jnp.where(parent >= 0, state.value[jnp.maximum(parent, 0)], jnp.inf)
        return units, state._replace(turn=state.turn + 1, units=units, parent=parent, base=base)

    def _exchange(self, key: jax.Array, state: PBTState, number: jax.Array) -> Exchange:
        told = (state.value, state.violation, state.there, self.fraction)
        if self.intervals is not None:
            return migration(key, *told, self.intervals, number)
        parent = truncation(key, *told)
        copied = (parent >= 0) & (parent != jnp.arange(self.population, dtype=jnp.int32))
        return Exchange(parent, jnp.maximum(parent, 0), copied)

    def tell(self, state: PBTState, units: jax.Array, result: Evaluation) -> PBTState:
        value, violation = feasible_value(result)
        there = jnp.ones(self.population, jnp.bool_) if result.mask is None else result.mask
        dtype = state.units.dtype
        units, value = units.astype(dtype), value.astype(dtype)
        seen = state.seen
        if self.explore == "bandit":
            generations = len(self.rungs(cast(int, self.max_steps)))
            began = ((state.turn - 1) % generations).astype(dtype) / generations
            seen = bandit.remember(seen, units, began, jnp.where(there, value - state.base, jnp.nan))
        return state._replace(units=units, value=value, violation=violation.astype(dtype), there=there, seen=seen)
