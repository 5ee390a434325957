"""How a search went: best values over trials, distributions of values, values along trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jhpo.errors import InvalidArgument, JhpoError, check_integer, check_number
from jhpo.report.figures.axes import beyond_words, value_axis
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.groups import Group, Studies, groups_of, runs_of
from jhpo.report.figures.light import thinned
from jhpo.report.figures.marks import Axis, Band, Line, Mark, Panel, Points, Threads, shades, stacked
from jhpo.report.trials import Trials, best_so_far, measured
from jhpo.trial import TrialState

_MIDDLE = (0.25, 0.5, 0.75)  # quantiles of a band
_MOST_RUNGS = 8


def history(studies: Studies, *, quantiles: tuple[float, float, float] = _MIDDLE) -> Drawing:
    """The best value after each trial; for repetitions of a search their median, in a band of quantiles.

    Args:
      studies: a study, a list of studies, or a dict by name. A list as a value of the dict holds repetitions.
      quantiles: lower edge of the band, line, upper edge.

    Raises:
      InvalidArgument: studies of several objectives (see `hypervolume`), or quantiles that do not ascend in [0, 1].

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}), "random")
    >>> for trial, value in zip(study.ask(3), [2.0, 3.0, 1.0]):
    ...     study.tell(trial, value)
    >>> history(study).data["best"].tolist()
    [2.0, 2.0, 1.0]
    """
    for at in quantiles:
        check_number("quantiles", at, 0.0, 1.0)
    if list(quantiles) != sorted(quantiles) or len(quantiles) != 3:
        raise InvalidArgument(f"quantiles: expected three ascending numbers, got {quantiles!r}")
    groups = groups_of(studies)
    check_one("history", groups, "hypervolume")
    marks: list[Mark] = []
    parts: list[dict[str, Any]] = []
    for slot, group in enumerate(groups):
        if len(group.runs) > 1:
            marks += _band(group, slot, quantiles)
        else:
            marks += _single(group, slot, len(groups) == 1)
        parts += [_history_rows(group.name, k, run) for k, run in enumerate(group.runs)]
    data = stacked(parts)
    axis = value_axis("value", *_heights(marks), sign=groups[0].trials.sign)
    ends = [(g.name or "The study", _last(g)) for g in groups]
    last = [f"{n} {f'reached {end:.6g}' if np.isfinite(end) else 'has no successful trial yet'}" for n, end in ends]
    words = f"{'; '.join(last)}.{beyond_words(axis)}"
    return Drawing("Optimization history", (Panel(Axis("trial"), axis, tuple(marks)),), words, data)


def check_one(what: str, groups: list[Group], instead: str) -> None:
    """Raises `InvalidArgument` for studies of several objectives."""
    if groups[0].trials.objectives is not None:
        raise InvalidArgument(f"{what}: expected studies of one objective; see {instead!r} for several")


def _single(group: Group, slot: int, alone: bool) -> list[Mark]:
    trials = group.trials
    ids, best = np.arange(trials.table.size), best_so_far(trials)
    label = group.name and f"{group.name}: "
    value = Points(ids, trials.table.value.array.copy(), f"{label}value", slot=slot, faint=True)
    line = Line(ids, best, f"{label}best so far" if alone else group.name, 1 if alone else slot, True)
    return [value, line] if alone else [line]


def _heights(marks: Sequence[Mark]) -> list[np.ndarray]:
    """The values that a history shows: those of trials, or else of lines and bands."""
    dots = [m.y for m in marks if isinstance(m, Points)]
    lines = [m.y for m in marks if isinstance(m, Line)]
    return dots or [*lines, *(y for m in marks if isinstance(m, Band) for y in (m.low, m.high))]


def _band(group: Group, slot: int, quantiles: tuple[float, float, float]) -> list[Mark]:
    """Runs that ended earlier keep their last value."""
    lines = [best_so_far(run) for run in group.runs]
    length = max(map(len, lines))
    held = np.stack([np.append(line, np.full(length - len(line), line[-1] if len(line) else np.nan)) for line in lines])
    there = np.isfinite(held).any(axis=0)
    at = np.flatnonzero(there)
    low, middle, high = np.nanquantile(held[:, at], quantiles, axis=0) if len(at) else np.empty((3, 0))
    return [
        Band(at, low, high, f"{quantiles[0]:g} to {quantiles[2]:g} of {len(lines)} runs", slot, True),
        Line(at, middle, group.name, slot, True),
    ]


def _last(group: Group) -> float:
    ends = [best_so_far(run)[-1] for run in group.runs if run.table.size]
    return float(np.median(ends)) if ends else float("nan")


def _history_rows(name: str, number: int, trials: Trials) -> dict[str, Any]:
    count = trials.table.size
    return {
        "study": [name] * count,
        "run": np.full(count, number),
        "trial": np.arange(count),
        "value": trials.table.value.array.copy(),
        "best": best_so_far(trials),
    }


def edf(studies: Studies) -> Drawing:
    """The share of trials with a value up to each value: how often a search finds good values.

    Raises:
      InvalidArgument: studies of several objectives.
    """
    check_one("edf", groups_of(studies), "pareto")
    marks: list[Mark] = []
    parts = []
    for slot, (name, trials) in enumerate(runs_of(studies)):
        value = np.sort(trials.table.value.array[trials.table.in_state(TrialState.COMPLETE)])
        share = np.arange(1, len(value) + 1) / max(len(value), 1)
        marks.append(Line(value, share, name, slot, True))
        parts.append({"study": [name] * len(value), "value": value, "share": share})
    data = stacked(parts)
    axis = value_axis("value", data["value"], sign=groups_of(studies)[0].trials.sign)
    panel = Panel(axis, Axis("share of trials", ends=(0.0, 1.0)), tuple(marks))
    words = f"The share of trials up to each value.{beyond_words(axis)}"
    return Drawing("Empirical distribution", (panel,), words, data)


def curves(studies: Studies, *, most: int = 400) -> Drawing:
    """Values along the trainings, of members that were measured at several steps; those that were stopped end early.

    Args:
      studies: of objectives that report, or of strategies that pause members.
      most: the most trials drawn: the best half of them, and every so many of the others.

    Raises:
      JhpoError: no trial was measured on the way.
    """
    check_integer("most", most)
    check_one("curves", groups_of(studies), "pareto")
    panels, parts = [], []
    for name, trials in runs_of(studies):
        steps, value = measured(trials)
        if not len(steps):
            raise JhpoError("curves: no values along the trainings; objectives report them, or strategies pause")
        ids = np.flatnonzero(np.isfinite(value).any(axis=1))
        # the last value of each trial, from which its colour follows among those that came as far
        reached = value.shape[1] - 1 - np.isfinite(value[ids, ::-1]).argmax(axis=1)
        order = np.lexsort((trials.sign * value[ids, reached], -reached))
        shade = np.empty(len(ids))
        shade[order] = np.linspace(1.0, 0.0, len(ids))
        drawn = np.sort(thinned(order, most))
        lines = Threads(steps, value[ids[drawn]], shade[drawn], "trials")
        rungs = _rungs(steps, reached, lines.y)
        axis = value_axis("value", lines.y, sign=trials.sign)
        panels.append(Panel(Axis("step"), axis, (lines, *rungs), name))
        at, there = np.nonzero(np.isfinite(value))
        parts.append({"study": [name] * len(at), "trial": at, "step": steps[there], "value": value[at, there]})
    words = f"Values of trials at {len(steps)} steps of their training; those that were stopped end early."
    words += beyond_words(axis) if len(panels) == 1 else ""
    return Drawing("Learning curves", tuple(panels), words, stacked(parts), "better at its last step")


def _rungs(steps: np.ndarray, reached: np.ndarray, y: np.ndarray) -> list[Mark]:
    """Lines at the few steps where several trials were stopped; none where trials were stopped anywhere."""
    counts = np.bincount(reached, minlength=len(steps))[:-1]
    found = steps[:-1][counts > 1]
    if not 0 < len(found) <= _MOST_RUNGS:
        return []
    ends = np.asarray([np.nanmin(y), np.nanmax(y)])
    return [Line(np.full(2, step), ends, "rung", slot=7) for step in found.tolist()]


def complete(trials: Trials) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Complete trials of the longest training: their ids, values (of the first objective), and shades."""
    table = trials.table
    ids = table.in_state(TrialState.COMPLETE)
    ids = ids[table.horizon.array[ids] == table.horizon.array[ids].max(initial=0.0)]
    value = table.value.array[ids]
    return ids, value, shades(value, trials.sign if trials.objectives is None else trials.objectives.signs[0])
