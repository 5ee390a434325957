"""A search in memory: ask, evaluate, tell until a stop rule holds; nothing is stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from jhpo.errors import invalid
from jhpo.evaluation.evaluators import Evaluator, Objective, blank_result, make_evaluator
from jhpo.search.driver import Driver
from jhpo.search.meter import Meter
from jhpo.search.options import Options
from jhpo.search.record import Record, Rows, ranked
from jhpo.search.result import Origin, Result
from jhpo.search.starts import Starts, parts, proposals, read_starts
from jhpo.search.stopping import exhausted
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy
from jhpo.training.metrics import check_direction


def search(objective: Objective, space: Space, strategy: Strategy | None, direction: str, options: Options) -> Result:
    """Search for the best hyperparameters; see `jhpo.minimize`.

    Raises:
        InvalidArgument: an argument that cannot work, before anything is compiled.
        InvalidParameters: a starting point outside the space.
    """
    if not isinstance(space, Space):
        raise invalid("space", "a jhpo.Space", space)
    if strategy is None:
        from jhpo.strategies.pso import swarm_for

        strategy = swarm_for(options.budget)
    if not isinstance(strategy, Strategy):
        raise invalid("strategy", "an instance of a jhpo strategy", strategy)
    check_direction(objective, options.metric, direction)
    starts = read_starts(space, options.start, options.budget)
    made = MemorySearch(objective, space, strategy, 1.0 if direction == "minimize" else -1.0, options)
    return made.run(starts)


class MemorySearch:
    """One search; `run` it once.

    Args:
        objective: what is evaluated.
        space: where.
        strategy: what proposes.
        sign: 1.0 to minimise, -1.0 to maximise; what the strategy sees is always minimised.
        options: checked ones.
    """

    def __init__(self, objective: Objective, space: Space, strategy: Strategy, sign: float, options: Options) -> None:
        self.space, self.sign, self.root = space, sign, options.root()
        self.meter = Meter(options.rules(sign), options.callback, sign)
        self.evaluator: Evaluator = make_evaluator(
            objective, space,
            replicates=options.replicates, metric=options.metric, chunk=options.chunk, devices=options.devices,
        )  # fmt: skip
        if type(strategy).grow is Strategy.grow:  # without growing buffers the budget may be told
            strategy = strategy.prepare(options.budget)
        self.driver = Driver(strategy, space, self.root)
        self.record = Record(sign)
        self._budget = options.budget
        self._limit = strategy.max_evaluations(space)
        self._blank = blank_result(strategy, space, options.replicates)
        self._last: tuple[np.ndarray, Evaluation] | None = None  # what the strategy is told next

    def run(self, starts: Starts | None) -> Result:
        """Search until a rule holds."""
        stopped = None if starts is None else self._begin(starts)
        while stopped is None:
            stopped = self._generation()
        made, exact = self.record.evaluations_made(), {} if starts is None else dict(enumerate(starts.exact))
        order = ranked(made, self.sign)
        summary = self.meter.summary(stopped)
        first = int(order[0]) if len(order) else None
        return Result(
            best=None if first is None else self.space.decode(made.units[first], exact.get(first)),
            value=float("nan") if first is None else float(made.value[first]),
            history=made,
            stopped=stopped,
            seconds=summary.seconds,
            compile_seconds=summary.compile_seconds,
            space=self.space,
            _origin=Origin(self.driver, self._last, self.evaluator, self.root),
            _ranked=order,
            _exact=exact,
        )

    def _begin(self, starts: Starts) -> str | None:
        """Evaluate starting points to the end, and show them to the strategy where its own trainings are as long."""
        driver = self.driver
        units = starts.units if starts.whole else starts.completed(proposals(driver, len(starts.units)))
        request, ids = driver.started(), np.arange(len(units), dtype=np.uint32)
        measured = self.evaluator.evaluate(units, ids, self.root, request._replace(horizon=1.0))
        self.record.add(Rows(units, measured, ids, -1, 1.0))
        if request.horizon == 1.0:
            for rows, told in parts(units, self._signed(measured), driver.strategy.population):
                driver.absorb(rows, told)
        if self._limit is not None:
            self._limit += len(units)  # they are none of the points the strategy goes through
        return self.meter.report(self.record.evaluations, 0, self.record.best, whole=False)

    def _generation(self) -> str | None:
        """Ask, evaluate, and say whether to stop."""
        driver, record = self.driver, self.record
        if self._last is not None:
            units = driver.turn(*self._last)
        else:
            units = driver.turn(None, self._blank) if driver.state is None else driver.ask()
        most = self._budget if self._limit is None else min(self._budget, self._limit)
        taken = min(most - record.evaluations, len(units))
        streams = driver.evaluation_ids(record.evaluations + np.arange(len(units)))[:taken]
        request = driver.request
        measured = self.evaluator.evaluate(units[:taken], streams, self.root, request)
        self._last = (units, _padded(self._signed(measured), len(units)))
        record.add(Rows(units[:taken], measured, streams, driver.generation - 1, request.horizon))
        stopped = self.meter.report(record.evaluations, driver.generation, record.best, request.horizon == 1.0)
        if stopped is None and self._limit is not None and record.evaluations >= self._limit:
            return f"exhausted: {exhausted(self._limit)}"
        return stopped

    def _signed(self, result: Evaluation) -> Evaluation:
        """The result as the strategy sees it: to be minimised."""
        if self.sign > 0:
            return result
        grad = None if result.grad is None else -result.grad
        return result._replace(value=-result.value, grad=grad)


def _padded(result: Evaluation, n: int) -> Evaluation:
    """Rows that were not evaluated any more count as failed."""
    missing = n - len(result.value)
    if not missing:
        return result

    def pad(x: Any) -> Any:
        return None if x is None else np.pad(x, [(0, missing)] + [(0, 0)] * (np.ndim(x) - 1), constant_values=np.nan)

    return Evaluation(*(pad(x) for x in result))
