"""The generations of a study whose strategy freezes and thaws members: each is stored as it ends."""

from __future__ import annotations

import time
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jhpo.errors import invalid
from jhpo.evaluation.evaluators import Evaluator, continuable
from jhpo.evaluation.paused import check_continuable
from jhpo.evaluation.thawing import Thawing
from jhpo.search.thawed import check_capacity, effort_spent, nothing_left
from jhpo.strategies.base import Evaluation, Strategy
from jhpo.study import events
from jhpo.study.book import Book
from jhpo.study.fold import Fold
from jhpo.study.follower import Mark
from jhpo.study.layout import keep_layout
from jhpo.study.results import pack_evaluation


class _Plan(NamedTuple):
    """The generation to train next, and where the log stood."""

    seq: int
    generation: int
    units: np.ndarray  # float[n, d]
    members: np.ndarray  # int64[n], numbers of members; -1 where a row is empty
    parts: np.ndarray  # int64[n], trained before
    after: Mark  # where the strategy stands then

    def same(self, other: _Plan) -> bool:
        """Both train the same members alike."""
        pairs = ((self.members, other.members), (self.parts, other.parts), (self.units, other.units))
        return self.generation == other.generation and all(np.array_equal(a, b) for a, b in pairs)


class Thaws:
    """Trains the generations of a study whose strategy thaws members.

    The pool of states is a cache: where another process trained the last generation, or one that is gone, the members
    that may be trained on are trained once more from their keys, in the same program, so that no bit differs.

    Args:
        study: with a strategy that thaws members.
        evaluator: of the objective.
        budget: members at most, None if other rules end the search.

    Raises:
        InvalidArgument: an objective that cannot be paused, or whose training has another length than the study's.
    """

    def __init__(self, study: Book, evaluator: Evaluator, budget: int | None) -> None:
        self._study, population = study, continuable(evaluator)
        made, limit = cast(Any, study.strategy), study.strategy.max_evaluations(study.space)
        self._budget = min((x for x in (budget, limit) if x is not None), default=None)
        # buffers that do not grow are sized by the first budget, as in memory, unless the strategy says how
        sized = made.capacity is None and type(made).grow is Strategy.grow
        study.ledger.train_for(check_continuable(population.trainable), self._budget if sized else None)
        self.strategy = cast(Any, study.ledger.follower().strategy)
        self._interval = self.strategy.interval
        check_capacity(self.strategy, budget)
        most = [x for x in (self.strategy.capacity, self._budget) if x is not None]
        self.pool = Thawing(
            population, min(most, default=None), self.strategy.population, self._interval, study.root
        )  # fmt: skip
        self._held = 0  # generations that the pool has seen

    @property
    def stopped(self) -> str | None:
        """Why there is nothing left to do, or None."""
        taken = self._study.history.thawed_parts
        return effort_spent(self.strategy, taken, taken * self._interval)

    @property
    def nothing_left(self) -> str:
        """Why it ends where no member can be trained on."""
        return nothing_left(self.strategy, self._study.history.table.size, self._budget)

    def _room(self, history: Fold) -> float:
        """Members that there may be: trials from the queue count towards the budget, too."""
        if self._budget is None or self.strategy.most is not None:
            return np.inf
        return len(history.thawed) + max(self._budget - history.table.size, 0)

    def train(self) -> bool:
        """Train and store the next generation; False where somebody else has done so, or where no member is left."""
        plan, study, begin = self._plan(), self._study, time.time()
        if not (plan.members >= 0).any():
            return False
        if self._held != plan.generation:
            self._restore()
        self._held = -1
        result = self.pool.train(plan.units, plan.members, plan.parts)
        with study.ledger.transaction() as append:
            if study.ledger.log.seq != plan.seq:
                # somebody else added to the study meanwhile: the results count only if the plan is still the same
                again = self._plan()
                if not plan.same(again):
                    return False
                plan = again
            study.ledger.restore(plan.after)
            keep_layout(study, self.pool.population, append)
            append(self._event(plan, result, begin))
        self._held = plan.generation + 1
        return True

    def _plan(self) -> _Plan:
        """What to train next; the study itself stays as it is."""
        ledger = self._study.ledger
        with ledger.lock:
            self._study.refresh()
            follower, history = ledger.follower(), ledger.history
            if follower.strategy is not self.strategy:
                members = cast(Any, follower.strategy).capacity
                raise invalid("budget", f"the {members} members of another process that began meanwhile", self._budget)
            with follower.aside():
                units, after = follower.open(history), follower.mark()
                members, parts = follower.driver.thawed()
            members = np.where(members < self._room(history), members, -1)
            return _Plan(ledger.log.seq, history.opened, units, members, parts, after)

    def _restore(self) -> None:
        """Train the members that may go on once more."""
        history = self._study.history
        ids, table = history.thawed, history.table
        parts = self.pool.parts_of(table.horizon.array[ids])
        opened = np.flatnonzero((parts < self.strategy.parts) & np.isfinite(table.value.array[ids]))
        units = table.unit.array[ids[opened]]
        self.pool.again(units.astype(np.result_type(float, np.float32)), opened, parts[opened])

    def _event(self, plan: _Plan, result: Evaluation, begin: float) -> events.Thaw:
        there, size = plan.members >= 0, self._study.history.table.size
        begun = there & (plan.parts == 0)
        ids = np.full(len(there), -1, np.int64)
        ids[begun] = size + np.arange(begun.sum())
        old = there & ~begun
        ids[old] = self._study.history.thawed[plan.members[old]]
        stops = self.pool.stops(plan.parts)
        rows = np.flatnonzero(there)
        results = pack_evaluation(jax.tree.map(lambda x: np.asarray(x)[rows], result))
        return events.Thaw(
            plan.generation, ids, int(size), plan.units[begun], stops[rows], self.pool.length,
            results, begin, time.time(),
        )  # fmt: skip


def thawed_states(study: Book, evaluator: Evaluator, ids: np.ndarray) -> list[Any]:
    """Trained states of trials, ``int64[k]``, made again; None for those that were not begun as members."""
    population = continuable(evaluator)
    study.ledger.train_for(check_continuable(population.trainable))
    strategy = cast(Any, study.ledger.follower().strategy)
    history = study.history
    pool = Thawing(population, len(history.thawed), strategy.population, strategy.interval, study.root)
    numbers = {trial: member for member, trial in enumerate(history.thawed.tolist())}
    mine = [k for k, trial in enumerate(ids.tolist()) if trial in numbers]
    members = np.asarray([numbers[int(ids[k])] for k in mine], np.int64)
    out: list[Any] = [None] * len(ids)
    if mine:
        trials = ids[mine]
        parts = pool.parts_of(history.table.horizon.array[trials])
        pool.again(history.table.unit.array[trials].astype(np.result_type(float, np.float32)), members, parts)
        for k, state in zip(mine, pool.states(members)):
            out[k] = state
    return out
