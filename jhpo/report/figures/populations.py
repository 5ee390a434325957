"""Populations that change while they train: schedules of hyperparameters, and gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jhpo.errors import JhpoError, check_integer
from jhpo.report.figures.axes import coordinates, value_axis
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.groups import Studies, runs_of
from jhpo.report.figures.marks import Axis, Heat, Line, Panel, Points, Threads, stacked
from jhpo.report.trials import Trials, measured
from jhpo.trial import TrialState

_MOST = 8  # parameters


def schedules(studies: Studies, *, params: Sequence[str] | None = None, most: int = 100) -> Drawing:
    """Hyperparameters over the training of an evolving population: the best member's, and the other members'.

    Args:
      studies: studies of population-based training.
      params: names of parameters; all if None.
      most: the most members drawn beside the best.

    Raises:
      JhpoError: members keep their hyperparameters in this study.
    """
    check_integer("most", most)
    panels, parts = [], []
    for name, trials in runs_of(studies):
        steps = np.asarray(sorted(trials.table.source))
        if not len(steps):
            raise JhpoError("schedules: the members of this study keep their hyperparameters")
        ids = _finished(trials)
        units = _followed(trials, steps, ids)
        begin = np.append(0, steps[:-1])
        for c in coordinates(trials.space, units.reshape(-1, trials.space.dim), params, _MOST):
            place = c.place.reshape(len(steps), len(ids)).T
            # a value holds from the beginning of its part to the end of the training
            y, x = np.concatenate([place, place[:, -1:]], axis=1), np.append(begin, steps[-1])
            chosen = np.unique(np.linspace(0, len(ids) - 1, min(most, len(ids))).astype(int))
            shade = 1.0 - chosen / max(len(ids) - 1, 1)
            others = Threads(x, y[chosen], np.minimum(shade, 0.6) * 0.6, "members")
            panels.append(Panel(Axis("step"), c.axis, (others, Line(x, y[0], "best member", 1, True)), name))
            count = place.size
            parts.append({
                "study": [name] * count, "trial": np.repeat(ids, len(steps)), "step": np.tile(begin, len(ids)),
                "parameter": [c.name] * count, "place": place.ravel(),
            })  # fmt: skip
    words = "Hyperparameters along the training of the best member and its ancestors, and of others."
    return Drawing("Learned schedules", tuple(panels), words, stacked(parts), "better at the end")


def population(studies: Studies) -> Drawing:
    """Values of all members over the training, as a heat map: a row for each member, the best at the end on top.

    Raises:
      JhpoError: the members of a study were not measured on the way.
    """
    panels, parts = [], []
    for name, trials in runs_of(studies):
        steps, value = measured(trials)
        if not len(steps):
            raise JhpoError("population: no values along the trainings; strategies that pause members record them")
        ids = np.flatnonzero(np.isfinite(value).any(axis=1))
        reached = np.isfinite(value[ids]).sum(axis=1)
        last = trials.sign * value[ids, [np.flatnonzero(r).max() for r in np.isfinite(value[ids])]]
        ids = ids[np.lexsort((-last, reached))]  # the best comes last, on top
        # on the scale on which the values are spread, or else the first steps would take all shades
        found = np.log(value[ids]) if value_axis("", value, sign=trials.sign).scale == "log" else value[ids]
        found = trials.sign * found
        lowest, highest = np.nanquantile(found, (0.0, 0.95))
        shade = np.clip(1.0 - (found - lowest) / max(highest - lowest, 1e-30), 0.0, 1.0)
        edges = np.append(0, steps).astype(float)
        panels.append(Panel(Axis("step"), Axis("member"), (Heat(edges, np.arange(len(ids) + 1.0), shade),), name))
        at, there = np.nonzero(np.isfinite(value))
        parts.append({"study": [name] * len(at), "trial": at, "step": steps[there], "value": value[at, there]})
    words = "Values of the members over their training; rows that end early were stopped."
    return Drawing("Population", tuple(panels), words, stacked(parts), "better")


def gradients(studies: Studies) -> Drawing:
    """Length of each trial's gradient with respect to the unit coordinates; growth means chaos, noise no signal.

    A horizontal line is the median; trials without a finite gradient are counted in the words.

    Raises:
      JhpoError: no gradients were measured.
    """
    panels, parts = [], []
    missing = 0
    for name, trials in runs_of(studies):
        if "grad" not in trials.table.extra:
            raise JhpoError(
                "gradients: no gradients in this study; HyperGradient and BayesOpt(gradients=True) measure them"
            )
        grad = trials.table.extra["grad"].array
        length = np.sqrt((grad**2).sum(axis=1))
        done = trials.table.in_state(TrialState.COMPLETE)
        missing += int((~np.isfinite(length[done])).sum())
        ids = done[np.isfinite(length[done]) & (length[done] > 0)]
        middle = np.full(2, np.median(length[ids]) if len(ids) else np.nan)
        marks = (
            Points(ids, length[ids], "gradient", faint=True),
            Line(np.array([0, trials.table.size]), middle, "median", 1),
        )
        panels.append(Panel(Axis("trial"), value_axis("length of the gradient", length[ids]), marks, name))
        parts.append({"study": [name] * len(ids), "trial": ids, "length": length[ids]})
    note = f"{missing} trials have no finite gradient." if missing else "Lengths over the trials, all of them finite."
    return Drawing("Gradients", tuple(panels), note, stacked(parts))


def _finished(trials: Trials) -> np.ndarray:
    """Trials that were trained to the end, best first."""
    ids = trials.table.ranked(trials.sign)
    last = max(trials.table.source)
    ids = ids[trials.table.source[last].array[ids] >= 0]
    if not len(ids):
        raise JhpoError("schedules: no member has been trained to the end yet")
    return np.asarray(ids)


def _followed(trials: Trials, steps: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """``float[p, k, d]``: the points that members and their ancestors were trained with, part by part."""
    units, now = [], ids
    for step in steps[::-1].tolist():
        units.append(trials.table.steered[step].array[now])
        now = trials.table.source[step].array[now]
    return np.stack(units[::-1])
