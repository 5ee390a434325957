"""ASHA: asynchronous successive halving, of trainables that are paused and of functions that report their values."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax

from jhpo.curves.rules import HalvingStopping
from jhpo.errors import check_integer, invalid
from jhpo.space.space import Space
from jhpo.strategies import read_inner
from jhpo.strategies.base import Bound, Evaluation, Ids, Request, State, Strategy, static_field, strategy
from jhpo.strategies.promotion import Promotion
from jhpo.strategies.random import RandomSearch


class ASHAState(NamedTuple):
    """The state of what chooses the trials: the proposer, or `Promotion`, which pauses members."""

    inner: State


@strategy
class ASHA(Strategy):
    """Asynchronous successive halving: a trial goes on at a rung while it is among the best of those that were there.

    Rungs lie at ``min_steps``, ``eta * min_steps``, ... and nobody waits for a rung to fill (Li et al. 2020).

    For trainables give ``batch``: so many members are trained side by side, in one program that stays full. A member is
    paused at its rung. Its place takes the best member at the highest rung of which one waits that is among the best
    ``1 / eta``, rounded down, of all that have been there; otherwise a new member begins, also in the place of one that
    failed. The budget counts the members that are begun; the search ends when the last promoted ones are at the end of
    their training. States stay on the device, or in the memory of the host where they do not fit.

    For `jhpo.host` functions that report, ``fn(params, trial)``, leave ``batch`` out: a trial that is not among the
    best ``1 / eta`` stops, as a function that runs cannot be paused (see `HalvingStopping`); trials of other workers
    and earlier sessions count, too. Those that were stopped are PRUNED, count towards the budget, and tell the proposer
    the last value that they had.

    Args:
      eta: reduction factor, an integer of at least 2.
      min_steps: the first rung, in steps of the training or those that the function reports. Trainables are trained in
        parts of so many steps.
      max_steps: where trainings end, so that nobody is stopped there; of trainables the whole training by default.
      proposer: a steady strategy that chooses the trials, an instance or a name, such as `BayesOpt`; random if None.
        Where members are paused it is asked when its last points have begun, and told of all members each time: of
        those that wait, what they would have at the end had they gained as much as the median of those trained on.
      batch: trainables: members trained side by side, as few as fill the device; a fiftieth of the budget or less, as
        the last ones to be promoted finish alone. None for functions that report.
      capacity: trainables: members at most; the budget by default.

    Raises:
      InvalidArgument: an option outside its range, or a proposer of another kind.

    >>> import jhpo, jax.numpy as jnp
    >>> def objective(params, trial):
    ...     for step in range(1, 28):
    ...         loss = (params["x"] - 0.3) ** 2 + 1 / step
    ...         trial.report(step, loss)
    ...         if trial.should_stop():
    ...             break
    ...     return loss
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), jhpo.ASHA(eta=3, max_steps=27))
    >>> study.optimize(jhpo.host(objective), budget=30).evaluations
    30
    >>> len(study.pruned) > 10, max(study.best.curve)
    (True, 27)
    >>> class Descent:
    ...     steps = 27
    ...     def init(self, hp, key): return jnp.ones(2)
    ...     def step(self, hp, w, t): return w - hp["lr"] * jnp.array([0.1, 1.0]) * w
    ...     def evaluate(self, hp, w): return jnp.sum(w**2)
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-3, 1e1, log=True)})
    >>> result = jhpo.minimize(Descent(), space, jhpo.ASHA(min_steps=3, batch=4), budget=54)
    >>> result.stopped, result.steps < 54 * 27 / 3, bool(result.value < 0.1)
    ('evaluations: 54 of 54 done', True, True)
    """

    eta: int = static_field(default=3)
    min_steps: int = static_field(default=1)
    max_steps: int | None = static_field(default=None)
    proposer: Any = None
    batch: int | None = static_field(default=None)
    capacity: int | None = static_field(default=None)

    def __post_init__(self) -> None:
        HalvingStopping(self.eta, self.min_steps, self.max_steps)  # checks the options
        proposer = read_inner("proposer", self.proposer, optional=True)
        object.__setattr__(self, "proposer", RandomSearch(1) if proposer is None else proposer)
        if not self.proposer.steady or self.proposer.early_stop is not None:
            expected = "a strategy that can be asked while results are pending, such as BayesOpt or RandomSearch"
            raise invalid("proposer", expected, type(self.proposer).__name__)
        for name in ("batch", "capacity"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        if self.capacity is not None and (self.batch is None or self.capacity < self.batch):
            raise invalid("capacity", f"at least the batch of {self.batch} members, which it bounds", self.capacity)
        if self.batch is not None and self.proposer.needs_grad:
            raise invalid("proposer", "a strategy that needs no gradients", type(self.proposer).__name__)

    @property
    def inner(self) -> Any:
        """What does the work: the proposer, or what pauses the members of its choice."""
        if self.batch is None:
            return self.proposer
        proposer = None if isinstance(self.proposer, RandomSearch) else self.proposer
        return Promotion(self.batch, self.eta, self.min_steps, proposer, self.capacity, self.max_steps)

    @property
    def steady(self) -> bool:  # type: ignore[override]
        """Where it stops trials; members that are paused are not asked for out of turn."""
        return self.batch is None

    @property
    def thaws(self) -> bool:  # type: ignore[override]
        """Where it pauses members."""
        return self.batch is not None

    @property
    def early_stop(self) -> HalvingStopping | None:  # type: ignore[override]
        """The rule by which trials are stopped; None where members are paused."""
        return None if self.thaws else HalvingStopping(self.eta, self.min_steps, self.max_steps)

    # -- members that are paused ------------------------------------------------------------------------------

    def lasting(self, steps: int) -> Any:
        if self.max_steps is not None and self.max_steps > steps:
            raise invalid("max_steps", f"at most the {steps} steps of the training", self.max_steps)
        last = steps if self.max_steps is None else self.max_steps
        if self.min_steps >= last:
            raise invalid("min_steps", f"less than the {last} steps of the training", self.min_steps)
        return dataclasses.replace(self, max_steps=last)

    @property
    def interval(self) -> int:
        """Steps of a part of the training."""
        return self.min_steps

    @property
    def parts(self) -> int:
        """Parts of a whole training."""
        return int(self.inner.rungs_at[-1])

    @property
    def most(self) -> None:
        """Parts that are trained in all: no bound but that of the members."""
        return None

    def members(self, state: ASHAState) -> Ids:
        return self.inner.members(state.inner)

    def trained(self, state: ASHAState) -> Ids:
        return self.inner.trained(state.inner)

    # -- everything else is that of what does the work ----------------------------------------------------------

    @property
    def population(self) -> int:
        return int(self.inner.population)

    @property
    def host_float64(self) -> bool:  # type: ignore[override]
        """As the proposer."""
        return bool(self.proposer.host_float64)

    @property
    def compiled_quickly(self) -> bool:  # type: ignore[override]
        """As the proposer."""
        return bool(self.proposer.compiled_quickly)

    def max_evaluations(self, space: Space) -> int | None:
        if self.batch is not None and self.proposer.population < self.batch:
            return None  # some members are random ones
        limit: int | None = self.proposer.max_evaluations(space)
        return limit

    def request(self, state: ASHAState) -> Request:
        requested: Request = self.inner.request(state.inner)
        return requested

    def init(self, space: Space, key: jax.Array) -> ASHAState:
        return ASHAState(self.inner.init(space, key))

    def ask(self, state: ASHAState, key: jax.Array) -> tuple[jax.Array, ASHAState]:
        units, inner = self.inner.ask(state.inner, key)
        return units, ASHAState(inner)

    def tell(self, state: ASHAState, units: jax.Array, result: Evaluation) -> ASHAState:
        return ASHAState(self.inner.tell(state.inner, units, result))

    def absorb(self, state: ASHAState, units: jax.Array, result: Evaluation) -> ASHAState:
        return ASHAState(self.inner.absorb(state.inner, units, result))

    def expect(self, state: ASHAState, units: jax.Array, mask: jax.Array) -> ASHAState:
        return ASHAState(self.inner.expect(state.inner, units, mask))

    def prepare(self, evaluations: int) -> Any:
        if self.batch is None:
            return dataclasses.replace(self, proposer=self.proposer.prepare(evaluations))
        return self if self.capacity is not None else dataclasses.replace(self, capacity=max(evaluations, self.batch))

    def measuring(self, constraints: int) -> Any:
        proposer = self.proposer if self.batch is not None else self.proposer.measuring(constraints)
        return self if proposer is self.proposer else dataclasses.replace(self, proposer=proposer)

    def full(self, state: ASHAState) -> bool:
        return bool(self.inner.full(state.inner))

    def nearly_full(self, state: ASHAState) -> bool:
        return bool(self.inner.nearly_full(state.inner))

    def grow(self, state: ASHAState) -> ASHAState:
        return ASHAState(self.inner.grow(state.inner))

    def bind(self, space: Space) -> Bound:
        if self.batch is not None:
            return super().bind(space)
        bound = self.proposer.bind(space)
        return Bound(dataclasses.replace(self, proposer=bound.strategy), bound.space, bound.columns)
