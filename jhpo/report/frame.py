"""The trials of a study as a data frame and as figures."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from jhpo.errors import JhpoError, MissingExtra, invalid
from jhpo.report.trials import Trials
from jhpo.trial import TrialState

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def to_frame(trials: Trials, curves: bool = False) -> pd.DataFrame:
    """All trials as a DataFrame, one row per trial; inactive parameters are NaN or None.

    Args:
        trials: of a study.
        curves: the learning curves instead, one row per intermediate value: ``id``, ``step``, ``value``, ``state``, and
            a column for every other measurement that was reported.

    Raises:
        MissingExtra: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("to_frame needs pandas: pip install 'jhpo[pandas]'") from error
    table = trials.table
    if curves:
        return pd.DataFrame(_points(trials))
    columns: dict[str, Any] = {
        "id": np.arange(table.size),
        **_values(trials),
        "state": [TrialState(int(s)).name for s in table.state.array],
        "generation": table.generation.array.copy(),
        "horizon": table.horizon.array.copy(),
        "reason": [table.reason.get(i, "") for i in range(table.size)],
        "asked": pd.to_datetime(table.asked.array, unit="s", utc=True),
        "told": pd.to_datetime(table.told.array, unit="s", utc=True),
    }
    rows = [trials.space.flat(trials.space.decode(unit)) for unit in table.unit.array]
    for name in trials.space.names:
        columns[f"param_{name}"] = [row.get(name) for row in rows]
    if len(table.reports):
        columns["last_step"] = [max(table.curve_of(i), default=-1) for i in range(table.size)]
    columns |= {f"value_at_{step}": column.array.copy() for step, column in sorted(table.curve.items())}
    for name, column in table.extra.items():
        if name == "values":
            continue
        values = column.array
        if values.ndim == 1:
            columns[name] = values.copy()
        else:
            columns |= {f"{name}_{k}": values[:, k].copy() for k in range(values.shape[1])}
    return pd.DataFrame(columns)


def _points(trials: Trials) -> dict[str, Any]:
    """The learning curves of all trials as columns."""
    table = trials.table
    points = [(i, step, value) for i in range(table.size) for step, value in table.curve_of(i).items()]
    named = {i: table.reports.named(i) for i in table.reports}
    columns: dict[str, Any] = {
        "id": np.asarray([i for i, _, _ in points], np.int64),
        "step": np.asarray([step for _, step, _ in points], np.int64),
        "value": np.asarray([value for _, _, value in points], np.float64),
        "state": [TrialState(int(table.state.array[i])).name for i, _, _ in points],
    }
    for name in table.reports.names():
        found = [named.get(i, {}).get(name, {}).get(step, np.nan) for i, step, _ in points]
        columns[name if name not in columns else f"{name}_reported"] = np.asarray(found, np.float64)
    return columns


def _values(trials: Trials) -> dict[str, np.ndarray]:
    """The value columns: one, or one per objective."""
    if trials.objectives is None:
        return {"value": trials.table.value.array.copy()}
    labels = [f"value_{n}" for n in trials.objectives.names or range(trials.objectives.count)]
    blank = np.full((trials.table.size, len(labels)), np.nan)
    found = trials.table.extra["values"].array if "values" in trials.table.extra else blank
    return {label: found[:, k].copy() for k, label in enumerate(labels)}


def best_so_far(trials: Trials) -> np.ndarray:
    """``float64[trials]``: the best value up to each trial, of the longest trainings only; NaN before the first."""
    table = trials.table
    whole = table.horizon.array == table.horizon.array.max(initial=0.0)
    whole &= table.state.array != TrialState.PRUNED
    value = trials.sign * np.where(whole, table.value.array, np.nan)
    best = np.minimum.accumulate(np.where(np.isnan(value), np.inf, value))
    return trials.sign * np.where(np.isinf(best), np.nan, best)


def plot(trials: Trials, kind: str) -> go.Figure:
    """A plotly figure of the trials.

    Raises:
        InvalidArgument: an unknown kind.
        MissingExtra: plotly is not installed.
    """
    kinds = {"history": _history, "parallel": _parallel, "slice": _slice, "edf": _edf, "importance": _importance}
    if len(trials.table.reports) or trials.table.curve:
        kinds["curves"] = _curves
    if trials.objectives is not None:
        kinds = {"pareto": _pareto, "hypervolume": _hypervolume}
    if kind not in kinds:
        of = "" if trials.objectives is None else " for several objectives"
        raise invalid("kind", f"one of {sorted(kinds)}{of}", kind)
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingExtra("plots need plotly: pip install 'jhpo[plot]'") from error
    figure = kinds[kind](trials, go)
    figure.update_layout(template="plotly_white", margin={"t": 40})
    return figure


def _history(trials: Trials, go: ModuleType) -> go.Figure:
    value, ids = trials.table.value.array, np.arange(trials.table.size)
    figure = go.Figure(layout={"title": "Optimization history", "xaxis_title": "trial", "yaxis_title": "value"})
    figure.add_scattergl(x=ids, y=value.copy(), mode="markers", name="value", opacity=0.5)
    figure.add_scattergl(x=ids, y=best_so_far(trials), mode="lines", name="best so far")
    return figure


def _curves(trials: Trials, go: ModuleType) -> go.Figure:
    """The learning curves, those of trials that were stopped early fainter."""
    figure = go.Figure(layout={"title": "Learning curves", "xaxis_title": "step", "yaxis_title": "value"})
    for i in range(trials.table.size):
        curve = trials.table.curve_of(i)
        if curve:
            opacity = 0.3 if trials.table.state.array[i] == TrialState.PRUNED else 1.0
            figure.add_scattergl(
                x=list(curve), y=list(curve.values()), mode="lines+markers", name=f"trial {i}", opacity=opacity
            )  # fmt: skip
    return figure


def _pareto(trials: Trials, go: ModuleType) -> go.Figure:
    """Scatter plot of the trials and the front in 2-d or 3-d; above, parallel coordinates of the front."""
    assert trials.objectives is not None
    labels = list(trials.objectives.labels)
    ids, best = trials.table.in_state(TrialState.COMPLETE), trials.front()
    if "values" not in trials.table.extra:
        raise JhpoError("no finished trial yet, so no front")
    values, front = (trials.table.extra["values"].array[i] for i in (ids, best))
    title = {"title": "Front"}
    if len(labels) > 3:
        line = {"color": front[:, 0], "colorscale": "Viridis", "showscale": True}
        dimensions = [{"label": name, "values": front[:, k]} for k, name in enumerate(labels)]
        return go.Figure(go.Parcoords(line=line, dimensions=dimensions), layout=title)
    spaces = [dict(zip("xyz", values.T)), dict(zip("xyz", front.T))]
    marks = [("trials", ids, 0.4), ("front", best, 1.0)]
    draw = go.Scattergl if len(labels) == 2 else go.Scatter3d
    data = [
        draw(**at, mode="markers", name=name, text=[f"trial {i}" for i in which], opacity=opacity, marker_size=6)
        for at, (name, which, opacity) in zip(spaces, marks)
    ]
    axes = {f"{axis}axis": {"title": name} for axis, name in zip("xyz", labels)}
    return go.Figure(data, layout=title | (axes if len(labels) == 2 else {"scene": axes}))


def _hypervolume(trials: Trials, go: ModuleType) -> go.Figure:
    from jhpo.report.hypervolume import over_trials

    counts, found = over_trials(trials)
    layout = {"title": "Hypervolume", "xaxis_title": "trials", "yaxis_title": "hypervolume"}
    return go.Figure(go.Scatter(x=counts, y=found, line_shape="hv"), layout=layout)


def _complete(trials: Trials) -> tuple[np.ndarray, list[dict[str, Any]]]:
    ids = trials.table.in_state(TrialState.COMPLETE)
    units = trials.table.unit.array[ids]
    return trials.table.value.array[ids], [trials.space.flat(trials.space.decode(u)) for u in units]


def _parallel(trials: Trials, go: ModuleType) -> go.Figure:
    value, rows = _complete(trials)
    dimensions: list[dict[str, Any]] = []
    for name in trials.space.names:
        column = [row.get(name) for row in rows]
        if all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in column):
            dimensions.append({"label": name, "values": column})
        else:
            texts = [str(x) for x in column]
            levels = sorted(set(texts))
            index = [levels.index(t) for t in texts]
            ticks = {"tickvals": list(range(len(levels))), "ticktext": levels}
            dimensions.append({"label": name, "values": index, **ticks})
    dimensions.append({"label": "value", "values": value})
    line = {"color": value, "colorscale": "Viridis", "reversescale": trials.sign > 0, "showscale": True}
    return go.Figure(go.Parcoords(line=line, dimensions=dimensions), layout={"title": "Parallel coordinates"})


def _slice(trials: Trials, go: ModuleType) -> go.Figure:
    from plotly.subplots import make_subplots

    value, rows = _complete(trials)
    names = trials.space.names
    figure = make_subplots(rows=1, cols=len(names), shared_yaxes=True, subplot_titles=names)
    for place, name in enumerate(names, start=1):
        there = [k for k, row in enumerate(rows) if name in row]
        x = [rows[k][name] if isinstance(rows[k][name], (int, float)) else str(rows[k][name]) for k in there]
        marks = {"mode": "markers", "marker_color": there, "showlegend": False}
        figure.add_scattergl(x=x, y=value[there], row=1, col=place, **marks)
    return figure.update_layout(title="Slices")


def _edf(trials: Trials, go: ModuleType) -> go.Figure:
    value = np.sort(_complete(trials)[0])
    share = np.arange(1, len(value) + 1) / max(len(value), 1)
    layout = {"title": "Empirical distribution", "xaxis_title": "value", "yaxis_title": "share of trials"}
    return go.Figure(go.Scatter(x=value, y=share, line_shape="hv"), layout=layout)


def _importance(trials: Trials, go: ModuleType) -> go.Figure:
    from jhpo.report.importance import importance

    shares = sorted(importance(trials).items(), key=lambda item: item[1])
    bars = go.Bar(x=[share for _, share in shares], y=[name for name, _ in shares], orientation="h")
    return go.Figure(bars, layout={"title": "Importance (PED-ANOVA)", "xaxis_title": "share"})
