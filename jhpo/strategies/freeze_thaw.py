"""Freeze-thaw Bayesian optimisation: which paused member to train on, or which new one to begin, by their curves."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels.acquisition import log_expected_improvement
from jhpo.kernels.numerics import exact_products
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Ids, Strategy, default_dtype, feasible_value, static_field, strategy
from jhpo.strategies.curve_model import Ends, ends
from jhpo.strategies.exploring import perturbed

PARTS = 20  # of a training, unless `interval` says otherwise
NEW, NOBODY = -1, -2  # instead of a member


class FreezeThawState(NamedTuple):
    """The members: C of them at most, r parts of a training, n of them trained at a time."""

    space: Space  # static
    units: jax.Array  # float[C, d], in the order in which they began
    curve: jax.Array  # float[C, r], values after each part; +inf where a member is not so far
    done: jax.Array  # int32[C], parts that a member was trained
    lost: jax.Array  # bool[C], failed or infeasible: not trained on
    started: jax.Array  # int32[]
    member: jax.Array  # int32[n], of each row of the generation; -1 where the row is empty


@strategy
class FreezeThaw(Strategy):
    """Trains ``batch`` members a little at a time: each time those, paused or new, that promise most per step.

    Curves are extrapolated by power laws (`jhpo.kernels.forecast`); a Gaussian process over the hyperparameters joins
    the ends that are foreseen, and says what to expect of new members. The expected improvement at the end of the
    training, per step that is left to it, decides what to thaw; all of it within the program, after each ``interval``
    steps (Swersky et al. 2014; Rakotoarison et al. 2024 and Lee et al. 2024 learn the model instead). A `Trainable` is
    needed, without static parameters.

    The budget of a search counts members that are begun, at most ``capacity``. The search ends when ``effort`` of the
    steps were taken that all of them would need to the end. The best is the best of those that were trained to the end.

    Args:
      batch: members trained side by side; a device is idle below what fills it, and decisions are worse above.
      interval: steps between two decisions; a twentieth of the training by default.
      capacity: members at most; by default the budget.
      effort: share of the steps of ``capacity`` whole trainings.
      initial: members that are begun before the model decides; twice the batch by default, at least eight.
      candidates: new hyperparameters that are looked at in each decision.
      max_steps: where trainings end, which `minimize` and `run` know.

    Raises:
      InvalidArgument: an option outside its range.

    >>> import jhpo
    >>> class Descent:
    ...     steps = 20
    ...     def init(self, hp, key): return jnp.ones(2)
    ...     def step(self, hp, w, t): return w - hp["lr"] * jnp.array([0.1, 1.0]) * w
    ...     def evaluate(self, hp, w): return jnp.sum(w**2)
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-3, 1e1, log=True)})
    >>> result = jhpo.minimize(Descent(), space, jhpo.FreezeThaw(4, interval=2), budget=40)
    >>> result.steps <= 0.2 * 40 * 20, bool(result.value < 0.05)
    (True, True)
    """

    batch: int = static_field(default=8)
    interval: int | None = static_field(default=None)
    capacity: int | None = static_field(default=None)
    effort: float = static_field(default=0.2)
    initial: int | None = static_field(default=None)
    candidates: int = static_field(default=128)
    max_steps: int | None = static_field(default=None)
    thaws = True
    compiled_quickly = True  # a few dozen decisions, each of little work

    def __post_init__(self) -> None:
        check_integer("batch", self.batch)
        check_integer("candidates", self.candidates)
        for name in ("interval", "capacity", "initial", "max_steps"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        check_number("effort", self.effort, 0.0, 1.0, open_low=True)
        if self.capacity is not None and self.capacity < self.batch:
            raise invalid("capacity", f"at least the batch of {self.batch} members", self.capacity)
        if self.max_steps is not None and self.interval is not None and self.interval > self.max_steps:
            raise invalid("interval", f"at most the {self.max_steps} steps of the training", self.interval)

    # -- what the host asks ---------------------------------------------------------------------------------

    @property
    def population(self) -> int:
        return self.batch

    def lasting(self, steps: int) -> Any:
        if self.max_steps is not None and self.max_steps > steps:
            raise invalid("max_steps", f"at most the {steps} steps of the training", self.max_steps)
        last = steps if self.max_steps is None else self.max_steps
        each = -(-last // PARTS) if self.interval is None else self.interval
        return dataclasses.replace(self, max_steps=last, interval=each)

    def prepare(self, evaluations: int) -> Any:
        if self.capacity is not None:
            return self
        return dataclasses.replace(self, capacity=max(evaluations, self.batch))

    @property
    def parts(self) -> int:
        """Parts of a whole training."""
        if self.max_steps is None or self.interval is None:
            raise invalid("max_steps", "the length of the training (minimize and run know it)", self.max_steps)
        return -(-self.max_steps // self.interval)

    @property
    def most(self) -> int:
        """Parts that are trained in all."""
        return max(int(self.effort * self.places * self.parts), self.batch)

    @property
    def places(self) -> int:
        """Members at most."""
        if self.capacity is None:
            raise invalid("capacity", "how many members there may be (minimize takes the budget)", None)
        return self.capacity

    def members(self, state: FreezeThawState) -> Ids:
        return state.member

    def trained(self, state: FreezeThawState) -> Ids:
        return jnp.where(state.member >= 0, state.done[jnp.maximum(state.member, 0)], 0)

    # -- protocol -------------------------------------------------------------------------------------------

    def init(self, space: Space, key: jax.Array) -> FreezeThawState:
        dtype, n = default_dtype(), self.places
        return FreezeThawState(
            space=space,
            units=jnp.zeros((n, space.dim), dtype),
            curve=jnp.full((n, self.parts), jnp.asarray(jnp.inf, dtype)),
            done=jnp.zeros(n, jnp.int32),
            lost=jnp.zeros(n, jnp.bool_),
            started=jnp.zeros((), jnp.int32),
            member=jnp.full((self.batch,), -1, jnp.int32),
        )

    @exact_products
    def ask(self, state: FreezeThawState, key: jax.Array) -> tuple[jax.Array, FreezeThawState]:
        n, dtype = self.batch, state.units.dtype
        first = max(2 * n, 8) if self.initial is None else self.initial
        k_fresh, k_near, k_wish = jax.random.split(key, 3)
        fresh = state.space.canonical(state.space.sample_unit(k_fresh, max(self.candidates, n), dtype))
        begun = jnp.arange(self.places, dtype=jnp.int32) < state.started

        def design(_: None) -> tuple[jax.Array, jax.Array]:
            return jnp.full((n,), NEW, jnp.int32), fresh[:n]

        def decide(_: None) -> tuple[jax.Array, jax.Array]:
            near = self._near(state, k_near, max(self.candidates // 4, 1))
            new = jnp.concatenate([fresh, near])
            found = ends(state.space, state.units, state.curve, state.done, begun, new)
            return self._choose(state, new, found, k_wish)

        member, new = jax.lax.cond(state.started < first, design, decide, None)
        # new members get the next places while there are any
        begins = member == NEW
        place = state.started + jnp.cumsum(begins.astype(jnp.int32)) - 1
        begins = begins & (place < self.places)
        units = jnp.where(begins[:, None], new, state.units[jnp.maximum(member, 0)])
        held = state.units.at[jnp.where(begins, place, self.places)].set(units, mode="drop")
        # where everything is done, rows stay empty
        member = jnp.where(begins, place, jnp.where(member >= 0, member, -1))
        return units, state._replace(
            units=held, member=member, started=state.started + begins.sum(dtype=jnp.int32)
        )  # fmt: skip

    def tell(self, state: FreezeThawState, units: jax.Array, result: Evaluation) -> FreezeThawState:
        there = state.member >= 0
        if result.mask is not None:
            there = there & result.mask
        value, violation = feasible_value(result)
        at = jnp.where(there, state.member, self.places)
        part = state.done[jnp.maximum(state.member, 0)]
        bad = ~jnp.isfinite(value) | (violation > 0)
        return state._replace(
            units=state.units.at[at].set(units.astype(state.units.dtype), mode="drop"),  # given ones may be others
            curve=state.curve.at[at, part].set(jnp.where(bad, jnp.inf, value).astype(state.curve.dtype), mode="drop"),
            done=state.done.at[at].add(1, mode="drop"),
            lost=state.lost.at[at].set(bad, mode="drop"),
        )

    def _open(self, state: FreezeThawState) -> jax.Array:
        """``bool[C]``: members that can be trained on."""
        begun = jnp.arange(self.places, dtype=jnp.int32) < state.started
        return begun & ~state.lost & (state.done < self.parts)

    def _near(self, state: FreezeThawState, key: jax.Array, n: int) -> jax.Array:
        """``float[n, d]``: points near members that are good at the last part that they reached."""
        last = jnp.take_along_axis(state.curve, jnp.maximum(state.done - 1, 0)[:, None], axis=1)[:, 0]
        _, best = jax.lax.top_k(-jnp.where(state.lost, jnp.inf, last), min(4, self.places))
        centres = state.units[best[jnp.arange(n, dtype=jnp.int32) % best.shape[0]]]
        return state.space.canonical(perturbed(state.space, key, centres, 0.1, 0.1))

    def _choose(
        self, state: FreezeThawState, new: jax.Array, found: Ends, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Members to train on, ``int32[n]``, `NEW` or `NOBODY`, and the points of new ones, ``float[n, d]``."""
        c, dtype, opened = self.places, state.units.dtype, self._open(state)
        left = (self.parts - state.done).astype(dtype)
        left = jnp.concatenate([left, jnp.full(new.shape[:1], self.parts, dtype)])
        room = jnp.broadcast_to(state.started < c, new.shape[:1])
        # rows wish for improvements of different size: the first for any, the others for more
        wish = jnp.exp(jax.random.uniform(key, (self.batch,), dtype, -7.0, -1.0)).at[0].set(0.0)

        def pick(free: jax.Array, wish: jax.Array) -> tuple[jax.Array, jax.Array]:
            gain = log_expected_improvement(found.mean, found.variance, found.best - wish)
            score = jnp.where(free, gain - jnp.log(jnp.maximum(left, 1.0)), -jnp.inf)
            at = jnp.argmax(score).astype(jnp.int32)
            return free.at[at].set(False), jnp.where(free[at], at, NOBODY)

        free = jnp.concatenate([opened, room])
        _, at = jax.lax.scan(pick, free, wish)
        return jnp.where(at < c, at, NEW), new[jnp.maximum(at - c, 0)]
