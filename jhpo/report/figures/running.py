"""How the search was run: when each trial ran, what failed, and where the time went."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from jhpo.errors import JhpoError
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.groups import Studies, runs_of
from jhpo.report.figures.marks import Axis, Bars, Line, Panel, Spans, stacked
from jhpo.report.spent import where_time_went
from jhpo.report.trials import Trials
from jhpo.trial import TrialState
from jhpo.words.markup import counted, cut, line

_SLOTS = {
    TrialState.COMPLETE: 0,
    TrialState.PRUNED: 1,
    TrialState.FAILED: 5,
    TrialState.RUNNING: 2,
    TrialState.WAITING: 7,
}
_MOST_REASONS = 8
_LONG = 48  # characters of a reason on an axis
_NUMBER = re.compile(r"(?<!line )(?<![\w.])[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?\b", re.IGNORECASE)


def timeline(studies: Studies) -> Drawing:
    """When each trial was asked for and told, coloured by its state.

    Trials that are still running last until the latest time in the study.

    Raises:
      JhpoError: no trial has been handed out.
    """
    panels, parts = [], []
    for name, trials in runs_of(studies):
        table = trials.table
        asked = table.asked.array
        if not np.isfinite(asked).any():
            raise JhpoError("timeline: no trial has been handed out yet")
        first, last = np.nanmin(asked), np.nanmax([np.nanmax(asked), np.nanmax(np.append(table.told.array, asked[0]))])
        stop = np.where(np.isfinite(table.told.array), table.told.array, last)
        unit, size = _unit(last - first)
        start, stop, state = (asked - first) / size, (stop - first) / size, table.state.array
        marks = tuple(
            Spans(start[ids], stop[ids], ids, each.name.lower(), slot)
            for each, slot in _SLOTS.items()
            if len(ids := np.flatnonzero((state == each) & np.isfinite(start)))
        )
        panels.append(Panel(Axis(f"{unit} since the first trial"), Axis("trial"), marks, name))
        states = [TrialState(int(s)).name for s in state]
        ids = np.arange(table.size)
        parts.append(
            {"study": [name] * table.size, "trial": ids, "state": states, "start": start * size, "stop": stop * size}
        )
    return Drawing("Timeline", tuple(panels), "When each trial ran.", stacked(parts))


def _unit(seconds: float) -> tuple[str, float]:
    return ("hours", 3600.0) if seconds > 7200 else ("minutes", 60.0) if seconds > 180 else ("seconds", 1.0)


def failures(studies: Studies) -> Drawing:
    """How many trials failed for each reason, and how their number grew.

    Raises:
      JhpoError: no trial failed.
    """
    panels, parts = [], []
    for name, trials in runs_of(studies):
        tally = reasons(trials)
        shown = list(tally.items())[:_MOST_REASONS]
        labels = [cut(reason, _LONG) for reason, _ in shown][::-1]
        bars = Bars(labels, np.asarray([float(n) for _, n in shown])[::-1], slot=5)
        failed = trials.table.state.array == TrialState.FAILED
        grown = Line(np.arange(len(failed)), np.cumsum(failed).astype(float), "failed", 5, True)
        if tally:
            panels += [Panel(Axis("trials"), Axis(), (bars,), name)]
            panels += [Panel(Axis("trial"), Axis("failed so far"), (grown,), name)]
        parts.append({"study": [name] * len(tally), "reason": list(tally), "trials": list(tally.values())})
    if not panels:
        raise JhpoError("failures: no trial failed")
    data = stacked(parts)
    return Drawing("Failures", tuple(panels), f"{counted(data['trials'].sum(), 'trial')} failed.", data)


def reasons(trials: Trials) -> dict[str, int]:
    """How many trials failed for each reason, the most frequent first.

    Reasons that differ only in numbers (but for those of lines) count as one, and the first of them stands for all, on
    one line.
    """
    texts = [line(trials.table.reason.get(i, "?")) for i in trials.table.in_state(TrialState.FAILED).tolist()]
    kinds = [_NUMBER.sub("0", text) for text in texts]
    first = dict(zip(reversed(kinds), reversed(texts)))
    several = {kind for kind, text in zip(kinds, texts) if text != first[kind]}
    tally = Counter(kinds)
    return {first[k] + (" (and other numbers)" if k in several else ""): n for k, n in tally.most_common()}


def times(studies: Studies) -> Drawing:
    """Where the wall time of the calls of `optimize` went: compiling, evaluating, and the rest.

    See `jhpo.report.spent.where_time_went`. A call that was killed is missing.

    Raises:
      JhpoError: no call of `optimize` has ended.
    """
    parts = []
    marks = []
    for slot, (name, trials) in enumerate(runs_of(studies)):
        if not trials.calls:
            raise JhpoError("times: no call of optimize() has ended in this study")
        spent = where_time_went(trials)
        labels, seconds = list(spent)[::-1], np.asarray(list(spent.values()))[::-1]
        marks.append(Bars(labels, seconds, name=name, slot=slot))
        parts.append({"study": [name] * len(labels), "part": labels, "seconds": seconds})
    panel = Panel(Axis("seconds"), Axis(), tuple(marks))
    data = stacked(parts)
    return Drawing("Where the time went", (panel,), f"{data['seconds'].sum():.3g} seconds in all.", data)
