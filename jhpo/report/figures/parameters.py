"""Values against hyperparameters, on the scales that the space declares; categories as categories."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jhpo.errors import InvalidArgument, JhpoError, check_integer
from jhpo.report.figures.axes import Coordinate, beyond_words, coordinates, short, value_axis
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.groups import Studies, groups_of, runs_of
from jhpo.report.figures.marks import Axis, Heat, Mark, Panel, Parallel, Points, stacked
from jhpo.report.figures.progress import check_one, complete
from jhpo.report.importance import FEWEST, importance
from jhpo.report.trials import Trials

_MOST = 16  # coordinates in a figure
_CELLS = 24  # of a heat map, along each axis
_GOLDEN = 0.6180339887498949  # multiples of it are spread evenly modulo 1
_REACH = 0.09  # of a trial in a heat map, in shares of an axis


def slices(studies: Studies, *, params: Sequence[str] | None = None, most: int = _MOST) -> Drawing:
    """The value against each parameter, a panel each; trials in which a parameter was inactive are left out.

    Args:
      studies: a study, a list of studies, or a dict by name.
      params: names of parameters; all if None.
      most: the most panels (arrays have one for each entry).

    Raises:
      InvalidArgument: an unknown parameter, studies of several objectives or of different spaces.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True)}), "random")
    >>> _ = study.optimize(lambda hp: hp["lr"] ** 2, budget=16)
    >>> slices(study).panels[0].x.scale
    'log'
    """
    check_integer("most", most)
    check_one("slice", groups_of(studies), "pareto")
    runs = same_spaces("slice", studies)
    marks: dict[str, list[Mark]] = {}
    axes: dict[str, Axis] = {}
    parts, values = [], []
    for slot, (name, trials) in enumerate(runs):
        ids, value, shade = complete(trials)
        values.append(value)
        for c in coordinates(trials.space, trials.table.unit.array[ids], params, most):
            shaded = shade if len(runs) == 1 else None
            texts = texts_of(ids, [c])
            axes.setdefault(c.name, c.axis)
            marks.setdefault(c.name, []).append(Points(spread(c, ids), value, name, shaded, texts, slot))
            parts.append(_rows(name, ids, c, value))
    axis = value_axis("value", *values, sign=runs[0][1].sign)
    panels = tuple(Panel(axes[n], axis, tuple(marks[n])) for n in axes)
    words = f"The value against each parameter.{beyond_words(axis)}"
    return Drawing("Slices", panels, words, stacked(parts), "better")


def parallel(studies: Studies, *, params: Sequence[str] | None = None, most: int = 10) -> Drawing:
    """Each trial as a line across the parameters to its value; a gap where a parameter was inactive.

    Arguments and errors are those of `slices`.
    """
    check_integer("most", most)
    check_one("parallel", groups_of(studies), "pareto")
    panels, parts = [], []
    for name, trials in runs_of(studies):
        ids, value, shade = complete(trials)
        found = coordinates(trials.space, trials.table.unit.array[ids], params, most)
        axes = (*(c.axis for c in found), value_axis("value", value, sign=trials.sign))
        rows = np.column_stack([*(spread(c, ids) for c in found), value])
        panels.append(Parallel(axes, rows, shade, name))
        parts += [_rows(name, ids, c, value) for c in found]
    words = "Each line is a trial: its hyperparameters, and its value on the last axis."
    words += beyond_words(axes[-1]) if len(panels) == 1 else ""
    return Drawing("Parallel coordinates", tuple(panels), words, stacked(parts), "better")


def contour(studies: Studies, *, params: Sequence[str] | None = None, most: int = 3) -> Drawing:
    """Smoothed values over pairs of parameters, with the trials on top; empty where no trial is near.

    Args:
      studies: a study, a list of studies, or a dict by name.
      params: at least two names; the most important ones if None.
      most: the most pairs.

    Raises:
      InvalidArgument: an unknown parameter, or fewer than two.
      JhpoError: the space has one coordinate only.
    """
    return _pairs("Contour", studies, params, most, True)


def rank(studies: Studies, *, params: Sequence[str] | None = None, most: int = 3) -> Drawing:
    """Trials over pairs of parameters, coloured by the rank of their value.

    Arguments and errors are those of `contour`.
    """
    return _pairs("Ranks", studies, params, most, False)


def _pairs(title: str, studies: Studies, params: Sequence[str] | None, most: int, smooth: bool) -> Drawing:
    check_integer("most", most)
    check_one(title.lower(), groups_of(studies), "pareto")
    if params is not None and len(params) < 2:
        raise InvalidArgument(f"params: expected at least two names, got {list(params)!r}")
    panels, parts = [], []
    for name, trials in runs_of(studies):
        ids, value, shade = complete(trials)
        found = coordinates(trials.space, trials.table.unit.array[ids], params or leading(trials), _MOST)
        if len(found) < 2:
            raise JhpoError(f"{title.lower()}: the space has one coordinate, and a pair needs two (see 'slice')")
        for a, b in list(itertools.combinations(found, 2))[:most]:
            dots = Points(spread(a, ids), spread(b, ids + 1), "trials", shade, texts_of(ids, [a, b], value))
            marks: tuple[Mark, ...] = (_heat(a, b, shade), dots) if smooth else (dots,)
            panels.append(Panel(a.axis, b.axis, marks, name))
            one = {"study": [name] * len(ids), "trial": ids, "x": [a.name] * len(ids), "y": [b.name] * len(ids)}
            parts.append(one | {"x_value": a.texts, "y_value": b.texts, "value": value, "share": shade})
    words = "Ranks of trials over pairs of parameters" + (", smoothed." if smooth else ".")
    return Drawing(title, tuple(panels), words, stacked(parts), "better")


def leading(trials: Trials, most: int = 3) -> list[str]:
    """The most important parameters; the first ones where there are too few trials to tell."""
    if len(trials.table.successes()) < FEWEST or trials.objectives is not None:
        return list(trials.space.names)[:most]
    shares = importance(trials)
    return sorted(shares, key=lambda name: -shares[name])[:most]


def _heat(a: Coordinate, b: Coordinate, shade: np.ndarray) -> Heat:
    """Means of ranks weighted by a normal of the distance on the axes; NaN where the weights are small."""
    there = np.isfinite(a.place) & np.isfinite(b.place) & np.isfinite(shade)
    (x_edges, x_middle, x), (y_edges, y_middle, y) = _shares(a, there), _shares(b, there)
    near_x = np.exp(-0.5 * ((x_middle[:, None] - x) / _REACH) ** 2)
    near_y = np.exp(-0.5 * ((y_middle[:, None] - y) / _REACH) ** 2)
    weight, total = near_y @ near_x.T, (near_y * shade[there]) @ near_x.T
    return Heat(x_edges, y_edges, np.where(weight > 0.25, total / np.maximum(weight, 1e-12), np.nan))


def _shares(c: Coordinate, there: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Borders of the cells on the axis, their middles and the trials as shares of its length."""
    log = c.axis.scale == "log"
    assert c.axis.ends is not None
    low, high = (np.log(e) if log else e for e in c.axis.ends)
    edges = np.linspace(low, high, 1 + (len(c.axis.ticks or ()) if c.axis.listed else _CELLS))
    place = np.log(c.place[there]) if log else c.place[there]
    middle = (edges[1:] + edges[:-1]) / 2
    return (np.exp(edges) if log else edges), (middle - low) / (high - low), (place - low) / (high - low)


def spread(c: Coordinate, ids: np.ndarray) -> np.ndarray:
    """Places of trials; those of a category side by side, in an order that looks random but is always the same."""
    return c.place + 0.5 * ((ids * _GOLDEN) % 1.0 - 0.5) if c.axis.listed else c.place


def texts_of(ids: np.ndarray, found: Sequence[Coordinate], value: np.ndarray | None = None) -> list[str]:
    """What hovering over trials shows."""
    tails = [""] * len(ids) if value is None else [f"<br>value: {short(v)}" for v in value.tolist()]
    rows = zip(*(c.texts for c in found))
    return [
        f"trial {i}" + "".join(f"<br>{c.name}: {text}" for c, text in zip(found, row)) + tail
        for i, row, tail in zip(ids.tolist(), rows, tails)
    ]


def _rows(name: str, ids: np.ndarray, c: Coordinate, value: np.ndarray) -> dict[str, Any]:
    there = np.isfinite(c.place)
    count = int(there.sum())
    named = {"study": [name] * count, "trial": ids[there], "parameter": [c.name] * count}
    return named | {"at": c.texts[there], "place": c.place[there], "value": value[there]}


def same_spaces(what: str, studies: Studies) -> list[tuple[str, Trials]]:
    """The studies, which share a panel for each parameter.

    Raises:
      InvalidArgument: their spaces differ.
    """
    runs = runs_of(studies)
    for name, trials in runs[1:]:
        if trials.space != runs[0][1].space:
            changes = "; ".join(runs[0][1].space.diff(trials.space))
            raise InvalidArgument(f"{what}: expected studies of one space, got in {name!r}: {changes}")
    return runs
