"""Host functions in a search in memory: rules hold as results come, and workers do not wait for one another."""

from __future__ import annotations

import contextlib
import functools
import queue
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jhpo.evaluation.evaluators import Objective
from jhpo.evaluation.executors.generations import HostEvaluator, Runs
from jhpo.evaluation.measures import measure_constraints
from jhpo.evaluation.outcome import mean_constraint
from jhpo.search.generations import Told, minimised_result
from jhpo.search.memory import MemorySearch, rows_of
from jhpo.search.options import Options
from jhpo.search.record import scattered
from jhpo.search.starts import parts
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request, Strategy

_POLL_SECONDS = 0.1  # between looks at the clock while no result comes


class _Handed:
    """A generation whose members are being evaluated."""

    def __init__(self, asked: np.ndarray, ids: np.ndarray, runs: Sequence[Runs], generation: int) -> None:
        self.asked, self.units = asked, asked[: len(ids)]  # those that are evaluated
        self.ids, self.runs, self.generation = ids, runs, generation
        self.ended = np.zeros(len(runs), np.bool_)

    @property
    def left(self) -> int:
        """Members that have not ended."""
        return len(self.runs) - int(self.ended.sum())


class HostSearch(MemorySearch):
    """The same search of a host function.

    A strategy that can be asked while points are pending, and asks for fewer at a time than there are workers, is asked
    whenever a worker is free. Otherwise a generation ends with its last member, as that of a traced function.
    """

    def __init__(self, objective: Objective, space: Space, strategy: Strategy, sign: float, options: Options) -> None:
        super().__init__(objective, space, strategy, sign, options)
        host, asked = self.evaluator.evaluator, self.driver.strategy
        assert isinstance(host, HostEvaluator)
        self._host = host
        self._flows = asked.steady and asked.population < host.workers
        self._handed: list[_Handed] = []  # generations of which some are evaluated, the newest last
        self._late: list[
            tuple[np.ndarray, Runs]
        ] = []  # those that ended after the strategy was told of their generation
        self._like: Evaluation | None = None  # a result, for its columns
        self._ended: queue.SimpleQueue[tuple[_Handed, int]] = queue.SimpleQueue()

    @property
    def _held(self) -> int:
        """Evaluations that have not ended."""
        return sum(handed.left for handed in self._handed)

    @property
    def _begun(self) -> int:
        return self.record.evaluations + self._held

    def _generation(self) -> str | None:
        return self._flow() if self._flows else self._whole()

    def _whole(self) -> str | None:
        """One generation; a rule may hold before all of it has ended."""
        units, ids, request = self._ask()
        handed, best, stopped = self._hand_out(units, ids, request), self.record.best, None
        feasible = _feasible(measure_constraints(self.space, np.asarray(handed.units, np.float64)), len(ids))
        while stopped is None and handed.left:
            rows = [row for _, row in self._wait()]
            handed.ended[rows] = True
            for row in rows:
                best = float(np.fmin(best, self._lowest(handed.runs[row], feasible[row])))
            done = self.record.evaluations + len(ids) - handed.left
            if handed.left and rows:
                stopped = self.meter.report(done, self.driver.generation - 1, best, whole=False)
            elif handed.left and done:  # a search ends with one result at least
                stopped = self.meter.report_time(self.driver.generation - 1)
        there = np.flatnonzero(handed.ended).tolist()
        self._handed.clear()
        if not there:  # a rule held before any of them had ended
            self._tell(units, [], None)
            return stopped
        measured = self._host.finished(handed.units[there], [handed.runs[row] for row in there])
        if stopped is None:
            return self._learn(units, ids, measured, request)
        self._tell(units, there, measured)
        self._record(handed, there, measured)
        return stopped

    def _flow(self) -> str | None:
        """Hand out one generation, and wait for free workers; the strategy learns what has ended by then."""
        if self._room > 0:
            self._absorb()
            units, ids, request = self._ask()
            self._hand_out(units, ids, request)
            self._tell(units, [], None)
        stopped = None
        while stopped is None and self._held and (self._room < 1 or self._held >= self._host.workers):
            stopped = self._gather()
        if stopped is not None:
            self._absorb()
        return stopped

    def _gather(self) -> str | None:
        """Record what has ended, and say whether to stop."""
        came, newest, whole = self._wait(), self._handed[-1], False
        for handed, row in came:
            handed.ended[row] = True
            measured = self._host.finished(handed.units[row : row + 1], [handed.runs[row]])
            self._like = measured if self._like is None or measured.constraint is not None else self._like
            self._record(handed, [row], measured)
            if handed is not newest:
                self._late.append((handed.units[row], handed.runs[row]))
            whole |= not handed.left
        there = np.flatnonzero(newest.ended).tolist()
        if there:
            self._tell(
                newest.asked, there, self._host.results(newest.units[there], [newest.runs[row] for row in there])
            )
        self._handed = [handed for handed in self._handed if handed.left or handed is newest]
        closed = self.driver.generation - sum(handed.left > 0 for handed in self._handed)
        if came:
            return self.meter.report(self.record.evaluations, closed, self.record.best, whole)
        return self.meter.report_time(closed) if self.record.evaluations else None

    def _hand_out(self, units: np.ndarray, ids: np.ndarray, request: Request) -> _Handed:
        """Hand members to the workers; `_wait` gives them as they end."""
        runs = self._host.begin(units[: len(ids)], ids, self.root, request)
        handed = _Handed(units, ids, runs, self.driver.generation - 1)
        self._handed.append(handed)
        for row, own in enumerate(runs):
            for task in own:
                task.call(functools.partial(self._hear, handed, row))
        return handed

    def _hear(self, handed: _Handed, row: int, _: Any) -> None:
        """An evaluation has ended, says its thread."""
        if all(task.done() for task in handed.runs[row]):
            self._ended.put((handed, row))

    def _wait(self) -> list[tuple[_Handed, int]]:
        """Members that have ended since the last call; none after a while without any."""
        # the threads of two replicates may both have seen that a member has ended, and the second may say so later
        return [pair for pair in dict.fromkeys(self._drained()) if not pair[0].ended[pair[1]]]

    def _drained(self) -> Iterator[tuple[_Handed, int]]:
        with contextlib.suppress(queue.Empty):
            yield self._ended.get(timeout=_POLL_SECONDS)
            while True:
                yield self._ended.get_nowait()

    def _lowest(self, runs: Runs, feasible: bool) -> float:
        """The value of a member to be minimised; NaN if it failed or violates a constraint."""
        outcomes = [task.result() for task in runs]
        limits = mean_constraint(outcomes)
        if outcomes[0].pruned or not feasible or not (limits is None or (limits >= 0).all()):
            return float("nan")
        return self.sign * sum(outcome.value for outcome in outcomes) / len(outcomes)

    def _record(self, handed: _Handed, rows: list[int], measured: Evaluation) -> None:
        """Record members of a generation."""
        first = self.record.evaluations
        self.record.add(rows_of(handed.units[rows], measured, handed.ids[rows], first, handed.generation, 1.0))

    def _tell(self, units: np.ndarray, rows: list[int], measured: Evaluation | None) -> None:
        """What the strategy is told next of the generation it asked for last: the rows that have ended."""
        there = np.isin(np.arange(len(units)), rows)
        like = (self._like or self._blank)._replace(mask=None, stages=None)
        result = scattered(jax.tree.map(lambda x: x[:0], like), [], len(units))
        if measured is not None:
            own = scattered(measured, rows, len(units))
            result = result._replace(**{name: x for name, x in own._asdict().items() if x is not None})
        self._told = Told(units, self._masked(minimised_result(result, self.signs, there, np), there))

    def _absorb(self) -> None:
        """The strategy learns of what ended after its generation was told."""
        if self._late:
            units, runs = np.stack([unit for unit, _ in self._late]), [own for _, own in self._late]
            seen = minimised_result(self._host.results(units, runs), self.signs, np.ones(len(units), np.bool_), np)
            for rows, told in parts(units, seen, self.driver.strategy.population):
                self.driver.absorb(rows, told)
            self._late.clear()


def _feasible(constraint: np.ndarray | None, n: int) -> np.ndarray:
    """``bool[n]``: whether no constraint of the space is violated."""
    return np.ones(n, np.bool_) if constraint is None else np.asarray((constraint >= 0).all(axis=1))
