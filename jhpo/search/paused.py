"""What searches in memory share whose members are paused and trained on."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np

from jhpo.errors import invalid
from jhpo.evaluation.evaluators import Objective, blank_result, continuable
from jhpo.evaluation.paused import check_continuable
from jhpo.evaluation.repeating import Repeater
from jhpo.evaluation.thawing import Thawed
from jhpo.search.conclusion import result_of
from jhpo.search.driver import Driver
from jhpo.search.generations import Told
from jhpo.search.members import Members, kept_of
from jhpo.search.meter import Meter
from jhpo.search.options import Options
from jhpo.search.record import evaluations_of
from jhpo.search.result import Origin, Result
from jhpo.search.starts import Starts
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy


class PausedSearch(abc.ABC):
    """One search; `run` it once.

    Args:
        objective: a trainable that can be paused.
        space: where.
        strategy: one that continues members.
        sign: 1.0 to minimise, -1.0 to maximise; what the strategy sees is always minimised.
        options: checked ones; the budget counts members that are begun.

    Raises:
        InvalidArgument: an objective whose training cannot be paused, or is too short for the strategy.
    """

    driver: Driver
    record: Members
    first: int  # members begun in the first generation

    def __init__(self, objective: Objective, space: Space, strategy: Strategy, sign: float, options: Options) -> None:
        self.space, self.sign, self.root, self.keep = space, sign, options.root(), options.keep
        self.population = continuable(options.evaluator(objective, space, sign, strategy))
        self.strategy = strategy.lasting(check_continuable(self.population.trainable))
        self.meter = Meter(options.rules(sign), options.callback, sign)
        measured = self.population.described.constraints
        self._blank = blank_result(self.strategy, space, options.repeats, measured=measured)
        self._told: Told | None = None

    def run(self, starts: Starts | None) -> Result:
        """Search until a rule holds."""
        if starts is not None and len(starts.units) > self.first:
            raise invalid("start", f"at most {self.first} points, the first members", len(starts.units))
        stopped = None
        while stopped is None:
            stopped = self.generation(starts)
        return self.result(stopped, {} if starts is None else dict(enumerate(starts.exact)))

    @abc.abstractmethod
    def generation(self, starts: Starts | None) -> str | None:
        """Ask, train on, and say whether to stop."""

    @abc.abstractmethod
    def result(self, stopped: str, exact: dict[int, dict[str, Any]]) -> Result:
        """What was found, with the numbers of the starting points as they were given."""

    def turn(self, starts: Starts | None) -> np.ndarray:
        """The next points, with those given to begin with among the first."""
        driver = self.driver
        units = driver.turn(None, self._blank) if self._told is None else driver.turn(*self._told)
        if starts is not None and driver.generation == 1:
            k = len(starts.units)
            units = np.concatenate([starts.completed(units[:k]).astype(units.dtype), units[k:]])
        return units

    def found(
        self, stopped: str, exact: dict[int, dict[str, Any]], again: Repeater | Thawed, steps: int, places: int
    ) -> Result:
        """The result of a search.

        Args:
            stopped: the reason for the end.
            exact: numbers of the starting points as they were given.
            again: trains members once more, for their states.
            steps: taken by all members.
            places: steps that were computed, those of empty places included.
        """
        rows = self.record.rows()
        history, kept = kept_of(evaluations_of(rows), self.keep, self.sign)
        return result_of(
            history, rows.best(self.sign), self.meter.summary(stopped),
            Origin(self.driver, self._told, again, self.root),
            space=self.space, sign=self.sign, exact=exact, keep=self.keep,
            curves=self.record.curves(kept), lineage=self.record.lineage(), work=(steps, places),
        )  # fmt: skip
