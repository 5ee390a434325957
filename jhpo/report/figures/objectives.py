"""Several objectives: the front, and how its hypervolume grew."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import numpy as np

from jhpo.errors import InvalidArgument, JhpoError
from jhpo.objectives import reference_point
from jhpo.report.figures.axes import value_axis
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.groups import Studies, groups_of, runs_of
from jhpo.report.figures.marks import Axis, Line, Mark, Panel, Parallel, Points, stacked
from jhpo.report.hypervolume import over_trials
from jhpo.report.trials import Trials
from jhpo.words.markup import counted


def pareto(studies: Studies) -> Drawing:
    """The trials and the front: a panel for each pair of objectives; above three, parallel coordinates of the front.

    Args:
      studies: a study of several objectives, a list of studies, or a dict by name.

    Raises:
      InvalidArgument: studies of one objective.
      JhpoError: no finished trial yet.
    """
    runs = _several("pareto", studies)
    labels, objectives = list(runs[0][1].labels), runs[0][1].objectives
    assert objectives is not None
    signs = objectives.signs.tolist()
    fronts = [_values(trials) for _, trials in runs]
    parts = [_rows(name, trials, *each) for (name, trials), each in zip(runs, fronts)]
    words = "; ".join(
        f"{counted(len(best), 'trial')}{f' of {n}' if n else ''} on the front"
        for (n, _), (_, _, best) in zip(runs, fronts)
    )
    data = stacked(parts)
    if len(labels) > 3:
        panels: list[Panel | Parallel] = []
        for (name, _), (_, values, best) in zip(runs, fronts):
            axes = tuple(value_axis(label, values[best, k], sign=signs[k]) for k, label in enumerate(labels))
            order = np.argsort(np.argsort(values[best, 0])) / max(len(best) - 1, 1)
            panels.append(Parallel(axes, values[best], 1.0 - order, name))
        return Drawing("Pareto front", tuple(panels), f"{words}.", data, f"lower {labels[0]}")
    panels = []
    for a, b in itertools.combinations(range(len(labels)), 2):
        marks: list[Mark] = []
        for slot, ((name, _), (ids, values, best)) in enumerate(zip(runs, fronts)):
            marks.append(Points(values[:, a], values[:, b], _named(name, "trials"), None, _texts(ids), 2 * slot, True))
            marks.append(
                Points(values[best, a], values[best, b], _named(name, "front"), None, _texts(ids[best]), 2 * slot + 1)
            )
        x, y = (value_axis(labels[k], *(v[:, k] for _, v, _ in fronts), sign=signs[k]) for k in (a, b))
        panels.append(Panel(x, y, tuple(marks)))
    own = None if len(labels) == 2 else lambda go: _three(go, labels, runs, fronts)
    return Drawing("Pareto front", tuple(panels), f"{words}.", data, own=own)


def hypervolume(studies: Studies) -> Drawing:
    """The hypervolume of the front after each number of trials, with one reference point for all studies.

    The reference is the worst value of each objective on the fronts of all studies, plus a tenth of their extents.

    Raises:
      InvalidArgument: studies of one objective.
      JhpoError: no successful trial.
    """
    runs = _several("hypervolume", studies)
    ends = [trials.minimised(trials.front()) for _, trials in runs]
    if not any(map(len, ends)):
        raise JhpoError("no successful trial yet, so no hypervolume")
    at = reference_point(np.concatenate(ends))
    marks, parts = [], []
    for slot, (name, trials) in enumerate(runs):
        counts, found = over_trials(trials, at)
        marks.append(Line(counts, found, name, slot, True))
        parts.append({"study": [name] * len(counts), "trials": counts, "hypervolume": found})
    panel = Panel(Axis("trials"), Axis("hypervolume"), tuple(marks))
    return Drawing("Hypervolume", (panel,), "The volume that the front dominates.", stacked(parts))


def _several(what: str, studies: Studies) -> list[tuple[str, Trials]]:
    runs = runs_of(studies)
    if groups_of(studies)[0].trials.objectives is None:
        raise InvalidArgument(f"{what}: expected studies of several objectives, got one; see 'history'")
    return runs


def _values(trials: Trials) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of the finished trials, their values ``float[n, m]``, and which rows are on the front."""
    if "values" not in trials.table.extra:
        raise JhpoError("no finished trial yet, so no front")
    values = trials.table.extra["values"].array
    ids = np.flatnonzero(np.isfinite(values).all(axis=1))
    return ids, values[ids], np.searchsorted(ids, trials.front())


def _rows(name: str, trials: Trials, ids: np.ndarray, values: np.ndarray, best: np.ndarray) -> dict[str, Any]:
    named = {"study": [name] * len(ids), "trial": ids, "front": np.isin(np.arange(len(ids)), best)}
    return named | {label: values[:, k] for k, label in enumerate(trials.labels)}


def _texts(ids: np.ndarray) -> list[str]:
    return [f"trial {i}" for i in ids.tolist()]


def _named(study: str, what: str) -> str:
    return f"{study}: {what}" if study else what


def _three(go: ModuleType, labels: list[str], runs: Any, fronts: Any) -> Any:
    """Three objectives in three dimensions."""
    data = []
    for (name, _), (ids, values, best) in zip(runs, fronts):
        for what, rows, opacity in (("trials", slice(None), 0.3), ("front", best, 1.0)):
            at = dict(zip("xyz", values[rows].T))
            marks = {"mode": "markers", "marker_size": 4, "opacity": opacity, "text": _texts(ids[rows])}
            data.append(go.Scatter3d(**at, **marks, name=_named(name, what)))
    axes = {f"{axis}axis": {"title": label} for axis, label in zip("xyz", labels)}
    return go.Figure(data, layout={"scene": axes})
