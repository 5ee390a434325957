"""A search in memory whose members are frozen and thawed, one by one."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jhpo.errors import invalid
from jhpo.evaluation.continuing import check_continuable
from jhpo.evaluation.evaluators import Objective, blank_result
from jhpo.evaluation.thawing import Thawed, Thawing
from jhpo.search.driver import Driver
from jhpo.search.generations import Told, minimised_result
from jhpo.search.members import Members, kept_of
from jhpo.search.meter import Meter
from jhpo.search.options import Options
from jhpo.search.record import evaluations_of
from jhpo.search.result import Origin, Result
from jhpo.search.rungs import continuable
from jhpo.search.starts import Starts
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy


class ThawSearch:
    """One search; `run` it once.

    Args:
        objective: a trainable that can be paused.
        space: where.
        strategy: one that thaws members.
        sign: 1.0 to minimise, -1.0 to maximise; what the strategy sees is always minimised.
        options: checked ones; the budget counts members that are begun.

    Raises:
        InvalidArgument: an objective whose training cannot be paused, or is too short for the strategy.
    """

    def __init__(self, objective: Objective, space: Space, strategy: Strategy, sign: float, options: Options) -> None:
        self.space, self.sign, self.root, self.keep = space, sign, options.root(), options.keep
        population = continuable(options.evaluator(objective, space, sign, strategy))
        self.strategy: Any = strategy.lasting(check_continuable(population.trainable)).prepare(options.budget)
        capacity, batch, self._interval = self.strategy.capacity, self.strategy.batch, self.strategy.interval
        if capacity > options.budget:
            raise invalid("budget", f"at least the {capacity} members of the strategy's capacity", options.budget)
        self.pool = Thawing(population, capacity, batch, self._interval, self.root)
        self.meter = Meter(options.rules(sign), options.callback, sign)
        self.driver = Driver(self.strategy, space, self.root)
        self.record = Members(sign, self.pool.length, space.dim)
        self._blank = blank_result(self.strategy, space, options.replicates, measured=population.described.constraints)
        self._told: Told | None = None
        self._parts = 0  # trained so far

    def run(self, starts: Starts | None) -> Result:
        """Search until a rule holds, or the effort is spent."""
        if starts is not None and len(starts.units) > self.strategy.batch:
            raise invalid("start", f"at most {self.strategy.batch} points, the first members", len(starts.units))
        stopped = None
        while stopped is None:
            stopped = self._generation(starts)
        return self._result(stopped, {} if starts is None else dict(enumerate(starts.exact)))

    def _generation(self, starts: Starts | None) -> str | None:
        driver, record = self.driver, self.record
        units = driver.turn(None, self._blank) if self._told is None else driver.turn(*self._told)
        with driver.precision():
            members = np.asarray(self.strategy.members(driver.state), np.int64)
            parts = np.asarray(self.strategy.trained(driver.state), np.int64)
        if starts is not None and driver.generation == 1:
            k = len(starts.units)
            units = np.concatenate([starts.completed(units[:k]).astype(units.dtype), units[k:]])
        there = members >= 0
        if not there.any():
            return "exhausted: every member was trained to its end, or failed"
        result = self.pool.train(units, members, parts)
        begun = there & (parts == 0)
        record.begin(units[begun], driver.generation - 1)
        stops = np.minimum((parts + 1) * self._interval, self.pool.length)
        for stop in np.unique(stops[there]).tolist():
            rows = np.flatnonzero(there & (stops == stop))
            some = jax.tree.map(lambda x, rows=rows: np.asarray(x)[rows], result)
            record.reach(members[rows], some, stop, np.full(len(rows), self.strategy.batch))
        seen = minimised_result(result, self.sign, there, np)
        self._told = Told(units, seen._replace(mask=there, variance=None))
        self._parts += int(there.sum())
        self.meter.steps, whole = self.pool.steps, bool(np.isfinite(record.best))
        stopped = self.meter.report(record.count, driver.generation, record.best, whole, paused=True)
        if stopped is None and self._parts + self.strategy.batch > self.strategy.most:
            stopped = f"effort: {self.pool.steps} steps taken"
        return stopped

    def _result(self, stopped: str, exact: dict[int, dict[str, Any]]) -> Result:
        record, summary = self.record, self.meter.summary(stopped)
        rows = record.rows()
        leader = rows.best(self.sign)
        found = len(leader.ids) > 0
        history, kept = kept_of(evaluations_of(rows), self.keep, self.sign)
        return Result(
            best=self.space.decode(leader.units[0], exact.get(int(leader.numbers[0]))) if found else None,
            value=float(np.asarray(leader.result.value)[0]) if found else float("nan"),
            history=history,
            stopped=stopped,
            seconds=summary.seconds,
            compile_seconds=summary.compile_seconds,
            space=self.space,
            keep=self.keep,
            objectives=None,
            _origin=Origin(self.driver, self._told, Thawed(self.pool), self.root),
            _leader=evaluations_of(leader),
            _sign=self.sign,
            _exact=exact,
            steps=self.pool.steps,
            curves=record.curves(kept),
            occupancy=self.pool.steps / self.pool.places,
        )
