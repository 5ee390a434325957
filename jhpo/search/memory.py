"""A search in memory: ask, evaluate, tell until a stop rule holds; nothing is stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from jhpo.evaluation.evaluators import Evaluator, Objective, blank_result, in_use
from jhpo.evaluation.stopping import StoppingPopulation
from jhpo.objectives import Sign
from jhpo.search.conclusion import result_of
from jhpo.search.cuts import Cut
from jhpo.search.driver import Driver
from jhpo.search.evaluator import SearchEvaluator
from jhpo.search.generations import Told, minimised_result
from jhpo.search.meter import Meter
from jhpo.search.options import Options
from jhpo.search.record import Record, Rows, curves_of, evaluations_of, padded
from jhpo.search.result import Origin, Result
from jhpo.search.starts import Starts, parts, proposals
from jhpo.search.stopping import exhausted
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request, Strategy


class MemorySearch:
    """One search; `run` it once.

    Args:
        objective: evaluates the points.
        space: the search space.
        strategy: proposes the points; its values are always minimised.
        sign: 1.0 to minimise, -1.0 to maximise; with several objectives, those of the options hold.
        options: checked options.
    """

    def __init__(self, objective: Objective, space: Space, strategy: Strategy, sign: float, options: Options) -> None:
        self.objectives = options.objectives
        signs: Sign = sign if self.objectives is None else self.objectives.signs
        sign = float(np.ravel(signs)[0])
        self.space, self.sign, self.signs, self.root = space, sign, signs, options.root()
        self.meter = Meter(options.rules(sign), options.callback, sign)
        evaluator = options.evaluator(objective, space, sign, strategy)
        measured = evaluator.described.constraints
        strategy = strategy.measuring(measured)
        if type(strategy).grow is Strategy.grow:  # buffers that do not grow are sized by the budget
            strategy = strategy.prepare(options.budget)
        self.driver = Driver(strategy, space, self.root)
        self.record = Record(sign, options.keep)
        self.evaluator = SearchEvaluator(self.driver, evaluator, signs, keep=options.keep)
        self._limit = strategy.max_evaluations(space)
        self._budget = options.budget
        self._blank = blank_result(strategy, space, options.repeats, np.size(signs), measured)
        self._told: Told | None = None  # what the strategy is told next

    def run(self, starts: Starts | None) -> Result:
        """Search until a rule holds."""
        with in_use(self.evaluator.evaluator):
            stopped = None if starts is None else self._begin(starts)
            while stopped is None:
                cut = self._block()
                stopped = self._generation() if cut is None else cut.stopped
                if stopped is None and self._limit is not None and self.record.evaluations >= self._limit:
                    stopped = f"exhausted: {exhausted(self._limit)}"
        return self._result(stopped, {} if starts is None else dict(enumerate(starts.exact)))

    def _result(self, stopped: str, exact: dict[int, dict[str, Any]]) -> Result:
        leader = self.record.leader
        assert leader is not None
        rows = self.record.rows()
        objectives = self.objectives
        if objectives is not None:
            objectives = objectives.named(self.evaluator.evaluator.described.names)
        return result_of(
            evaluations_of(rows), leader, self.meter.summary(stopped),
            Origin(self.driver, self._told, self.evaluator.evaluator, self.root),
            space=self.space, sign=self.sign, exact=exact, keep=self.record.keep, objectives=objectives,
            curves=curves_of(rows), work=_work(self.evaluator.evaluator),
        )  # fmt: skip

    def _begin(self, starts: Starts) -> str | None:
        """Evaluate the starting points at full horizon; the strategy learns from them if it starts at that horizon."""
        driver = self.driver
        units, gaps = starts.units.copy(), list(starts.gaps)
        if gaps:
            units[gaps] = proposals(driver, self._blank, len(gaps))
            units = starts.completed(units)
        request, ids = driver.started(), np.arange(len(units), dtype=np.uint32)
        measured = self.evaluator.evaluate(units, ids, request._replace(horizon=1.0))
        self.record.add(rows_of(units, measured, ids, 0, -1, 1.0))
        if request.horizon == 1.0:
            every = np.ones(len(units), np.bool_)
            for rows, told in parts(
                units, minimised_result(measured, self.signs, every, np), driver.strategy.population
            ):
                driver.absorb(rows, told)
        if self._limit is not None:
            self._limit += len(units)  # starting points do not count as points of the strategy
        return self.meter.report(self.record.evaluations, 0, self.record.best, whole=False)

    @property
    def _begun(self) -> int:
        """Evaluations that have begun."""
        return self.record.evaluations

    @property
    def _room(self) -> int:
        """Evaluations left."""
        most = self._budget if self._limit is None else min(self._budget, self._limit)
        return most - self._begun

    def _block(self) -> Cut | None:
        """Several generations in one program; None where the host has something to do between them."""
        driver, record = self.driver, self.record
        if self._told is None and driver.state is not None:
            return None
        cut = self.evaluator.next_cut(
            self.meter, driver.place, self._told, room=self._room, trial=record.evaluations, best=record.best
        )
        if cut is not None:
            driver.place, self._told = cut.block.place, cut.block.told
            record.add_kept(cut.everything(), cut.leaders(), cut.evaluations)
            self.meter.hear(cut.progress, cut.horizon == 1.0)
        return cut

    def _masked(self, result: Evaluation, there: np.ndarray) -> Evaluation:
        """The result with the mask that steady strategies also get in a `Study`, so that both searches are equal."""
        return result._replace(mask=there) if self.driver.strategy.steady else result

    def _generation(self) -> str | None:
        """Ask, evaluate, and say whether to stop."""
        units, ids, request = self._ask()
        measured = self.evaluator.evaluate(units[: len(ids)], ids, request, rows=len(units))
        return self._learn(units, ids, measured, request)

    def _ask(self) -> tuple[np.ndarray, np.ndarray, Request]:
        """The next generation, ids for the keys of as many of it as the budget has room for, and what is requested."""
        driver = self.driver
        if self._told is not None:
            units = driver.turn(*self._told)
        else:
            units = driver.turn(None, self._blank) if driver.state is None else driver.ask(self._blank)
        ids = driver.evaluation_ids(self._begun + np.arange(len(units)))
        return units, ids[: self._room], driver.request

    def _learn(self, units: np.ndarray, ids: np.ndarray, measured: Evaluation, request: Request) -> str | None:
        """Record a generation that was evaluated, and say whether to stop; the strategy is told before the next."""
        driver, record = self.driver, self.record
        there = np.arange(len(units)) < len(ids)
        seen = minimised_result(padded(measured, len(units)), self.signs, there, np)
        self._told = Told(units, self._masked(seen, there))
        horizon = request.horizon
        record.add(rows_of(units[: len(ids)], measured, ids, record.evaluations, driver.generation - 1, horizon))
        return self.meter.report(record.evaluations, driver.generation, record.best, horizon == 1.0)


def _work(evaluator: Evaluator) -> tuple[int, int] | None:
    """Steps taken by members and steps computed, where members may be stopped."""
    if not isinstance(evaluator, StoppingPopulation) or not evaluator.places:
        return None
    return evaluator.steps, evaluator.places


def rows_of(
    units: np.ndarray, result: Evaluation, ids: np.ndarray, first: int, generation: int, horizon: float
) -> Rows:
    """The trials of a generation, numbered from `first` on."""
    n = len(units)
    numbers, generations, share = first + np.arange(n), np.full(n, generation, np.int32), np.full(n, horizon)
    if result.stages is not None and result.stages.length is not None:  # members of a trainable, with steps of its own
        share = result.stages.step.max(axis=1) / result.stages.length
    return Rows(units, result, np.asarray(ids), numbers, generations, share)
