"""A whole generation of a study at once: planned, evaluated without holding the log, stored in one transaction."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.evaluation.evaluators import make_evaluator
from jhpo.evaluation.population import Population
from jhpo.strategies.base import Evaluation, Request
from jhpo.study.ledger import Append
from jhpo.study.study import Study

_ALL = 2**31  # more rows than any generation has


class Plan(NamedTuple):
    """The rows to evaluate next, and where the log stood."""

    seq: int
    generation: int
    rows: int  # of the whole generation
    member: int  # first row to evaluate
    first: int  # trial id of that row
    units: np.ndarray  # float[k, d]
    note: dict[str, Any]  # streams and horizon, see `Ledger.evaluation_note`
    request: Request

    @property
    def streams(self) -> np.ndarray:
        """``uint32[k]``: the ids from which the evaluation keys are made."""
        return self.note.get("streams", self.first + np.arange(len(self.units), dtype=np.uint32))


def evaluate_generation(study: Study, evaluator: Any, left: int | None) -> bool:
    """Evaluate and store what is left of the open generation, or the next one; True if that completes it."""
    plan, before, after = _plan(study, left)
    begin = time.time()
    result = evaluator.evaluate(plan.units, plan.streams, study.root, plan.request)
    results = pack_evaluation(result)
    ledger = study.ledger
    with ledger.transaction() as append:
        if ledger.log.seq != plan.seq:
            # somebody else added to the study meanwhile: the results count only if the plan is still the same
            ledger.restore(before)
            again, _, after = _plan(study, left)
            if not _same(plan, again):
                return False
        ledger.restore(after)
        keep_layout(study, evaluator, append)
        body = {
            "generation": plan.generation, "rows": plan.rows, "member": plan.member, "id": plan.first,
            "units": plan.units, "results": results, "time": begin, "end": time.time(), **plan.note,
        }  # fmt: skip
        append("batch", body)
    return plan.member + len(plan.units) == plan.rows


def _plan(study: Study, left: int | None) -> tuple[Plan, Any, Any]:
    """The plan, and the strategy's state before and after it; the study itself stays as it is."""
    ledger = study.ledger
    with ledger.lock:
        study.refresh()
        searcher = ledger.searcher()
        before = searcher.mark()
        generation, units, member, count = ledger.next_rows(_ALL if left is None else left, False)
        first = study.history.table.size
        note = ledger.evaluation_note(first, member, count)
        request = searcher.request
        after = searcher.mark()
        searcher.restore(before)
        plan = Plan(
            ledger.log.seq, generation, len(units), member, first, units[member : member + count], note, request
        )
        return plan, before, after


def _same(a: Plan, b: Plan) -> bool:
    plain = a.generation == b.generation and a.member == b.member and a.first == b.first
    return plain and np.array_equal(a.units, b.units) and np.array_equal(a.streams, b.streams)


def evaluate_waiting(study: Study, evaluator: Any, left: int | None) -> bool:
    """Evaluate trials that wait in the queue (enqueued, or lost by workers); False if there are none."""
    ledger = study.ledger
    with ledger.lock:
        study.refresh()
        request = ledger.searcher().request if ledger.searcher().generation else Request()
        if not ledger.anything_waits():
            return False
        with ledger.transaction() as append:
            ids = ledger.claim(append, study.strategy.population if left is None else left)
    if not ids:
        return False
    # trials of an earlier phase keep its horizon, enqueued ones are trained to the end
    table, rows = study.history.table, np.asarray(ids)
    for horizon in np.unique(table.horizon.array[rows]).tolist():
        some = rows[table.horizon.array[rows] == horizon]
        streams = table.streams(some).astype(np.uint32)
        result = evaluator.evaluate(table.unit.array[some], streams, study.root, request._replace(horizon=horizon))
        with ledger.transaction() as append:
            keep_layout(study, evaluator, append)
            append("tell", {"ids": some, "results": pack_evaluation(result), "time": time.time()})
    return True


def trained_states(study: Study, objective: Any, ids: Sequence[int], metric: str | None = None) -> list[Any]:
    """The trained states of some trials, trained once more from their keys in the layout that measured them."""
    layout = stored_layout(study, None, None)
    metric = metric or study.history.layouts.get("population", {}).get("metric")
    evaluator = make_evaluator(objective, study.space, replicates=study.replicates, metric=metric, **layout)
    if isinstance(evaluator, Population):
        evaluator.chunks.widths.extend(study.history.widths)
    rows, table = np.asarray(ids, np.int64), study.history.table
    streams = table.streams(rows).astype(np.uint32)
    return evaluator.states(table.unit.array[rows], streams, study.root, table.value.array[rows])


def keep_layout(study: Study, evaluator: Any, append: Append) -> None:
    """Store how the evaluator spread the members (chosen by measurement), so that a resumed study does the same."""
    if not isinstance(evaluator, Population):
        return
    layout: dict[str, Any] = dict(evaluator.layout)
    if evaluator.metric is not None:
        layout["metric"] = evaluator.metric
    if layout != study.history.layouts.get("population"):
        append("layout", {"name": "population", "layout": layout})


def stored_layout(study: Study, chunk: int | None, devices: Any) -> dict[str, Any]:
    """``chunk`` and ``devices`` as given, or else as they were when the study began."""
    stored = study.history.layouts.get("population")
    if stored is not None:
        chunk = stored["chunk"] if chunk is None else chunk
        there = jax.local_devices()
        if devices is None and len(there) >= stored["devices"]:
            devices = there[: stored["devices"]]
        elif devices is None:
            warnings.warn(
                f"the study began on {stored['devices']} devices and goes on with {len(there)}: "
                "results can differ in the last digits",
                stacklevel=2,
            )
    return {"chunk": chunk, "devices": devices}


def pack_evaluation(result: Evaluation) -> dict[str, Any]:
    """An `Evaluation` in the user's own sign as the columns of an event."""
    value = np.asarray(result.value, np.float64)
    bad = np.flatnonzero(~np.isfinite(value))
    packed: dict[str, Any] = {"value": value, "reasons": {int(k): f"the objective returned {value[k]}" for k in bad}}
    for name in ("grad", "constraint", "cost", "variance"):
        column = getattr(result, name)
        if column is not None:
            packed[name] = np.asarray(column)
    return packed
