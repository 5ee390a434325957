"""A search in memory whose members are frozen and thawed, one by one."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jhpo.evaluation.evaluators import Objective
from jhpo.evaluation.thawing import Thawed, Thawing
from jhpo.search.driver import Driver
from jhpo.search.generations import Told, minimised_result
from jhpo.search.members import Members
from jhpo.search.options import Options
from jhpo.search.paused import PausedSearch
from jhpo.search.result import Result
from jhpo.search.starts import Starts
from jhpo.search.thawed import check_capacity, effort_spent, nothing_left
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy


class ThawSearch(PausedSearch):
    """One search; see `PausedSearch`. It ends when all that began were trained as far as the strategy wants."""

    def __init__(self, objective: Objective, space: Space, strategy: Strategy, sign: float, options: Options) -> None:
        super().__init__(objective, space, strategy, sign, options)
        limit = self.strategy.max_evaluations(space)
        self._budget = options.budget if limit is None else min(options.budget, limit)
        thaws: Any = self.strategy.prepare(self._budget)
        check_capacity(thaws, options.budget)
        self.thaws, self.first = thaws, thaws.population
        capacity = min(thaws.capacity, self._budget)
        self.pool = Thawing(self.population, capacity, self.first, thaws.interval, self.root)
        self.driver = Driver(thaws, space, self.root)
        self.record = Members(sign, self.pool.length, space.dim)
        self._parts = 0  # trained so far

    def generation(self, starts: Starts | None) -> str | None:
        """Ask, train on, and say whether to stop."""
        driver, record = self.driver, self.record
        units = self.turn(starts)
        members, parts = driver.thawed()
        members = np.where(members < self._budget, members, -1)
        there = members >= 0
        if not there.any():
            return nothing_left(self.thaws, record.count, self._budget)
        result = self.pool.train(units, members, parts)
        begun = there & (parts == 0)
        record.begin(units[begun], driver.generation - 1)
        stops = self.pool.stops(parts)
        for stop in np.unique(stops[there]).tolist():
            rows = np.flatnonzero(there & (stops == stop))
            some = jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], result)
            record.reach(members[rows], some, stop, np.full(len(rows), self.first))
        seen = minimised_result(result, self.sign, there, np)
        self._told = Told(units, seen._replace(mask=there, variance=None))
        self._parts += int(there.sum())
        self.meter.steps, whole = self.pool.steps, bool(np.isfinite(record.best))
        stopped = self.meter.report(record.count, driver.generation, record.best, whole, paused=True)
        return effort_spent(self.thaws, self._parts, self.pool.steps) if stopped is None else stopped

    def result(self, stopped: str, exact: dict[int, dict[str, Any]]) -> Result:
        """What was found."""
        return self.found(stopped, exact, Thawed(self.pool), self.pool.steps, self.pool.places)
