"""The marks of a drawing as SVG elements: points, lines, bands, threads, spans, heat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jhpo.report.figures.axes import ticks
from jhpo.report.figures.marks import Axis, Band, Heat, Line, Points, Spans, Threads
from jhpo.report.figures.palette import RAMP, SERIES


class Scale(NamedTuple):
    """From values of an axis to places in the drawing."""

    axis: Axis
    low: float
    high: float
    begin: float
    end: float

    def at(self, value: ArrayLike) -> np.ndarray:
        """The places of values; NaN where there is none, the end of the axis where they lie beyond it."""
        x, low, high = np.asarray(value, np.float64), self.low, self.high
        if self.axis.scale == "log":
            with np.errstate(divide="ignore", invalid="ignore"):
                x = np.log(x)
            low, high = np.log(low), np.log(high)
        x = np.where(np.isfinite(x), x, np.nan)
        share = (x - low) / (high - low)
        share = np.clip(share, 0.0, 1.0) if self.axis.beyond else share
        return np.asarray(self.begin + share * (self.end - self.begin))

    def beyond(self, value: np.ndarray) -> np.ndarray:
        """``int[n]``: 1 where a value lies beyond the upper end, -1 where beyond the lower one, 0 otherwise."""
        if not self.axis.beyond:
            return np.zeros(len(value), int)
        return (value > self.high).astype(int) - (value < self.low).astype(int)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """At most so many places with their texts."""
        places, texts = ticks(self.axis, self.low, self.high, most)
        return [(float(self.at(p)), t) for p, t in zip(places, texts) if self.low <= p <= self.high]


def path(kind: str, d: str, colour: str) -> str:
    """A stroked path; nothing where it is empty."""
    return f'<path class="{kind}" d="{d}" style="stroke: var(--{colour})"/>' if d else ""


def _dots(x: np.ndarray, y: np.ndarray) -> str:
    return "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x.tolist(), y.tolist()))


def levels(shade: np.ndarray) -> np.ndarray:
    """The colours of the ramp for shades in [0, 1], as their numbers."""
    return np.minimum((np.nan_to_num(shade) * len(RAMP)).astype(int), len(RAMP) - 1)


def _points(mark: Points, x: Scale, y: Scale) -> list[str]:
    """Dots; triangles that point outwards at the end of an axis for values beyond it."""
    px, py, kind = x.at(mark.x), y.at(mark.y), "dots faint" if mark.faint else "dots"
    right, up = x.beyond(mark.x), y.beyond(mark.y)
    inside = (right == 0) & (up == 0)
    colours = np.full(len(px), f"s{mark.slot % len(SERIES)}", object)
    if mark.shade is not None:
        colours = np.asarray([f"q{k}" for k in levels(mark.shade)], object)
    out = [path(kind, _dots(px[on], py[on]), str(c)) for c in np.unique(colours) for on in [inside & (colours == c)]]
    for k in np.flatnonzero(~inside & np.isfinite(px) & np.isfinite(py)).tolist():
        out.append(_triangle(px[k], py[k], int(right[k]), int(up[k]), str(colours[k])))
    return out


def _triangle(x: float, y: float, right: int, up: int, colour: str) -> str:
    """A triangle with its tip at a place, in the direction of ``(right, up)``."""
    along = np.asarray([right, -up]) / np.hypot(right, up)
    across = np.asarray([-along[1], along[0]])
    corners = [np.asarray([x, y]), *(np.asarray([x, y]) - 7.0 * along + 4.0 * side * across for side in (-1.0, 1.0))]
    d = "L".join(f"{a:.1f} {b:.1f}" for a, b in corners)
    return f'<path class="beyond" d="M{d}Z" style="fill: var(--{colour})"/>'


def route(px: np.ndarray, py: np.ndarray, step: bool) -> str:
    """A path along points, broken at NaN."""
    out, pen = [], False
    for a, b, ok in zip(px.tolist(), py.tolist(), (np.isfinite(px) & np.isfinite(py)).tolist()):
        if ok:
            out.append((f"H{a:.1f}V{b:.1f}" if step else f"L{a:.1f} {b:.1f}") if pen else f"M{a:.1f} {b:.1f}")
        pen = ok
    return "".join(out)


def _line(mark: Line, x: Scale, y: Scale) -> list[str]:
    return [path("line", route(x.at(mark.x), y.at(mark.y), mark.step), f"s{mark.slot % len(SERIES)}")]


def _band(mark: Band, x: Scale, y: Scale) -> list[str]:
    """Along the upper edge, and back along the lower one, where a step is level first."""
    px, low = x.at(mark.x).tolist(), y.at(mark.low).tolist()
    if not px:
        return []
    back = "".join(f"V{b:.1f}H{a:.1f}" if mark.step else f"L{a:.1f} {b:.1f}" for a, b in zip(px[::-1], low[::-1]))
    top = route(x.at(mark.x), y.at(mark.high), mark.step)
    return [f'<path class="band" d="{top}{back}Z" style="fill: var(--s{mark.slot % len(SERIES)})"/>']


def _threads(mark: Threads, x: Scale, y: Scale) -> list[str]:
    px, level = x.at(mark.x), levels(mark.shade)
    lines = [route(px, y.at(row), False) for row in mark.y]
    single = [k for k, line in enumerate(lines) if "L" not in line]  # measured once: a dot
    out = []
    for k in np.unique(level).tolist():
        here = np.flatnonzero(level == k).tolist()
        out.append(path("thread", "".join(lines[i] for i in here if i not in set(single)), f"q{k}"))
        out.append(path("dots", "".join(f"{lines[i]}h0" for i in here if i in set(single) and lines[i]), f"q{k}"))
    return out


def _spans(mark: Spans, x: Scale, y: Scale) -> list[str]:
    rows = zip(x.at(mark.start).tolist(), x.at(mark.stop).tolist(), y.at(mark.y).tolist())
    d = "".join(f"M{a:.1f} {c:.1f}H{max(b, a):.1f}" for a, b, c in rows)
    return [path("spans", d, f"s{mark.slot % len(SERIES)}")]


def _heat(mark: Heat, x: Scale, y: Scale) -> list[str]:
    """Cells of one shade in a row are one rectangle."""
    px, py, level = x.at(mark.x), y.at(mark.y), np.where(np.isfinite(mark.shade), levels(mark.shade), -1)
    paths: dict[int, list[str]] = {}
    for row in range(level.shape[0]):
        ends = np.append(np.flatnonzero(np.diff(level[row])) + 1, level.shape[1])
        for begin, end in zip(np.append(0, ends[:-1]).tolist(), ends.tolist()):
            cell = f"M{px[begin]:.1f} {py[row]:.1f}H{px[end]:.1f}V{py[row + 1]:.1f}H{px[begin]:.1f}Z"
            paths.setdefault(int(level[row, begin]), []).append(cell)
    return [
        f'<path class="heat" d="{"".join(cells)}" style="fill: var(--q{k})"/>'
        for k, cells in sorted(paths.items())
        if k >= 0
    ]


MARKS: dict[type, Callable[[Any, Scale, Scale], list[str]]] = {
    Points: _points, Line: _line, Band: _band, Threads: _threads, Spans: _spans, Heat: _heat,
}  # fmt: skip
