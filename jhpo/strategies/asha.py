"""ASHA: asynchronous successive halving of functions that report their values while they run."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax

from jhpo.curves.rules import HalvingStopping
from jhpo.errors import invalid
from jhpo.space.space import Space
from jhpo.strategies import read_inner
from jhpo.strategies.base import Bound, Evaluation, Request, State, Strategy, static_field, strategy
from jhpo.strategies.random import RandomSearch


class ASHAState(NamedTuple):
    """The state of what chooses the trials."""

    proposer: State


@strategy
class ASHA(Strategy):
    """Asynchronous successive halving: a trial goes on at a rung while it is among the best of those that were there.

    For `jhpo.host` functions that report, ``fn(params, trial)``: at the rungs ``min_steps``, ``eta * min_steps``, ... a
    trial is compared with all that have reached the rung so far, those of other workers and earlier sessions too, and
    stops unless it is among the best ``1 / eta``. Nobody waits: a free worker begins the next trial at once (Li et al.
    2020; the variant that stops trials instead of pausing them, see `HalvingStopping`). Those that were stopped are
    PRUNED, count towards the budget, and tell the proposer the last value that they had.

    For trainables there are `SuccessiveHalving` and `Hyperband`, which compact the survivors on the device.

    Args:
      eta: reduction factor, an integer of at least 2.
      min_steps: the first rung, in the steps that the function reports.
      max_steps: where trainings end, so that nobody is stopped there; None if that is not known.
      proposer: a steady strategy that chooses the trials, an instance or a name, such as `BayesOpt`; random if None.

    Raises:
      InvalidArgument: an option outside its range, or a proposer of another kind.

    >>> import jhpo
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
    """

    eta: int = static_field(default=3)
    min_steps: int = static_field(default=1)
    max_steps: int | None = static_field(default=None)
    proposer: Any = None
    steady = True

    def __post_init__(self) -> None:
        HalvingStopping(self.eta, self.min_steps, self.max_steps)  # checks the options
        proposer = read_inner("proposer", self.proposer, optional=True)
        object.__setattr__(self, "proposer", RandomSearch(1) if proposer is None else proposer)
        if isinstance(self.proposer, Strategy) and (not self.proposer.steady or self.proposer.early_stop is not None):
            expected = "a strategy that can be asked while results are pending, such as BayesOpt or RandomSearch"
            raise invalid("proposer", expected, type(self.proposer).__name__)

    @property
    def early_stop(self) -> HalvingStopping:  # type: ignore[override]
        """The rule by which trials are stopped."""
        return HalvingStopping(self.eta, self.min_steps, self.max_steps)

    # -- everything else is the proposer's ------------------------------------------------------------------

    @property
    def population(self) -> int:
        return int(self.proposer.population)

    @property
    def host_float64(self) -> bool:  # type: ignore[override]
        """As the proposer."""
        return bool(self.proposer.host_float64)

    @property
    def compiled_quickly(self) -> bool:  # type: ignore[override]
        """As the proposer."""
        return bool(self.proposer.compiled_quickly)

    def max_evaluations(self, space: Space) -> int | None:
        limit: int | None = self.proposer.max_evaluations(space)
        return limit

    def request(self, state: ASHAState) -> Request:
        requested: Request = self.proposer.request(state.proposer)
        return requested

    def init(self, space: Space, key: jax.Array) -> ASHAState:
        return ASHAState(self.proposer.init(space, key))

    def ask(self, state: ASHAState, key: jax.Array) -> tuple[jax.Array, ASHAState]:
        units, proposer = self.proposer.ask(state.proposer, key)
        return units, ASHAState(proposer)

    def tell(self, state: ASHAState, units: jax.Array, result: Evaluation) -> ASHAState:
        return ASHAState(self.proposer.tell(state.proposer, units, result))

    def absorb(self, state: ASHAState, units: jax.Array, result: Evaluation) -> ASHAState:
        return ASHAState(self.proposer.absorb(state.proposer, units, result))

    def expect(self, state: ASHAState, units: jax.Array, mask: jax.Array) -> ASHAState:
        return ASHAState(self.proposer.expect(state.proposer, units, mask))

    def prepare(self, evaluations: int) -> Any:
        return dataclasses.replace(self, proposer=self.proposer.prepare(evaluations))

    def full(self, state: ASHAState) -> bool:
        return bool(self.proposer.full(state.proposer))

    def nearly_full(self, state: ASHAState) -> bool:
        return bool(self.proposer.nearly_full(state.proposer))

    def grow(self, state: ASHAState) -> ASHAState:
        return ASHAState(self.proposer.grow(state.proposer))

    def bind(self, space: Space) -> Bound:
        bound = self.proposer.bind(space)
        return Bound(dataclasses.replace(self, proposer=bound.strategy), bound.space, bound.columns)
