"""Drawings with fewer marks, for pages: no screen shows more, and a page of ten thousand trials stays small."""

from __future__ import annotations

import dataclasses

import numpy as np

from jhpo.report.figures.marks import Band, Heat, Line, Mark, Panel, Parallel, Points, Spans

MOST = 1500  # points, segments, or places on a line
_MOST_LINES = 240  # in parallel coordinates, where more are a blur
_MOST_ROWS = 200  # of a heat map: thinner ones are less than a pixel


def thinned(ordered: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the entries, best first: the best half of them, and the others evenly.

    >>> thinned(np.arange(10), 4).tolist()
    [0, 1, 2, 9]
    """
    if len(ordered) <= most:
        return ordered
    best = ordered[: most // 2]
    rest = np.linspace(most // 2, len(ordered) - 1, most - most // 2).astype(int)
    return np.append(best, ordered[rest])


def light(panel: Panel | Parallel) -> Panel | Parallel:
    """The panel with few marks; where they have shades, the best half of them and an even choice of the others."""
    if isinstance(panel, Parallel):
        kept = thinned(np.argsort(-panel.shade, kind="stable"), _MOST_LINES)[::-1]  # the best on top
        return dataclasses.replace(panel, rows=panel.rows[kept], shade=panel.shade[kept])
    return dataclasses.replace(panel, marks=tuple(map(_light, panel.marks)))


def _light(mark: Mark) -> Mark:
    match mark:
        case Points():
            return _points(mark)
        case Line():
            kept = _turns([mark.y]) if mark.step else _even(len(mark.x))
            return dataclasses.replace(mark, x=mark.x[kept], y=mark.y[kept])
        case Band():
            kept = _turns([mark.low, mark.high])
            return dataclasses.replace(mark, x=mark.x[kept], low=mark.low[kept], high=mark.high[kept])
        case Spans():
            kept = _even(len(mark.y))
            return dataclasses.replace(mark, start=mark.start[kept], stop=mark.stop[kept], y=mark.y[kept])
        case Heat() if len(mark.shade) > _MOST_ROWS:
            kept = np.linspace(0, len(mark.shade), _MOST_ROWS + 1).astype(int)
            return dataclasses.replace(mark, y=mark.y[kept], shade=mark.shade[kept[:-1]], texts=None)
        case _:
            return mark


def _even(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, MOST)).astype(int))


def _turns(values: list[np.ndarray]) -> np.ndarray:
    """Places where lines of steps change, and their ends; evenly chosen where there are too many."""
    turns = np.ones(len(values[0]), np.bool_)
    if len(turns) > 2:
        turns[1:-1] = np.any([v[1:-1] != v[:-2] for v in values], axis=0)
    found = np.flatnonzero(turns)
    return found[_even(len(found))] if len(found) > MOST else found


def _points(mark: Points) -> Points:
    shown = np.flatnonzero(np.isfinite(mark.x) & np.isfinite(mark.y))
    if mark.shade is not None:
        shown = np.sort(thinned(shown[np.argsort(-mark.shade[shown], kind="stable")], MOST))
    else:
        shown = shown[_even(len(shown))]
    texts = None if mark.texts is None else [mark.texts[i] for i in shown.tolist()]
    shade = None if mark.shade is None else mark.shade[shown]
    return dataclasses.replace(mark, x=mark.x[shown], y=mark.y[shown], shade=shade, texts=texts)
