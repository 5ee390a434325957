"""Points and results of events, checked and put into the columns of a study's trials."""

from __future__ import annotations

import numpy as np

from jhpo.curves import table as curves
from jhpo.study.events import Results
from jhpo.trial import TrialState, TrialTable
from jhpo.values.columns import successes


def unit_rows(units: object, dim: int) -> np.ndarray:
    """``float[n, dim]`` of an event, as it is.

    Raises:
        ValueError: something else, or points outside the unit cube.
    """
    if not isinstance(units, np.ndarray) or units.ndim != 2 or units.shape[1] != dim:
        raise ValueError(f"unit rows of {dim} coordinates, got {getattr(units, 'shape', type(units).__name__)}")
    if not ((units >= 0) & (units <= 1)).all():
        raise ValueError("unit rows outside [0, 1]")
    return units


def record(table: TrialTable, ids: np.ndarray, results: Results, time: float) -> None:
    """Put results into the columns of a study's trials.

    Args:
        table: the columns.
        ids: ``int64[n]``, trials.
        results: theirs.
        time: when they were told.

    Raises:
        ValueError: results that do not fit the trials.
    """
    value = np.asarray(results.value, np.float64)
    if value.shape != ids.shape:
        raise ValueError(f"{value.shape} values for {len(ids)} trials")
    good = np.isfinite(value)
    table.value.array[ids] = np.where(good, value, np.nan)
    table.state.array[ids] = np.where(good, TrialState.COMPLETE, TrialState.FAILED)
    table.state.array[ids[np.asarray(results.pruned, np.int64)]] = TrialState.PRUNED
    table.told.array[ids] = time
    for index, reason in results.reasons.items():
        table.reason[int(ids[int(index)])] = str(reason)
    for name in Results.EXTRAS:
        found = getattr(results, name)
        if found is not None:
            extra = np.asarray(found, np.float64)
            if len(extra) != len(ids):
                raise ValueError(f"{extra.shape} of {name} for {len(ids)} trials")
            table.set_extra(name, ids, extra)
    if results.steps is not None:
        _stages(table, ids, results)


def extremes(table: TrialTable, ids: np.ndarray) -> tuple[float, float] | None:
    """The lowest and the highest value of the successful ones among trials, of whole trainings; None without any."""
    if len(ids) == 1 and not table.extra:  # one by one, as `tell` does: a third of the time
        good = table.state.array[ids[0]] == TrialState.COMPLETE and table.horizon.array[ids[0]] == 1.0
        value = float(table.value.array[ids[0]])
        return (value, value) if good else None
    constraint = table.extra["constraint"].array[ids] if "constraint" in table.extra else None
    there = successes(table.state.array[ids] == TrialState.COMPLETE, constraint, table.horizon.array[ids])
    if not len(there) or table.horizon.array[ids[there[0]]] != 1.0:
        return None
    values = table.value.array[ids[there]]
    return float(values.min()), float(values.max())


def reach(
    table: TrialTable,
    ids: np.ndarray,
    step: int,
    results: Results,
    widths: np.ndarray,
    rows: np.ndarray | slice = slice(None),
) -> None:
    """Trials whose results are in the columns were trained to a step.

    Args:
        table: the columns.
        ids: ``int64[n]``, trials.
        step: of their training.
        results: theirs.
        widths: ``int64[n]``, of the programs that trained them.
        rows: which of the trials; all by default.
    """
    limits, some = results.constraint, ids[rows]
    constraint = None if limits is None else np.asarray(limits, np.float64)[rows]
    table.reach(some, step, table.value.array[some], constraint, widths[rows])


def _stages(table: TrialTable, ids: np.ndarray, results: Results) -> None:
    """The curves of trials that were trained in parts, to be judged at the end of each, or that came from elsewhere."""
    steps, curve = np.asarray(results.steps), np.asarray(results.curve)
    for trial_id, at, values in zip(ids.tolist(), steps, curve):
        for step, value in zip(at.tolist(), values.tolist()):
            if step >= 0 and np.isfinite(value):
                table.reports.add(trial_id, curves.Report(step, value))
    if results.widths is None:
        return
    widths = np.asarray(results.widths)
    for step in np.unique(steps[steps >= 0]).tolist():
        row, place = np.nonzero(steps == step)
        table.passed(ids[row], step, np.asarray(widths[row, place], np.int64))
