"""The arguments of `minimize` and `maximize`, as one record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypedDict

import jax

from jhpo.curves.rules import EarlyStop
from jhpo.errors import check_integer, invalid
from jhpo.evaluation.evaluators import Evaluator, Objective, make_evaluator
from jhpo.keys import root_key, typed_key
from jhpo.objectives import Directions, Objectives, read_directions
from jhpo.programs.devices import Devices, check_clock
from jhpo.search.keep import Keep, check_keep
from jhpo.search.meter import Callback
from jhpo.search.stopping import StopRule, StopRules, check_rules, own_rules
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy
from jhpo.strategies.early_stop import check_fold_by_fold, rule_of
from jhpo.training.crossvalidation import check_folds


class SearchOptions(TypedDict, total=False):
    """Keyword arguments that are passed on to `minimize`, all optional."""

    budget: int
    key: jax.Array | None
    seed: int
    replicates: int
    folds: int
    fold_by_fold: bool
    metric: str | None
    chunk: int | str | None
    devices: Devices | None
    generations: int | None
    seconds: float | None
    target: float | None
    patience: int | None
    tolerance: float | None
    stop: StopRule | Sequence[StopRule] | None
    callback: Callback | None
    start: Sequence[Any] | dict[str, Any] | None
    keep: Keep
    early_stop: EarlyStop | str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a search in memory, documented in `jhpo.minimize`.

    Raises:
        InvalidArgument: an invalid value.

    >>> Options(budget=0)
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: budget: expected an integer >= 1, got 0
    """

    budget: int = 1024
    key: jax.Array | None = None
    seed: int = 0
    replicates: int = 1
    folds: int = 1
    fold_by_fold: bool = False
    metric: str | None = None
    chunk: int | str | None = None
    devices: Devices | None = None
    generations: int | None = None
    seconds: float | None = None
    target: float | None = None
    patience: int | None = None
    tolerance: float | None = None
    stop: StopRule | Sequence[StopRule] | None = None
    callback: Callback | None = None
    start: Sequence[Any] | dict[str, Any] | None = None
    keep: Keep = "all"
    directions: Directions | None = None
    early_stop: EarlyStop | str | None = None

    def __post_init__(self) -> None:
        check_integer("budget", self.budget)
        check_folds(self.folds, self.fold_by_fold)
        check_keep(self.keep)
        check_clock(self.seconds, self.devices)
        self.rules(1.0)
        objectives = self.objectives
        check_rules(objectives, self.target, self.patience, self.tolerance)
        if objectives is not None and self.keep != "all":
            raise invalid("keep", "'all' with several objectives, whose front needs every trial", self.keep)

    @property
    def objectives(self) -> Objectives | None:
        """The objectives if there are several, otherwise None."""
        return read_directions(self.directions)

    def rules(self, sign: float) -> StopRules:
        """The stop rules for values to be minimised; `sign` is -1.0 if the search maximises."""
        rules = StopRules(
            self.budget, self.generations, self.seconds, self.target, self.patience, self.tolerance,
            own_rules(self.stop),
        )  # fmt: skip
        return rules.turned(sign)

    @property
    def repeats(self) -> int:
        """Values of which a member's is the mean: replicates times folds."""
        return self.replicates * self.folds

    def root(self) -> jax.Array:
        """The root key, from `key` or from `seed`."""
        return root_key(self.seed) if self.key is None else typed_key(self.key)

    def evaluator(self, objective: Objective, space: Space, sign: float, strategy: Strategy) -> Evaluator:
        """What evaluates the generations of a search, in the direction `sign`."""
        check_fold_by_fold(strategy, self.fold_by_fold)
        return make_evaluator(
            objective, space,
            replicates=self.replicates, folds=self.folds, fold_by_fold=self.fold_by_fold,
            metric=self.metric, objectives=self.objectives, chunk=self.chunk, devices=self.devices, sign=sign,
            early_stop=rule_of(strategy, self.early_stop, self.objectives),
        )  # fmt: skip
