"""Drawings as SVG elements for a page: small, themed by CSS variables, read without a script.

Points of one colour are one path of dots. Drawings are made `light` first.
"""

from __future__ import annotations

from html import escape

import numpy as np

from jhpo.report.figures.axes import ticks
from jhpo.report.figures.light import light
from jhpo.report.figures.marks import (
    Axis,
    Band,
    Bars,
    Description,
    Heat,
    Mark,
    Panel,
    Parallel,
    Points,
    Spans,
    Threads,
)
from jhpo.report.figures.palette import SERIES
from jhpo.report.figures.svg_marks import MARKS, Scale, levels, path, route
from jhpo.words.markup import cut, visible

WIDTH, HEIGHT = 390, 285
NARROW = 5  # parallel axes in half of a page
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 12, 22, 44
_LONGER = 840.0  # width of parallel coordinates that have a whole page
_LETTER = 6.4  # width of a letter of the axis texts
STYLE = """
.fig { width: 100%; height: auto; max-width: 600px; font: 12px system-ui, sans-serif; display: block }
.fig text { fill: var(--ink) } .fig .soft { fill: var(--soft) }
.fig .axis { stroke: var(--rule); fill: none }
.fig .grid { stroke: var(--rule); opacity: .45; fill: none }
.fig .line { fill: none; stroke-width: 2; stroke-linejoin: round }
.fig .thread { fill: none; stroke-width: 1; opacity: .7 }
.fig .dots { fill: none; stroke-width: 4.6; stroke-linecap: round; opacity: .85 }
.fig .faint { opacity: .35 } .fig .beyond { stroke: var(--soft); stroke-width: 1 }
.fig .spans { fill: none; stroke-width: 2; stroke-linecap: round }
.fig .band { opacity: .2 } .fig .heat { opacity: .55 }
.fig .over { paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round }
.fig .error { stroke: var(--ink); stroke-width: 1.5; fill: none }
"""


def elements(drawing: Description) -> list[str]:
    """An SVG element for each panel."""
    out = []
    for panel in map(light, drawing.panels):
        words = f"{drawing.title}{': ' if panel.title else ''}{panel.title}. {drawing.words}"
        element = _parallel(panel, words) if isinstance(panel, Parallel) else _panel(panel, words)
        out.append(visible(element))
    return out


def _open(width: float, height: float, words: str, title: str, style: str = "") -> list[str]:
    out = [f'<svg class="fig" viewBox="0 0 {width:.0f} {height:.0f}" role="img"{style}><title>{escape(words)}</title>']
    return out + ([f'<text x="{width / 2:.0f}" y="13" text-anchor="middle">{escape(title)}</text>'] if title else [])


def _extent(axis: Axis, found: list[np.ndarray], room: float) -> tuple[float, float]:
    """Lowest and highest value to show, with some room."""
    if axis.ends is not None:
        low, high = axis.ends
    else:
        values = np.concatenate([np.ravel(f) for f in found]) if found else np.empty(0)
        values = values[np.isfinite(values) & ((values > 0) | (axis.scale != "log"))]
        low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 2.0)
    if not high > low:
        width = abs(low) * 0.1 or 1.0
        return (low / 1.1, low * 1.1) if axis.scale == "log" else (low - width, low + width)
    if axis.listed:
        return low, high
    if axis.scale == "log":
        factor = (high / low) ** room
        return low / factor, high * factor
    return low - room * (high - low), high + room * (high - low)


def _extents(mark: Mark) -> tuple[list[np.ndarray], list[np.ndarray]]:
    match mark:
        case Band():
            return [mark.x], [mark.low, mark.high]
        case Spans():
            return [mark.start, mark.stop], [mark.y]
        case Bars():
            error = np.zeros(1) if mark.error is None else mark.length + mark.error
            return [np.zeros(1), mark.length, error], []
        case _:
            return [mark.x], [mark.y]


def _panel(panel: Panel, words: str) -> str:
    bars = [m for m in panel.marks if isinstance(m, Bars)]
    labels = list(bars[0].labels) if bars else []
    pairs = [_extents(m) for m in panel.marks]
    x_low, x_high = _extent(panel.x, [v for xs, _ in pairs for v in xs], 0.03)
    x_low = 0.0 if bars else x_low
    y_low, y_high = _extent(panel.y, [v for _, ys in pairs for v in ys], 0.05)
    places = ticks(panel.y, y_low, y_high)[1] if not bars else labels
    left = min(max(_LEFT, 30 + _LETTER * max(map(len, places), default=0)), 0.55 * WIDTH)
    names = [(m.name, m.slot) for m in panel.marks if not isinstance(m, Threads | Heat) and m.name and not _shaded(m)]
    legend = names if len(names) > 1 else []
    height = max(120.0, 70 + 22.0 * len(labels) * max(len(bars), 1)) if bars else HEIGHT
    rows = _legend(legend, height + 12)
    x = Scale(panel.x, x_low, x_high, left, WIDTH - _RIGHT)
    y = Scale(panel.y, y_low, y_high, height - _BOTTOM, _TOP)
    out = _open(WIDTH, height + rows[1], words, panel.title)
    out += _axes(x, y, height, bool(bars))
    out += _bars(bars, labels, x, height, left) if bars else []
    for mark in panel.marks:
        if not isinstance(mark, Bars):
            out += MARKS[type(mark)](mark, x, y)
    return "".join([*out, *rows[0], "</svg>"])


def _shaded(mark: Mark) -> bool:
    return isinstance(mark, Points) and mark.shade is not None


def _axes(x: Scale, y: Scale, height: float, bars: bool) -> list[str]:
    floor, out = height - _BOTTOM, []
    fitting = max(2, int((x.end - x.begin) / 66))
    shown = x.ticks(fitting)
    room = int((x.end - x.begin) / max(len(shown), 1) / _LETTER) - 1
    tilted = x.axis.listed and room < 5
    for at, text in shown:
        out.append(f'<path class="grid" d="M{at:.1f} {floor:.0f}V{_TOP}"/>')
        if tilted:
            turn = f"translate({at + 3:.1f} {floor + 9:.0f}) rotate(-50)"
            out.append(f'<text transform="{turn}" text-anchor="end" font-size="10">{escape(cut(text, 6))}</text>')
        else:
            shorter = cut(text, room) if x.axis.listed else text
            out.append(f'<text x="{at:.1f}" y="{floor + 14:.0f}" text-anchor="middle">{escape(shorter)}</text>')
    middle = (x.begin + x.end) / 2
    out.append(
        f'<text class="soft" x="{middle:.0f}" y="{height - 5:.0f}" text-anchor="middle">{escape(x.axis.title)}</text>'
    )
    if not bars:
        for at, text in y.ticks(6):
            out.append(f'<path class="grid" d="M{x.begin:.1f} {at:.1f}H{x.end:.1f}"/>')
            out.append(f'<text x="{x.begin - 5:.1f}" y="{at + 3.5:.1f}" text-anchor="end">{escape(text)}</text>')
        turn = f"translate(11 {(_TOP + floor) / 2:.0f}) rotate(-90)"
        out.append(f'<text class="soft" transform="{turn}" text-anchor="middle">{escape(y.axis.title)}</text>')
    out.append(f'<path class="axis" d="M{x.begin:.1f} {_TOP}V{floor:.0f}H{x.end:.1f}"/>')
    return out


def _legend(names: list[tuple[str, int]], top: float) -> tuple[list[str], float]:
    """Names of the series below the axes, in as many rows as they need, and the height of these."""
    out, x, y, seen = [], 12.0, top, set()
    for name, slot in names:
        width = 22 + _LETTER * len(name)
        if (name, slot) in seen:
            continue
        seen.add((name, slot))
        if x + width > WIDTH and x > 12:
            x, y = 12.0, y + 15
        out.append(f'<circle cx="{x + 4:.0f}" cy="{y - 4:.0f}" r="4" style="fill: var(--s{slot % len(SERIES)})"/>')
        out.append(f'<text x="{x + 12:.0f}" y="{y:.0f}">{escape(name)}</text>')
        x += width
    return out, (y - top + 16) if seen else 0.0


def _bars(bars: list[Bars], labels: list[str], x: Scale, height: float, left: float) -> list[str]:
    room = height - _BOTTOM - _TOP
    out, most = [], max(4, int((left - 10) / _LETTER))
    for place, label in enumerate(labels):
        middle = height - _BOTTOM - (place + 0.5) * room / len(labels)
        text = escape(cut(label, most))
        out.append(f'<text x="{left - 6:.0f}" y="{middle + 4:.1f}" text-anchor="end">{text}</text>')
        size = 0.7 * room / len(labels) / len(bars)
        for k, mark in enumerate(bars):
            if label not in mark.labels:
                continue
            row = list(mark.labels).index(label)
            top, end = middle + (k - len(bars) / 2) * size, float(x.at(mark.length[row]))
            fill = f"fill: var(--s{mark.slot % len(SERIES)})"
            width = max(end - left, 0.5)
            out.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{size:.1f}" style="{fill}"/>')
            if mark.error is not None and mark.error[row] > 0:
                low, high = (float(x.at(mark.length[row] + s * mark.error[row])) for s in (-1, 1))
                out.append(f'<path class="error" d="M{max(low, left):.1f} {top + size / 2:.1f}H{high:.1f}"/>')
    return out


def _parallel(panel: Parallel, words: str) -> str:
    """Vertical axes beside each other; the names stand above, on two levels so that they do not touch."""
    count = len(panel.axes)
    longest = max(len(a.title) for a in panel.axes)
    gap = max(72.0, min(_LETTER * longest / 2 + 10, 130.0))
    width, height, top = max(WIDTH if count <= NARROW else _LONGER, 90 + gap * (count - 1) + 60), 320.0, 52.0
    gap = (width - 120) / max(count - 1, 1)
    style = f' style="min-width: {0.8 * width:.0f}px; max-width: min(100%, {1.4 * width:.0f}px)"'
    out = _open(width, height, words, panel.title, style)
    scales = []
    for k, axis in enumerate(panel.axes):
        low, high = _extent(axis, [panel.rows[:, k]], 0.0)
        scales.append(Scale(axis, low, high, height - 16, top))
    at = 60 + gap * np.arange(count)
    places = np.stack([scale.at(panel.rows[:, k]) for k, scale in enumerate(scales)], axis=1)
    shade = levels(panel.shade)
    for k in np.unique(shade).tolist():
        lines = "".join(route(at, row, False) for row in places[shade == k])
        out.append(path("thread", lines, f"q{k}"))
    for k, (scale, px) in enumerate(zip(scales, at.tolist())):
        out.append(f'<path class="axis" d="M{px:.1f} {top:.0f}V{height - 16:.0f}"/>')
        level, title = top - (24 if k % 2 else 9), escape(scale.axis.title)
        out.append(f'<text x="{px:.1f}" y="{level:.0f}" text-anchor="middle">{title}</text>')
        for py, text in scale.ticks(5):
            out.append(f'<text class="over" x="{px + 4:.1f}" y="{py + 3.5:.1f}">{escape(cut(text, 10))}</text>')
    return "".join([*out, "</svg>"])
