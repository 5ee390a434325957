"""How a search in memory ends: what was recorded becomes its result."""

from __future__ import annotations

from typing import Any

import numpy as np

from jhpo.errors import NothingFound, warn_caller
from jhpo.evaluation.lineage import Lineage
from jhpo.evaluation.repeating import Repeater
from jhpo.evaluation.stopping import StoppingPopulation
from jhpo.objectives import Objectives
from jhpo.search.evaluations import Curves, Evaluations
from jhpo.search.keep import Keep
from jhpo.search.meter import Summary
from jhpo.search.record import Rows, evaluations_of
from jhpo.search.result import Origin, Result
from jhpo.space.space import Space
from jhpo.training.crossvalidation import FoldByFold
from jhpo.values.columns import why_nothing
from jhpo.values.notes import read_notes


def result_of(
    history: Evaluations,
    leader: Rows,
    summary: Summary,
    origin: Origin,
    *,
    space: Space,
    sign: float,
    exact: dict[int, dict[str, Any]],
    keep: Keep,
    objectives: Objectives | None = None,
    curves: Curves | None = None,
    lineage: Lineage | None = None,
    work: tuple[int, int] | None = None,
) -> Result:
    """The result of a search.

    Args:
        history: the evaluations that were kept.
        leader: the best trial alone, or no row.
        summary: how the search ended.
        origin: what it was made with.
        space: where it searched.
        sign: 1.0 where values were minimised, -1.0 where they were maximised.
        exact: numbers of the starting points as they were given.
        keep: what was kept.
        objectives: several, which have no best; None where there is one.
        curves: of the rows of ``history``.
        lineage: where members took over from one another.
        work: where members are paused or stopped, steps taken by all of them, and steps computed, those of empty places
            included.
    """
    found = len(leader.ids) > 0 and objectives is None
    if not len(leader.ids):
        failed = np.flatnonzero(~np.isfinite(history.value))
        example = None if history.units is None or not len(failed) else space.decode(history.units[failed[0]])
        wanted, reasons = "best" if objectives is None else "front", getattr(origin.evaluator, "reasons", {})
        seen = (history.value, history.pruned, summary.evaluations)
        warn_caller(why_nothing(*seen, wanted, reasons, example), NothingFound)
    evaluator = origin.evaluator
    trainable, folds = getattr(evaluator, "trainable", None), ""
    if work is not None and isinstance(trainable, FoldByFold):
        assert isinstance(evaluator, (StoppingPopulation, Repeater))
        folds = f"{work[0] // evaluator.population.replicates} of {summary.evaluations * trainable.folds}"
    return Result(
        best=space.decode(leader.units[0], exact.get(int(leader.numbers[0]))) if found else None,
        value=float(np.asarray(leader.result.value)[0]) if found else float("nan"),
        history=history,
        stopped=summary.stopped,
        seconds=summary.seconds,
        compile_seconds=summary.compile_seconds,
        space=space,
        keep=keep,
        objectives=objectives,
        _origin=origin,
        _leader=evaluations_of(leader),
        _sign=sign,
        _exact=exact,
        steps=None if work is None else work[0],
        curves=curves,
        _lineage=lineage,
        occupancy=None if work is None else work[0] / work[1],
        folds=folds,
        notes={number: read_notes(found) for number, found in getattr(origin.evaluator, "notes", {}).items()},
    )
