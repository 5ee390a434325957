"""The trials of a study as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jhpo.errors import MissingExtra
from jhpo.report.trials import Trials
from jhpo.space.host_rows import columns as host_columns
from jhpo.space.host_rows import shaped
from jhpo.space.parameters import Parameter
from jhpo.trial import TrialState
from jhpo.values.notes import read_notes

if TYPE_CHECKING:
    import pandas as pd


def to_frame(trials: Trials, curves: bool = False) -> pd.DataFrame:
    """All trials as a DataFrame, one row per trial; inactive parameters are NaN or None.

    ``last_step`` (Int64) is missing where a trial never reported.

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
    trials = trials.still()
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
    parameters = dict(zip(trials.space.names, trials.space.parameters))
    for name, (values, active) in host_columns(trials.space, table.unit.array).items():
        given = {i: exact[name] for i, exact in trials.exact.items() if name in exact}
        columns[f"param_{name}"] = _cells(values, active, parameters[name], given)
    if len(table.reports):
        last = [max(table.curve_of(i), default=None) for i in range(table.size)]
        columns["last_step"] = pd.array(last, dtype="Int64")
    if table.folds:
        columns["folds"] = [max(table.curve_of(i), default=0) for i in range(table.size)]
    columns |= {f"value_at_{step}": column.array.copy() for step, column in sorted(table.curve.items())}
    notes = {i: read_notes(found) for i, found in table.notes.items()}
    for name in dict.fromkeys(name for i in sorted(notes) for name in notes[i]):
        noted = [notes.get(i, {}).get(name) for i in range(table.size)]
        columns[f"note_{name}"] = pd.Series(noted, dtype=None if _numbers(noted) else object)
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


def _cells(values: np.ndarray, active: np.ndarray, parameter: Parameter, given: dict[int, Any]) -> list[Any]:
    """A parameter's values, one per trial, those `given` by users to the last digit; None where it was inactive."""
    for i, exact in given.items():
        values[i] = np.ravel(exact)
    rows = [shaped(parameter, row) for row in values] if parameter.shape else values[:, 0].tolist()
    return [row if on else None for row, on in zip(rows, active.tolist())]


def _numbers(noted: list[Any]) -> bool:
    """True of numbers alone, of which float64, with NaN for those that are missing, changes none."""
    exact = 2**53
    return all(
        isinstance(note, float) or (isinstance(note, int) and not isinstance(note, bool) and abs(note) <= exact)
        for note in noted
        if note is not None
    )


def _values(trials: Trials) -> dict[str, np.ndarray]:
    """The value columns: one, or one per objective."""
    if trials.objectives is None:
        return {"value": trials.table.value.array.copy()}
    labels = [f"value_{n}" for n in trials.objectives.names or range(trials.objectives.count)]
    blank = np.full((trials.table.size, len(labels)), np.nan)
    found = trials.table.extra["values"].array if "values" in trials.table.extra else blank
    return {label: found[:, k].copy() for k, label in enumerate(labels)}
