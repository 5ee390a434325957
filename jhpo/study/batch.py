"""Whole generations of a study: planned, evaluated without holding the log, stored in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jhpo.evaluation.evaluators import Evaluator
from jhpo.search.cuts import Cut
from jhpo.search.evaluator import SearchEvaluator
from jhpo.strategies.base import Request
from jhpo.study import events
from jhpo.study.book import Book
from jhpo.study.follower import Mark
from jhpo.study.header import float64
from jhpo.study.layout import keep_layout
from jhpo.study.results import pack_evaluation
from jhpo.study.rows import NextRows
from jhpo.study.watch import Watch

_ALL = 2**31  # more rows than any generation has


class Plan(NamedTuple):
    """The rows to evaluate next, and where the log stood."""

    seq: int
    rows: NextRows
    request: Request
    after: Mark  # of the strategy that asked for them


def evaluate_generation(study: Book, evaluator: SearchEvaluator, left: Callable[[], int | None]) -> bool:
    """Evaluate and store what is left of the open generation, or the next one; True if that completes it."""
    plan = _plan(study, left)
    if plan is None:
        return False
    begin = time.time()
    todo = plan.rows
    result = evaluator.evaluate(todo.units, todo.key_ids(), plan.request, rows=todo.rows, member=todo.member)
    results = pack_evaluation(result)
    ledger = study.ledger
    with ledger.transaction() as append:
        if ledger.log.seq != plan.seq:
            # the log grew meanwhile: the results count only if the plan is still the same
            again = _plan(study, left)
            if again is None or not _same(plan.rows, again.rows):
                return False
            plan = again
        ledger.restore(plan.after)
        keep_layout(study, evaluator.evaluator, append)
        rows = plan.rows
        append(
            events.Batch(
                rows.generation, rows.rows, rows.member, rows.id, rows.units, results,
                begin, time.time(), rows.streams, rows.horizon,
            )
        )  # fmt: skip
    return rows.member + len(rows.units) == rows.rows


def search_evaluator(study: Book, evaluator: Evaluator) -> SearchEvaluator:
    """The evaluator of a study's search."""
    same = float64() == study.history.header["x64"]  # results in another precision are stored generation by generation
    return SearchEvaluator(study.ledger.driver, evaluator, study.signs, together=same)


def evaluate_block(study: Book, evaluator: SearchEvaluator, watch: Watch) -> Cut | None:
    """Evaluate and store several generations in one program; None where the next one has to run alone."""
    if not evaluator.together:
        return None
    ledger = study.ledger
    with ledger.lock:
        study.refresh()
        history = ledger.history
        if history.waiting or history.running or history.handed < len(history.members):
            return None
        follower, closing = ledger.follower(), history.closing()
        if len(closing.others) or len(closing.expected):
            return None
        seq, trial, place, told = (
            ledger.log.seq,
            history.table.size,
            follower.mark().place,
            follower.learning(closing, history),
        )
        room = min(room for room in (_ALL, watch.left(), ledger.points_left()) if room is not None)
    begin = time.time()
    cut = evaluator.next_cut(watch, place, told, room=room, trial=trial, best=watch.best())
    if cut is None:
        return None
    with ledger.transaction() as append:
        if ledger.log.seq != seq:
            return None  # the log grew meanwhile, so other points may be next
        keep_layout(study, evaluator.evaluator, append)
        for event in _batches(cut, begin):
            append(event)
        ledger.restore(Mark(cut.block.place, jax.device_get(cut.block.told.units)))
    return cut


def _batches(cut: Cut, begin: float) -> Iterator[events.Batch]:
    """The events of a block's generations."""
    made, end, rows = cut.block.made, time.time(), cut.rows
    assert made is not None
    for k in range(len(made.rows)):
        first, count = cut.trial + k * rows, min(rows, cut.evaluations - k * rows)
        result = jax.tree.map(lambda x, k=k, count=count: x[k, :count], made.result)
        streams = made.streams[k, :count]
        usual = np.array_equal(streams, first + np.arange(count))
        yield events.Batch(
            cut.generation + k, rows, 0, first, made.units[k, :count], pack_evaluation(result), begin, end,
            None if usual else streams, cut.horizon,
        )  # fmt: skip


def _plan(study: Book, left: Callable[[], int | None]) -> Plan | None:
    """What to evaluate next, without changing the study; None if there is no room."""
    ledger = study.ledger
    with ledger.lock:
        study.refresh()
        follower = ledger.follower()
        room = left()
        if room is not None and room < 1:
            return None
        with follower.aside():
            rows = ledger.next_rows(_ALL if room is None else room, False)
            return Plan(ledger.log.seq, rows, follower.request, follower.mark())


def _same(a: NextRows, b: NextRows) -> bool:
    plain = a.generation == b.generation and a.member == b.member and a.id == b.id
    return plain and np.array_equal(a.units, b.units) and np.array_equal(a.key_ids(), b.key_ids())


def evaluate_waiting(study: Book, evaluator: SearchEvaluator, left: Callable[[], int | None]) -> bool:
    """Evaluate trials that wait in the queue (enqueued, or lost by workers); False if there are none."""
    ledger = study.ledger
    with ledger.lock:
        study.refresh()
        follower = ledger.follower()
        request = follower.request if follower.generation else Request(grad=follower.strategy.needs_grad)
        if not ledger.anything_waits():
            return False
        with ledger.transaction() as append:
            ledger.give_back_lost(append)
            room = left()
            ids = ledger.claim(append, study.strategy.population if room is None else max(room, 0))
            ledger.attend(ids, True)
    if not ids:
        return False
    attempts = study.history.table.attempt.array[np.asarray(ids)].copy()
    try:
        _measure_waiting(study, evaluator, request, ids, attempts)
    except BaseException:
        give_back(study, dict(zip(ids, attempts.tolist())))
        raise
    return True


def give_back(study: Book, attempts: dict[int, int]) -> None:
    """Return trials that `optimize` will not finish to the queue, unless other workers hold them by now."""
    ledger = study.ledger
    ledger.left_behind.update(attempts)  # for the next transaction, should this one fail
    with ledger.transaction() as append:
        ledger.give_back_left(append)


def _measure_waiting(
    study: Book,
    evaluator: SearchEvaluator,
    request: Request,
    ids: Sequence[int],
    attempts: np.ndarray,
) -> None:
    ledger = study.ledger
    # trials of an earlier phase keep its horizon, enqueued ones run the full horizon
    table, rows = study.history.table, np.asarray(ids)
    for horizon in np.unique(table.horizon.array[rows]).tolist():
        these = table.horizon.array[rows] == horizon
        some = rows[these]
        streams = table.streams(some).astype(np.uint32)
        result = evaluator.evaluate(table.unit.array[some], streams, request._replace(horizon=horizon))
        with ledger.transaction() as append:
            keep_layout(study, evaluator.evaluator, append)
            kept = np.asarray([ledger.runs(i, a) for i, a in zip(some.tolist(), attempts[these].tolist())])
            if kept.all():
                append(events.Tell(some, pack_evaluation(result), time.time()))
            elif kept.any():
                part = jax.tree.map(lambda x, kept=kept: np.asarray(x)[kept], result)
                append(events.Tell(some[kept], pack_evaluation(part), time.time()))
