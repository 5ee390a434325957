"""A search in memory whose members are paused at rungs, the survivors of each trained on."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jhpo.errors import invalid
from jhpo.evaluation.continuing import Continuing, check_continuable
from jhpo.evaluation.evaluators import Evaluator, Objective, blank_result
from jhpo.evaluation.population import Population
from jhpo.evaluation.repeating import Repeater
from jhpo.search.driver import Driver
from jhpo.search.generations import Told, minimised_result
from jhpo.search.members import Members, kept_of
from jhpo.search.meter import Meter
from jhpo.search.options import Options
from jhpo.search.record import evaluations_of, padded
from jhpo.search.result import Origin, Result
from jhpo.search.starts import Starts
from jhpo.search.stopping import exhausted
from jhpo.space.space import Space
from jhpo.strategies.base import Rung, Strategy


class RungSearch:
    """One search; `run` it once.

    Args:
        objective: a trainable that can be paused.
        space: where.
        strategy: one that pauses members.
        sign: 1.0 to minimise, -1.0 to maximise; what the strategy sees is always minimised.
        options: checked ones; the budget counts members that are begun.

    Raises:
        InvalidArgument: an objective whose training cannot be paused, or is too short for the strategy.
    """

    def __init__(self, objective: Objective, space: Space, strategy: Strategy, sign: float, options: Options) -> None:
        self.space, self.sign, self.root, self.keep = space, sign, options.root(), options.keep
        population = continuable(options.evaluator(objective, space, sign, strategy))
        strategy = strategy.lasting(check_continuable(population.trainable))
        self.members = Continuing(population)
        self.rungs = strategy.rungs(self.members.length)
        self.meter = Meter(options.rules(sign), options.callback, sign)
        self._limit = strategy.max_evaluations(space)
        self.driver = Driver(strategy.prepare(options.budget), space, self.root)
        self.record = Members(sign, self.members.length, space.dim, strategy.evolves)
        self._budget = options.budget if self._limit is None else min(options.budget, self._limit)
        measured = population.described.constraints
        self._blank = blank_result(strategy, space, options.replicates, measured=measured)
        self._told: Told | None = None
        self._ids = np.empty(0, np.int64)  # of the members of the last generation

    def run(self, starts: Starts | None) -> Result:
        """Search until a rule holds."""
        if starts is not None and len(starts.units) > self.rungs[0].size:
            raise invalid("start", f"at most {self.rungs[0].size} points, the first members", len(starts.units))
        stopped = None
        while stopped is None:
            stopped = self._generation(starts)
        return self._result(stopped, {} if starts is None else dict(enumerate(starts.exact)))

    def _generation(self, starts: Starts | None) -> str | None:
        """Ask, train on, and say whether to stop."""
        driver = self.driver
        rung = self.rungs[driver.generation % len(self.rungs)]
        units = driver.turn(None, self._blank) if self._told is None else driver.turn(*self._told)
        if starts is not None and not driver.generation - 1:
            k = len(starts.units)
            units = np.concatenate([starts.completed(units[:k]).astype(units.dtype), units[k:]])
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
            parents = live_parents(self.driver)
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

    def _result(self, stopped: str, exact: dict[int, dict[str, Any]]) -> Result:
        record, members, summary = self.record, self.members, self.meter.summary(stopped)
        rows = record.rows()
        leader = rows.best(self.sign)
        found = len(leader.ids) > 0
        again = Repeater(members.population, record.widths(), record.lineage())
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
            _origin=Origin(self.driver, self._told, again, self.root),
            _leader=evaluations_of(leader),
            _sign=self.sign,
            _exact=exact,
            steps=members.steps,
            curves=record.curves(kept),
            _lineage=record.lineage(),
            occupancy=members.steps / members.places,
        )


def continuable(evaluator: Evaluator) -> Population:
    """An evaluator as a population, whose members can be paused.

    Raises:
        InvalidArgument: it is another one.
    """
    if not isinstance(evaluator, Population):
        expected = "a trainable, whose training can be paused and continued"
        raise invalid("objective", expected, type(evaluator).__name__)
    return evaluator


def live_parents(driver: Driver) -> np.ndarray:
    """``int64[k]``: rows of the last generation that the generation asked for continues."""
    with driver.precision():
        parents = np.asarray(driver.strategy.parents(driver.state), np.int64)
    return parents[parents >= 0]
