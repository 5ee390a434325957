"""Where the time of a study's calls of `optimize` went."""

from __future__ import annotations

import numpy as np

from jhpo.report.trials import Trials
from jhpo.trial import TrialTable


def where_time_went(trials: Trials) -> dict[str, float]:
    """Seconds of the ended calls of `optimize`: compiling, evaluating, storing, and suggesting (with waiting).

    Evaluating is the time in which some trial was running and nothing was compiled or stored. Calls of earlier versions
    did not keep what was stored or compiled meanwhile: those parts are one with others then.
    """
    total = sum(call.seconds for call in trials.calls)
    compiling = min(sum(call.compile_seconds for call in trials.calls), total)
    rest, covered, storing = total - compiling, 0.0, 0.0
    for call in trials.calls:
        if call.compile_running is None:
            return {"compiling": compiling, "everything else": rest}
        begun = call.ended - call.seconds
        covered += _union(_running(trials.table, begun, call.ended)) - call.compile_running
        if call.store_seconds is not None:
            covered -= call.store_running or 0.0
            storing += call.store_seconds
    evaluating = min(max(covered, 0.0), rest)
    spent = {"compiling": compiling, "evaluating": evaluating}
    if any(call.store_seconds is None for call in trials.calls):
        return spent | {"suggesting and storing": rest - evaluating}
    storing = min(storing, rest - evaluating)
    return spent | {"storing": storing, "suggesting": rest - evaluating - storing}


def compiled_meanwhile(table: TrialTable, compiled: np.ndarray, begun: float, ended: float) -> float:
    """Seconds of compilation between two times while some trial was running.

    Args:
        table: the trials.
        compiled: ``float64[k, 2]``, when a compilation began and ended, in seconds since the epoch.
        begun, ended: seconds since the epoch.
    """
    running, spans = _running(table, begun, ended), np.clip(compiled, begun, ended)
    return _union(running) + _union(spans) - _union(np.concatenate([running, spans]))


def _running(table: TrialTable, begun: float, ended: float) -> np.ndarray:
    """``float64[k, 2]``: when the trials that were told since ran, between two times."""
    asked, told = table.asked.array, table.told.array
    there = np.isfinite(asked) & (told >= begun)
    return np.clip(np.stack([asked[there], told[there]], -1), begun, ended)


def _union(spans: np.ndarray) -> float:
    """Length of the union of intervals, ``float64[k, 2]``; those that end before they start are empty.

    >>> _union(np.array([[0.0, 2.0], [1.0, 3.0], [5.0, 4.0]]))
    3.0
    """
    real = spans[spans[:, 1] > spans[:, 0]]
    start, stop = real[np.argsort(real[:, 0])].T
    if not len(start):
        return 0.0
    reached = np.maximum.accumulate(np.append(start[0], stop[:-1]))
    return float(np.maximum(stop - np.maximum(start, reached), 0.0).sum())
