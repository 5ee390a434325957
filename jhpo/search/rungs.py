"""A search in memory whose members are paused at rungs, the survivors of each trained on."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jhpo.evaluation.continuing import Continuing
from jhpo.evaluation.evaluators import Objective
from jhpo.evaluation.paused import check_continuable
from jhpo.evaluation.repeating import Repeater
from jhpo.search.driver import Driver
from jhpo.search.generations import Told, minimised_result
from jhpo.search.members import Members
from jhpo.search.options import Options
from jhpo.search.paused import PausedSearch
from jhpo.search.record import padded
from jhpo.search.result import Result
from jhpo.search.starts import Starts
from jhpo.search.stopping import exhausted
from jhpo.space.space import Space
from jhpo.strategies.base import Rung, Strategy


class RungSearch(PausedSearch):
    """One search; see `PausedSearch`."""

    def __init__(self, objective: Objective, space: Space, strategy: Strategy, sign: float, options: Options) -> None:
        super().__init__(objective, space, strategy, sign, options)
        self.rungs = self.strategy.rungs(check_continuable(self.population.trainable))
        self.members = Continuing(self.population, self.rungs)
        self.first = self.rungs[0].size
        self.driver = Driver(self.strategy.prepare(options.budget), space, self.root)
        self.record = Members(sign, self.members.length, space.dim, self.strategy.evolves)
        self._limit = self.strategy.max_evaluations(space)
        self._budget = options.budget if self._limit is None else min(options.budget, self._limit)
        self._ids = np.empty(0, np.int64)  # of the members of the last generation

    def generation(self, starts: Starts | None) -> str | None:
        """Ask, train on, and say whether to stop."""
        driver = self.driver
        rung = self.rungs[driver.generation % len(self.rungs)]
        units = self.turn(starts)
        result = self._train(rung, units)
        there = np.arange(len(units)) < len(self._ids)
        seen = minimised_result(padded(result, len(units)), self.sign, there, np)
        self._told = Told(units, seen._replace(mask=there, variance=None))
        whole = rung.stop == self.record.length
        paused = self.rungs[driver.generation % len(self.rungs)].start > 0
        self.meter.steps = self.members.steps
        stopped = self.meter.report(self.record.count, driver.generation, self.record.best, whole, paused)
        if stopped is None and not paused and self._limit is not None and self.record.count >= self._limit:
            stopped = f"exhausted: {exhausted(self._limit)}"
        return stopped

    def _train(self, rung: Rung, units: np.ndarray) -> Any:
        """The results of a generation; `_ids` are those of its members, which may be none."""
        members, record = self.members, self.record
        if rung.start:
            parents = self.driver.live_parents()
            units, sources = units[: len(parents)], self._ids[parents]
            self._ids = self._ids[: len(parents)] if record.evolves else sources
            if not len(parents):
                return self._nothing()
            result = members.further(parents, units, rung.stop)
        else:
            units = units[: min(rung.size, self._budget - record.count)]
            self._ids = sources = record.begin(units, self.driver.generation - 1)
            result = members.begin(units, self._ids, self.root, rung.stop)
        if record.evolves:
            record.take_over(self._ids, sources, units, rung.stop)
        record.reach(self._ids, result, rung.stop, members.widths)
        return result

    def _nothing(self) -> Any:
        """The results of a generation whose members have all failed before."""
        return jax.tree.map(lambda x: x[:0], self._blank)

    def result(self, stopped: str, exact: dict[int, dict[str, Any]]) -> Result:
        """What was found."""
        members, record = self.members, self.record
        again = Repeater(self.population, record.widths(), record.lineage())
        return self.found(stopped, exact, again, members.steps, members.places)
