"""Trained states of a study's trials, made again from their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jhpo.evaluation.evaluators import Evaluator, Objective, make_evaluator
from jhpo.evaluation.lineage import lineage_of
from jhpo.evaluation.population import Population
from jhpo.evaluation.repeating import Repeater
from jhpo.study.book import Book
from jhpo.study.layout import stored_layout
from jhpo.study.thaws import thawed_states
from jhpo.trial import TrialState, TrialTable


def trained_states(study: Book, objective: Objective, ids: Sequence[int], metric: str | None = None) -> list[Any]:
    """Trained states of trials, recomputed from their keys in the layout that evaluated them."""
    layout = stored_layout(study, None, None)
    metric = metric or study.history.layouts.get("population", {}).get("metric")
    evaluator = make_evaluator(
        objective, study.space,
        replicates=study.replicates, folds=study.folds, fold_by_fold=study.fold_by_fold,
        metric=metric, objectives=study.objectives, **layout,
    )  # fmt: skip
    if isinstance(evaluator, Population):
        evaluator.chunks.widths.extend(study.history.widths)
    if study.strategy.thaws:
        return thawed_states(study, evaluator, np.asarray(ids, np.int64))
    rows, table = np.asarray(ids, np.int64), study.history.table
    paused = np.zeros(len(rows), np.bool_)
    for width in table.width.values():
        paused |= width.array[rows] > 0
    out: list[Any] = [None] * len(rows)
    for some, again in ((~paused, lambda: evaluator), (paused, lambda: _repeater(study, evaluator))):
        at = rows[some]
        if len(at):
            made = again().states(
                table.unit.array[at], table.streams(at).astype(np.uint32), study.root,
                _measured(table, at), table.horizon.array[at],
            )  # fmt: skip
            for place, state in zip(np.flatnonzero(some).tolist(), made):
                out[place] = state
    return out


def _measured(table: TrialTable, ids: np.ndarray) -> np.ndarray:
    """``float64[n]``: the values that trials had when they ended; those that were stopped may count as others."""
    stopped = table.state.array[ids] == TrialState.PRUNED
    return np.where(stopped, [table.reports.last(i) for i in ids.tolist()], table.value.array[ids])


def _repeater(study: Book, evaluator: Evaluator) -> Repeater:
    """What makes states of members again that were paused and continued."""
    assert isinstance(evaluator, Population)
    table = study.history.table
    return Repeater(evaluator, {step: column.array for step, column in table.width.items()}, lineage_of(table))
