"""What a file offers to ``jhpo tune``: an objective, its space, and default options of the search."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Unpack

from jhpo.curves.rules import EarlyStop, check_early_stop
from jhpo.errors import check_integer, check_number, invalid
from jhpo.evaluation.evaluators import Objective
from jhpo.objectives import DIRECTIONS, Directions, Objectives, read_directions
from jhpo.search.minimize import maximize, minimize
from jhpo.search.options import SearchOptions
from jhpo.search.result import Result
from jhpo.search.stopping import check_rules
from jhpo.space.given import check_space
from jhpo.space.space import Space
from jhpo.strategies import as_strategy
from jhpo.strategies.base import Strategy
from jhpo.training.crossvalidation import check_folds
from jhpo.training.metrics import direction_of
from jhpo.words.advice import advised, answer


@advised
@dataclasses.dataclass(frozen=True)
class Tuning:
    """An objective and everything that belongs to tuning it; ``jhpo tune FILE.py`` looks for one named ``tuning``.

    Args:
      objective: a trainable, a function ``objective(hp)`` or ``objective(hp, key)``, or a `jhpo.host` function.
      space: where to search.
      strategy: an instance or a registered name; as in `jhpo.minimize` if None. The command line's ``--strategy`` wins.
      budget: evaluations, 1,024 if None; ``--budget`` wins.
      direction: "minimize" or "maximize"; that of the metric if None, and "minimize" where none is known.
        ``--direction`` wins.
      metric: name of the value if the evaluation returns a dict; ``--metric`` wins.
      replicates: evaluations of every member with different keys.
      folds: parts of the data on which every member is trained and measured, see `jhpo.minimize`; ``--folds`` wins.
      fold_by_fold: one fold after the other, see `jhpo.minimize`; ``--fold-by-fold`` wins.
      target: stop at a value this good.
      early_stop: a rule that stops trials early, see `jhpo.minimize`; ``--early-stop`` wins.
      directions: of several objectives, see `jhpo.minimize`; ``--direction minimize,maximize`` wins. The default
        strategy is then `jhpo.BayesOpt` or `jhpo.NSGA2`.

    Raises:
      InvalidArgument: an invalid argument.

    >>> import jhpo
    >>> tuning = Tuning(lambda hp: (hp["x"] - 1.0) ** 2, jhpo.Space({"x": jhpo.Float(0.0, 2.0)}), "greedy", budget=256)
    >>> round(tuning.run(seed=1).best["x"], 1)
    1.0
    """

    objective: Objective
    space: Space
    strategy: Strategy | str | None = None
    budget: int | None = None
    direction: str | None = None
    metric: str | None = None
    replicates: int = 1
    target: float | None = None
    directions: Directions | None = None
    early_stop: EarlyStop | str | None = None
    folds: int = 1
    fold_by_fold: bool = False

    def __post_init__(self) -> None:
        if not callable(self.objective) and not hasattr(self.objective, "evaluate"):
            if not hasattr(self.objective, "evaluator"):
                raise invalid("objective", "a trainable, a function, or a jhpo.host function", self.objective)
        check_space(self.space)
        if self.strategy is not None:
            as_strategy(self.strategy)
        if self.budget is not None:
            check_integer("budget", self.budget)
        if self.directions is not None:
            read_directions(self.directions, self.direction or "minimize")
            check_rules(self.objectives, self.target, None, None)
        if self.direction is None:
            object.__setattr__(self, "direction", direction_of(self.objective, self.metric) or "minimize")
        if self.direction not in DIRECTIONS:
            raise invalid("direction", f"one of {DIRECTIONS}", self.direction)
        check_integer("replicates", self.replicates)
        check_folds(self.folds, self.fold_by_fold)
        if self.target is not None:
            check_number("target", self.target)
        check_early_stop(self.early_stop)

    @property
    def objectives(self) -> Objectives | None:
        """The objectives, or None if there is only one."""
        return read_directions(self.directions)

    def run(self, strategy: Strategy | str | None = None, **options: Unpack[SearchOptions]) -> Result:
        """Search in memory: `jhpo.minimize` or `jhpo.maximize`, whose options (``seed``, ``budget``, ...) these are.

        Raises:
            TypeError: they do not have such an option.
        """
        for name in options.keys() - SearchOptions.__annotations__:
            own = name in inspect.signature(type(self)).parameters
            advice = (
                f"it is an argument of {type(self).__name__}" if own else answer(name, SearchOptions.__annotations__)
            )
            text = f"{type(self).__name__}.run() got an unexpected keyword argument {name!r}"
            raise TypeError(f"{text}{'; ' * bool(advice)}{advice}")
        strategy = self.strategy if strategy is None else strategy
        given = SearchOptions(metric=self.metric, replicates=self.replicates, folds=self.folds, target=self.target)
        given["fold_by_fold"] = self.fold_by_fold
        if self.early_stop is not None:
            given["early_stop"] = self.early_stop
        if self.budget is not None:
            given["budget"] = self.budget
        given.update(options)
        if self.directions is not None:
            return minimize(self.objective, self.space, strategy, directions=self.directions, **given)
        search = minimize if self.direction == "minimize" else maximize
        return search(self.objective, self.space, strategy, **given)
