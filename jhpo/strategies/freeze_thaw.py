"""Freeze-thaw Bayesian optimisation: which paused member to train on, or which new one to begin, by their curves."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels import threefry
from jhpo.kernels.acquisition import log_expected_improvement
from jhpo.kernels.numerics import exact_products
from jhpo.space.space import Space
from jhpo.strategies import read_inner
from jhpo.strategies.base import Evaluation, Ids, State, Strategy, default_dtype, feasible_value, static_field, strategy
from jhpo.strategies.curve_model import Ends, ends
from jhpo.strategies.exploring import perturbed
from jhpo.strategies.queue import Queue, asked, empty_queue, taken

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
    queue: Queue | None  # points of the proposer; None without one


@strategy
class FreezeThaw(Strategy):
    """Trains ``batch`` members a little at a time: each time paused ones that promise most per step, or new ones.

    Curves are extrapolated by power laws (`jhpo.kernels.forecast`); a Gaussian process over the hyperparameters joins
    the ends that are foreseen. The expected improvement at the end of the training, per step that is left to it,
    decides what to thaw; all of it within the program, after each ``interval`` steps (Swersky et al. 2014; Rakotoarison
    et al. 2024 and Lee et al. 2024 learn the model instead). New members begin over the whole search, in a quarter of
    the rows at first, later in fewer, until they could not be trained to the end any more: with all of the training
    before them, they would lose to members that are nearly done. A `Trainable` is needed, without static parameters.

    The budget of a search counts members that are begun, at most ``capacity``. The search ends when ``effort`` of the
    steps were taken that all of them would need to the end, but not before a batch can be trained to the end. The best
    is the best of those that were trained to the end: where there are steps for fewer than two batches of them, others
    are left.

    Args:
      batch: members trained side by side; a device is idle below what fills it, and decisions are worse above.
      interval: steps between two decisions; a twentieth of the training by default.
      capacity: members at most; by default the budget, in a study that of the search which began it.
      effort: share of the steps of ``capacity`` whole trainings.
      initial: members that are begun before the model decides; twice the batch by default, at least eight.
      candidates: without a proposer: new hyperparameters that are looked at in each decision.
      max_steps: where trainings end, which `minimize` and `run` know.
      proposer: a steady strategy that chooses new members after the initial ones. It is asked when all of its points
        have begun, and told anew what the curves of all members foresee, with variances. "auto" is `BayesOpt` with half
        as many points as ``batch``, at least four; None takes the best of random points by the model of the curves,
        which compiles faster.

    Raises:
      InvalidArgument: an option outside its range, or a proposer of another kind.

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
    proposer: Any = "auto"
    thaws = True
    compiled_quickly = True  # a few dozen decisions, each of little work

    def __post_init__(self) -> None:
        check_integer("batch", self.batch)
        check_integer("candidates", self.candidates)
        for name in ("interval", "capacity", "initial", "max_steps"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        check_number("effort", self.effort, 0.0, 1.0, open_low=True)
        own = f"bayes(batch={min(max(self.batch // 2, 4), 512)})"
        given = own if isinstance(self.proposer, str) and self.proposer == "auto" else self.proposer
        object.__setattr__(self, "proposer", read_inner("proposer", given, optional=True))
        if self.proposer is not None and (not self.proposer.steady or self.proposer.needs_grad):
            expected = "a strategy that can be asked while results are pending, without gradients, such as BayesOpt"
            raise invalid("proposer", expected, type(self.proposer).__name__)
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
        """Parts that are trained in all, no fewer than it takes to train a batch to the end after the first members."""
        design = -(-self._first // self.batch)
        return max(int(self.effort * self.places * self.parts), self.batch * (design + self.parts))

    @property
    def places(self) -> int:
        """Members at most."""
        if self.capacity is None:
            raise invalid("capacity", "how many members there may be, or a search with a budget", None)
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
            queue=None if self.proposer is None else empty_queue(self.proposer, space, key, dtype),
        )

    @exact_products
    def ask(self, state: FreezeThawState, key: jax.Array) -> tuple[jax.Array, FreezeThawState]:
        n, dtype = self.batch, state.units.dtype
        k_random, k_near, k_wish, k_ask = threefry.split(key, 4)
        many = n if self.proposer is not None else max(self.candidates, n)
        random = state.space.canonical(state.space.sample_unit(k_random, many, dtype))

        def design(_: None) -> tuple[jax.Array, jax.Array, Queue | None]:
            return jnp.full((n,), NEW, jnp.int32), random[:n], state.queue

        def decide(_: None) -> tuple[jax.Array, jax.Array, Queue | None]:
            begun = jnp.arange(self.places, dtype=jnp.int32) < state.started
            new = random[:0] if self.proposer is not None else self._candidates(state, random, k_near)
            found = ends(state.space, state.units, state.curve, state.done, begun, new)
            due = self._due(state)
            begins = jnp.arange(n, dtype=jnp.int32) >= n - due
            at = self._choose(state, found, begins, k_wish)
            member = jnp.where(begins, NEW, at)
            if state.queue is None:
                return member, new[jnp.maximum(at - self.places, 0)], None
            points, queue = taken(state.queue, due, random, lambda: self._proposed(state, found, k_ask))
            return member, jnp.roll(points, n - due, axis=0), queue

        member, new, queue = jax.lax.cond(state.started < self._first, design, decide, None)
        # new members get the next places while there are any
        begins = member == NEW
        place = state.started + jnp.cumsum(begins.astype(jnp.int32)) - 1
        begins = begins & (place < self.places)
        units = jnp.where(begins[:, None], new, state.units[jnp.maximum(member, 0)])
        held = state.units.at[jnp.where(begins, place, self.places)].set(units, mode="drop")
        # where everything is done, rows stay empty
        member = jnp.where(begins, place, jnp.where(member >= 0, member, -1))
        return units, state._replace(
            units=held, member=member, started=state.started + begins.sum(dtype=jnp.int32), queue=queue
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

    @property
    def _first(self) -> int:
        """Members that are begun before the model decides, as far as there is room."""
        return min(max(2 * self.batch, 8) if self.initial is None else self.initial, self.places)

    @property
    def _scarce(self) -> bool:
        """There are steps for fewer than two batches of whole trainings: nobody might be trained to the end."""
        return self.most < 2 * self.batch * self.parts

    def _turns_left(self, state: FreezeThawState) -> jax.Array:
        """``int32[]``: generations until the steps are spent, the one that is asked for among them."""
        return (self.most - state.done.sum(dtype=jnp.int32)) // self.batch

    def _due(self, state: FreezeThawState) -> jax.Array:
        """``int32[]``: rows in which new members begin.

        A quarter of them at first, later fewer: as many have begun as the root of what was spent, and the last ones can
        still be trained to the end.
        """
        until = max(self.most - self.parts * self.batch, 1)
        share = jnp.minimum(state.done.sum(dtype=jnp.int32).astype(state.units.dtype) / until, 1.0)
        wanted = jnp.floor(jnp.sqrt(share) * max(self.places - self._first, 0)).astype(jnp.int32) + self._first
        more = jnp.minimum(wanted - state.started, max(self.batch // 4, 1))
        if self._scarce:
            more = jnp.where(self._turns_left(state) >= self.parts, more, 0)
        # rows for which nobody is paused take new ones before their time
        idle = self.batch - self._open(state).sum(dtype=jnp.int32)
        return jnp.clip(jnp.maximum(more, idle), 0, jnp.minimum(self.batch, self.places - state.started))

    def _proposed(self, state: FreezeThawState, found: Ends, key: jax.Array) -> tuple[jax.Array, State]:
        """Points of the proposer, ``float[p, d]``, and its next state."""
        known = state.done > 0
        told = Evaluation(jnp.where(known, found.own, jnp.nan), mask=known, variance=found.own_variance)
        assert state.queue is not None
        proposer = self.proposer.prepare(self.places)
        return asked(proposer, state.queue, state.space, key, state.units, told)

    def _candidates(self, state: FreezeThawState, random: jax.Array, key: jax.Array) -> jax.Array:
        """``float[m, d]``: random points, and some near members that are good at the last part that they reached."""
        n = max(self.candidates // 4, 1)
        last = jnp.take_along_axis(state.curve, jnp.maximum(state.done - 1, 0)[:, None], axis=1)[:, 0]
        _, best = jax.lax.top_k(-jnp.where(state.lost, jnp.inf, last), min(4, self.places))
        centres = state.units[best[jnp.arange(n, dtype=jnp.int32) % best.shape[0]]]
        near = state.space.canonical(perturbed(state.space, key, centres, 0.1, 0.1))
        return jnp.concatenate([random, near])

    def _choose(self, state: FreezeThawState, found: Ends, begins: jax.Array, key: jax.Array) -> jax.Array:
        """``int32[n]``: the member to train on; `NOBODY`; in rows that begin C and the number of the candidate."""
        c, dtype, count = self.places, state.units.dtype, found.mean.shape[0]
        new = jnp.arange(count, dtype=jnp.int32) >= c
        left = jnp.full((count,), self.parts, dtype).at[:c].set((self.parts - state.done).astype(dtype))
        late = left > self._turns_left(state).astype(dtype)  # they cannot be trained to the end any more
        # rows wish for improvements of different size: the first for any, the others for more
        wish = jnp.exp(jax.random.uniform(key, (self.batch,), dtype, -7.0, -1.0)).at[0].set(0.0)

        def pick(free: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            wish, begins = row
            gain = log_expected_improvement(found.mean, found.variance, found.best - wish)
            among = free & (new == begins)
            gain = gain - jnp.log(jnp.maximum(left, 1.0))
            if self._scarce:
                among = among & ~(late & (among & ~late).any())
            at = jnp.argmax(jnp.where(among, gain, -jnp.inf)).astype(jnp.int32)
            return free.at[at].set(free[at] & ~among[at]), jnp.where(among[at], at, NOBODY)

        free = jnp.ones((count,), jnp.bool_).at[:c].set(self._open(state))
        return jax.lax.scan(pick, free, (wish, begins))[1]
