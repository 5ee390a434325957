"""The rungs of a study: members are paused and continued, and every rung is stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jhpo.errors import SpaceExhausted
from jhpo.evaluation.continuing import Continuing, Part
from jhpo.evaluation.evaluators import Evaluator, continuable
from jhpo.evaluation.lineage import lineage_of
from jhpo.evaluation.paused import check_continuable
from jhpo.evaluation.repeating import Repeater
from jhpo.search.stopping import exhausted
from jhpo.strategies.base import Evaluation, Rung
from jhpo.study import events
from jhpo.study.book import Book
from jhpo.study.follower import Mark
from jhpo.study.layout import keep_layout
from jhpo.study.results import pack_evaluation


class _Plan(NamedTuple):
    """The generation to train next, and where the log stood."""

    seq: int
    generation: int
    rung: Rung
    ids: np.ndarray  # int64[k], trials; new ones where the rung begins
    parents: np.ndarray  # int64[k], rows of the last generation that they continue; nothing where the rung begins
    sources: np.ndarray  # int64[k], the trials of those rows; `ids` where the rung begins
    units: np.ndarray  # float[k, d]
    rows: int  # of the whole generation
    after: Mark  # where the strategy stands then

    def same(self, other: _Plan) -> bool:
        """Both train the same members alike."""
        alike = self.generation == other.generation and np.array_equal(self.ids, other.ids)
        return alike and np.array_equal(self.units, other.units) and np.array_equal(self.sources, other.sources)


class Rungs:
    """Trains the generations of a study whose strategy pauses members.

    States of paused members are a cache: where another process trained the last generation, or a process that is gone,
    they are trained again from their keys, in programs of the widths that the log holds, so that no bit differs.

    Args:
        study: with a strategy that pauses members.
        evaluator: of the objective.

    Raises:
        InvalidArgument: an objective that cannot be paused, or whose training has another length than the study's.
    """

    def __init__(self, study: Book, evaluator: Evaluator) -> None:
        self._study, self.population = study, continuable(evaluator)
        length = check_continuable(self.population.trainable)
        study.ledger.train_for(length)
        self._rungs = study.ledger.follower().strategy.rungs(length)
        self.members = Continuing(self.population, self._rungs)
        self._held = -1  # generation whose states are at hand

    @property
    def paused(self) -> bool:
        """Members wait to be trained on."""
        return self._rungs[self._study.history.opened % len(self._rungs)].start > 0

    def train(self, left: Callable[[], int | None]) -> bool:
        """Train and store the next generation; False without room for it, or where somebody else has done so.

        Raises:
            SpaceExhausted: a finite search has no point left.
        """
        plan = self._plan(left)
        if plan is None:
            return False
        begin = time.time()
        held, self._held = self._held, -1
        result = self._result(plan, held)
        study, ledger = self._study, self._study.ledger
        with ledger.transaction() as append:
            if ledger.log.seq != plan.seq:
                # somebody else added to the study meanwhile: the results count only if the plan is still the same
                again = self._plan(left)
                if again is None or not plan.same(again):
                    return False
                plan = again
            ledger.restore(plan.after)
            keep_layout(study, self.population, append)
            append(self._event(plan, result, begin))
        self._held = plan.generation
        return True

    def _plan(self, left: Callable[[], int | None]) -> _Plan | None:
        """What to train next; None without room. The study itself stays as it is."""
        ledger = self._study.ledger
        with ledger.lock:
            self._study.refresh()
            follower, history = ledger.follower(), ledger.history
            generation = history.opened
            rung = self._rungs[generation % len(self._rungs)]
            size = rung.size
            if not rung.start:
                points, room = ledger.points_left(), left()
                size = min(n for n in (size, points, room) if n is not None)
                if points is not None and points < 1:
                    raise SpaceExhausted(exhausted(follower.strategy.max_evaluations(follower.space) or 0))
                if size < 1:
                    return None
            with follower.aside():
                units, after = follower.open(history), follower.mark()
                parents = follower.driver.live_parents() if rung.start else np.empty(0, np.int64)
            ids = sources = history.members[parents] if rung.start else history.table.size + np.arange(size)
            if rung.start and follower.strategy.evolves:
                ids = history.members[: len(parents)].copy()
            return _Plan(
                ledger.log.seq, generation, rung, ids, parents, sources, units[: len(ids)], len(units), after
            )  # fmt: skip

    def _result(self, plan: _Plan, held: int) -> Evaluation:
        members, root = self.members, self._study.root
        if not plan.rung.start:
            return members.begin(plan.units, plan.ids, root, plan.rung.stop)
        if not len(plan.ids):
            return Evaluation(np.empty(0))  # all have failed
        if held == plan.generation - 1:
            return members.further(plan.parents, plan.units, plan.rung.stop)
        parts, begun = self._parts(plan)
        members.again(parts, begun, root)
        return members.further(np.arange(len(plan.ids)), plan.units, plan.rung.stop)

    def _parts(self, plan: _Plan) -> tuple[list[Part], np.ndarray]:
        """How members came to where they are paused, and the ids with whose keys they began."""
        table, at = self._study.history.table, plan.generation % len(self._rungs)
        stops: list[int] = []
        while self._rungs[at].start:
            at -= 1
            stops.insert(0, self._rungs[at].stop)
        repeater = Repeater(
            self.population, {step: column.array for step, column in table.width.items()}, lineage_of(table)
        )
        return repeater.parts(table.unit.array[plan.sources], plan.sources, np.asarray(stops))

    def _event(self, plan: _Plan, result: Evaluation, begin: float) -> events.Batch | events.Rung:
        rung, results, end = plan.rung, pack_evaluation(result), time.time()
        horizon, evolves = rung.stop / self.members.length, self._study.strategy.evolves
        widths = self.members.widths if len(plan.ids) else np.empty(0, np.int64)
        if rung.start:
            steered = {"sources": plan.sources, "units": plan.units} if evolves else {}
            return events.Rung(
                plan.generation, plan.rows, plan.ids, rung.stop, horizon, widths, results, begin, end, **steered
            )  # fmt: skip
        return events.Batch(
            plan.generation, plan.rows, 0, int(plan.ids[0]), plan.units, results, begin, end,
            horizon=horizon, step=rung.stop, widths=widths, evolve=evolves,
        )  # fmt: skip
