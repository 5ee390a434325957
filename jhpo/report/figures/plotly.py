"""Drawings as interactive plotly figures."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from jhpo.errors import MissingExtra
from jhpo.report.figures.axes import ticks
from jhpo.report.figures.marks import Axis, Band, Bars, Description, Heat, Line, Panel, Parallel, Points, Spans, Threads
from jhpo.report.figures.palette import RAMP, SERIES, faded

if TYPE_CHECKING:
    import plotly.graph_objects as go

_SCALE = [[k / (len(RAMP) - 1), colour] for k, colour in enumerate(RAMP)]
_MANY = 300  # points from which on WebGL draws


def figure(drawing: Description) -> go.Figure:
    """The figure.

    Raises:
      MissingExtra: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise MissingExtra("plots need plotly: pip install 'jhpo[plot]'") from error
    title = {"text": drawing.title, "y": 0.98, "yanchor": "top", "x": 0.01, "xanchor": "left"}
    if drawing.own is not None:
        found = drawing.own(go)
    elif isinstance(drawing.panels[0], Parallel):
        panels = [p for p in drawing.panels if isinstance(p, Parallel)]
        found = go.Figure([_parcoords(go, p, k, len(panels), drawing.shades) for k, p in enumerate(panels)])
        return found.update_layout(title=title, template="plotly_white", margin={"t": 110, "l": 80, "r": 60})
    else:
        count = len(drawing.panels)
        across = 1 if count == 1 else 2 if count in (2, 4) else 3
        rows = -(-count // across)
        gaps = {"horizontal_spacing": 0.25 / across, "vertical_spacing": 0.35 / rows}
        titles = [p.title for p in drawing.panels]
        found = make_subplots(rows=rows, cols=across, subplot_titles=titles if any(titles) else None, **gaps)
        seen: set[str] = set()
        for k, panel in enumerate(drawing.panels):
            assert isinstance(panel, Panel)
            place = {"row": 1 + k // across, "col": 1 + k % across}
            _add(found, go, panel, place, drawing, seen)
        found.update_layout(height=max(450, 330 * rows))
    named = [t for t in found.data if t.showlegend is not False and t.name]
    legend = {"orientation": "h", "y": -0.12, "yanchor": "top", "x": 0.0}
    layout = {"title": title, "legend": legend, "showlegend": len(named) > 1 or bool(drawing.own)}
    return found.update_layout(**layout, template="plotly_white", margin={"t": 70}, barmode="group")


def _axis(axis: Axis) -> dict[str, Any]:
    out: dict[str, Any] = {"title": {"text": axis.title}}
    if axis.scale == "log":
        out["type"] = "log"
    if axis.ticks is not None:
        out |= {"tickmode": "array", "tickvals": list(axis.ticks), "ticktext": list(axis.labels or ())}
    if axis.ends is not None:
        low, high = (np.log10(e) if axis.scale == "log" else e for e in axis.ends)
        room = 0.0 if axis.listed else 0.03 * (high - low)
        out["range"] = [low - room, high + room]
    return out


def _add(
    found: go.Figure, go: ModuleType, panel: Panel, place: dict[str, int], drawing: Description, seen: set[str]
) -> None:
    for mark in panel.marks:
        for trace in _TRACES[type(mark)](go, mark, drawing):
            if trace.name and trace.showlegend is not False:
                trace.update(legendgroup=trace.name, showlegend=trace.name not in seen)
                seen.add(trace.name)
            found.add_trace(trace, **place)
    found.update_xaxes(_axis(panel.x), **place)
    if not any(isinstance(mark, Bars) for mark in panel.marks):
        found.update_yaxes(_axis(panel.y), **place)


def _points(go: ModuleType, mark: Points, drawing: Description) -> list[Any]:
    draw = go.Scattergl if len(mark.x) > _MANY or mark.faint else go.Scatter
    marker: dict[str, Any] = {"color": SERIES[mark.slot % len(SERIES)], "size": 6}
    if mark.shade is not None:
        bar = {"title": {"text": drawing.shades}, "tickvals": [0, 1], "ticktext": ["worst", "best"], "len": 0.6}
        marker = {"color": mark.shade, "colorscale": _SCALE, "cmin": 0.0, "cmax": 1.0, "size": 6, "colorbar": bar}
    legend = {} if mark.shade is None else {"showlegend": False}
    hover = (
        {} if mark.texts is None else {"text": list(mark.texts), "hovertemplate": "%{text}<br>%{y:.6g}<extra></extra>"}
    )
    opacity = 0.4 if mark.faint else 0.85
    return [draw(x=mark.x, y=mark.y, mode="markers", name=mark.name, marker=marker, opacity=opacity, **hover, **legend)]


def _line(go: ModuleType, mark: Line, drawing: Description) -> list[Any]:
    line = {"color": SERIES[mark.slot % len(SERIES)], "width": 2, "shape": "hv" if mark.step else "linear"}
    draw = go.Scatter if mark.step else go.Scattergl if len(mark.x) > _MANY else go.Scatter
    return [draw(x=mark.x, y=mark.y, mode="lines", name=mark.name, line=line, showlegend=bool(mark.name))]


def _band(go: ModuleType, mark: Band, drawing: Description) -> list[Any]:
    shape = {"width": 0, "shape": "hv" if mark.step else "linear"}
    colour = faded(SERIES[mark.slot % len(SERIES)], 0.2)
    low = go.Scatter(x=mark.x, y=mark.low, mode="lines", line=shape, showlegend=False, hoverinfo="skip")
    more = {"fill": "tonexty", "fillcolor": colour, "hoverinfo": "skip"}
    return [low, go.Scatter(x=mark.x, y=mark.high, mode="lines", line=shape, name=mark.name, **more)]


def _threads(go: ModuleType, mark: Threads, drawing: Description) -> list[Any]:
    """Lines of one shade are one trace, with gaps between them."""
    traces = []
    level = np.minimum((mark.shade * len(RAMP)).astype(int), len(RAMP) - 1)
    for k in np.unique(level).tolist():
        rows = mark.y[level == k]
        y = np.column_stack([rows, np.full(len(rows), np.nan)]).ravel()
        x = np.tile(np.append(mark.x.astype(float), np.nan), len(rows))
        line = {"color": RAMP[k], "width": 1}
        traces.append(go.Scattergl(x=x, y=y, mode="lines", line=line, opacity=0.7, showlegend=False, hoverinfo="skip"))
    return traces


def _spans(go: ModuleType, mark: Spans, drawing: Description) -> list[Any]:
    x = np.column_stack([mark.start, mark.stop, np.full(len(mark.y), np.nan)]).ravel()
    line = {"color": SERIES[mark.slot % len(SERIES)], "width": 3}
    y = np.repeat(mark.y, 3)
    return [go.Scattergl(x=x, y=y, mode="lines+markers", marker={"size": 3}, line=line, name=mark.name)]


def _bars(go: ModuleType, mark: Bars, drawing: Description) -> list[Any]:
    error = None if mark.error is None else {"type": "data", "array": mark.error}
    colour = SERIES[mark.slot % len(SERIES)]
    labels = list(mark.labels)
    return [go.Bar(x=mark.length, y=labels, orientation="h", name=mark.name, error_x=error, marker_color=colour)]


def _heat(go: ModuleType, mark: Heat, drawing: Description) -> list[Any]:
    same = {"colorscale": _SCALE, "zmin": 0.0, "zmax": 1.0, "showscale": False, "hoverinfo": "skip"}
    return [go.Heatmap(x=mark.x, y=mark.y, z=mark.shade, opacity=0.55, **same)]


_TRACES: dict[type, Callable[[ModuleType, Any, Description], list[Any]]] = {
    Points: _points, Line: _line, Band: _band, Threads: _threads, Spans: _spans, Bars: _bars, Heat: _heat,
}  # fmt: skip


def _parcoords(go: ModuleType, panel: Parallel, place: int, count: int, shades: str) -> Any:
    dimensions = []
    for k, axis in enumerate(panel.axes):
        values, log = panel.rows[:, k], axis.scale == "log"
        there = values[np.isfinite(values)]
        low, high = axis.ends or ((there.min(), there.max()) if len(there) else (0.0, 1.0))
        at, texts = ticks(axis, low, high)
        values = np.clip(values, low, high) if axis.beyond else values
        convert = np.log10 if log else np.asarray
        one = {"label": axis.title, "values": convert(values), "tickvals": convert(at), "ticktext": texts}
        if high > low:
            one["range"] = [float(convert(low)), float(convert(high))]
        dimensions.append(one)
    bar = {"title": {"text": shades}, "tickvals": [0, 1], "ticktext": ["worst", "best"]}
    line = {"color": panel.shade, "colorscale": _SCALE, "cmin": 0, "cmax": 1, "colorbar": bar, "showscale": place == 0}
    height = 1.0 / count
    domain = {"y": [1 - (place + 1) * height, 1 - place * height - (0.15 * height if count > 1 else 0.0)]}
    return go.Parcoords(line=line, dimensions=dimensions, domain=domain, name=panel.title)
