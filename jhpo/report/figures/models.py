"""What a Gaussian process of the trials believes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jhpo.errors import check_integer
from jhpo.report.figures.axes import Coordinate, coordinates, short
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.groups import groups_of, runs_of
from jhpo.report.figures.marks import Axis, Band, Line, Mark, Panel, Points, stacked
from jhpo.report.figures.parameters import leading, spread
from jhpo.report.figures.progress import check_one
from jhpo.report.surrogate import Slices, slices
from jhpo.report.trials import Trials

_TICKS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # quantiles of the values
_APART = 0.35  # of ticks, in the model's scale
_FLOOR = 12.0  # the logarithm of the improvement is shown down to so much below its highest


def model(studies: Any, *, params: Sequence[str] | None = None, most: int = 3) -> Drawing:
    """Mean, uncertainty and expected improvement of a Gaussian process of the trials, through the best one.

    Two panels for each parameter: the mean in a band of two standard deviations, and below it the logarithm of the
    expected improvement, which `jhpo.BayesOpt` maximises. The process is fitted to the trials as that strategy fits
    its own, whatever strategy proposed them.

    Args:
      studies: a study, a list of studies, or a dict by name.
      params: names of parameters; the most important ones if None.
      most: the most coordinates.

    Raises:
      InvalidArgument: an unknown parameter, or studies of several objectives.
      JhpoError: fewer than eight successful trials.
    """
    check_integer("most", most)
    check_one("model", groups_of(studies), "pareto")
    panels: list[Panel] = []
    parts = []
    for name, trials in runs_of(studies):
        found = slices(trials)
        axis = _axis(trials, found)
        names = [c.name for c in coordinates(trials.space, found.units[0], None, trials.space.dim)]
        units = trials.table.unit.array[found.ids]
        pairs = []
        for c in coordinates(trials.space, units, params or leading(trials), most):
            k = names.index(c.name)
            line = coordinates(trials.space, found.units[k], None, k + 1)[k]
            pairs.append(_panels(found, k, c, line, axis, name))
            count = len(line.place)
            parts.append({
                "study": [name] * count, "parameter": [c.name] * count, "at": line.texts, "place": line.place,
                "mean": found.mean[k], "deviation": found.deviation[k], "log_improvement": found.improvement[k],
            })  # fmt: skip
        panels += [panel for row in zip(*pairs) for panel in row]  # means in one row, improvements below them
    words = "Through the best trial: mean and two standard deviations, and where an improvement is expected."
    return Drawing("Model", tuple(panels), words, stacked(parts))


def _axis(trials: Trials, found: Slices) -> Axis:
    """The model's scale, labelled with the values of trials."""
    order = np.argsort(found.targets)
    value, target = trials.table.value.array[found.ids][order], found.targets[order]
    places: list[float] = []
    labels: list[str] = []
    for at in _TICKS:
        k = round(at * (len(order) - 1))
        text = short(float(f"{value[k]:.3g}"))
        if text not in labels and all(abs(target[k] - p) > _APART for p in places):
            places.append(float(target[k]))
            labels.append(text)
    return Axis("value, as the model sees it", "linear", tuple(places), tuple(labels))


def _panels(found: Slices, k: int, c: Coordinate, line: Coordinate, axis: Axis, name: str) -> tuple[Panel, Panel]:
    low, high = found.mean[k] - 2 * found.deviation[k], found.mean[k] + 2 * found.deviation[k]
    seen = Points(spread(c, found.ids), found.targets, "trials", faint=True)
    improvement = np.maximum(found.improvement[k], found.improvement[k].max() - _FLOOR)
    if c.axis.listed:
        kinds, gap = np.unique(line.place, return_index=True)[1], np.nan
        x = np.asarray([(place, place, gap) for place in line.place[kinds]]).ravel()
        y = np.asarray([(a, b, gap) for a, b in zip(low[kinds], high[kinds])]).ravel()
        middle = Points(line.place[kinds], found.mean[k][kinds], "mean", slot=1)
        marks: tuple[Mark, ...] = (seen, Line(x, y, "two deviations", 1), middle)
        worth: Mark = Points(line.place[kinds], improvement[kinds], slot=2)
    else:
        band = Band(line.place, low, high, "two deviations", 1)
        marks = (seen, band, Line(line.place, found.mean[k], "mean", 1))
        worth = Line(line.place, improvement, slot=2)
    return Panel(c.axis, axis, marks, name), Panel(c.axis, Axis("log expected improvement"), (worth,), name)
