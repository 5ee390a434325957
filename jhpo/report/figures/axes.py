"""Axes on the scales that a space declares, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jhpo.errors import invalid
from jhpo.report.figures.marks import Axis
from jhpo.space.cells import index_of
from jhpo.space.host_rows import columns, coordinate_values
from jhpo.space.listed import Listed
from jhpo.space.parameters import Float, Int, Parameter
from jhpo.space.space import Space
from jhpo.words.markup import cell

_MOST_TICKS = 6
_SPAN = 50.0  # largest over smallest value from which on a logarithmic axis shows more
_FEWEST = 8  # values from which on some may lie beyond the end of an axis
_FENCE = 5.0  # widths of the middle half that a value has to lie from it to do so
_FLAT = 10.0  # length of the axis with all values, in lengths without those beyond


class Coordinate(NamedTuple):
    """One coordinate of a space for a figure."""

    name: str
    axis: Axis
    place: np.ndarray  # float64[n], positions of the trials on the axis; NaN where the parameter was inactive
    texts: np.ndarray  # object[n], values as texts


def coordinates(space: Space, units: np.ndarray, names: Sequence[str] | None, most: int) -> list[Coordinate]:
    """The coordinates of parameters: one each, several of arrays.

    Args:
      space: the space.
      units: rows ``float[n, d]``.
      names: which parameters, all if None.
      most: the most coordinates, the first ones.

    Raises:
      InvalidArgument: a name that the space does not have.
    """
    for name in names or ():
        if name not in space.names:
            raise invalid("params", f"names among {list(space.names)}", name)
    found = columns(space, units)
    out: list[Coordinate] = []
    for name in dict.fromkeys(space.names if names is None else names):
        at = space.names.index(name)
        parameter, where, (value, active) = space.parameters[at], space.slices[at], found[name]
        for k in range(parameter.size):
            label = name if not parameter.shape else f"{name}[{k}]"
            place = np.where(active, _place(parameter, units[:, where][:, k]), np.nan)
            texts = np.asarray([short(v) if on else "" for v, on in zip(value[:, k].tolist(), active)], object)
            out.append(Coordinate(label, axis_of(parameter, label), place, texts))
    return out[:most]


def axis_of(parameter: Parameter, title: str) -> Axis:
    """The axis of a parameter: its own scale, categories as categories."""
    if isinstance(parameter, Listed):
        texts = tuple(short(c) for c in parameter.choices)
        places = tuple(float(k) for k in range(len(texts)))
        return Axis(title, "linear", places, texts, (-0.5, len(texts) - 0.5))
    assert isinstance(parameter, (Float, Int))
    ends = (float(parameter.low), float(parameter.high))
    if isinstance(parameter, Int):
        return Axis(title, "log" if parameter.log else "linear", None, None, ends)
    if parameter.scale in ("linear", "log"):
        return Axis(title, parameter.scale, None, None, ends)
    values = _round_values(parameter)
    places = tuple(float(parameter.forward(v, np)) for v in values)
    return Axis(title, "linear", places, tuple(short(v) for v in values), parameter.ends)


def _place(parameter: Parameter, unit: np.ndarray) -> np.ndarray:
    """Positions of unit coordinates ``float[n]`` on the axis of `axis_of`."""
    if isinstance(parameter, Listed):
        return index_of(parameter, unit, np).astype(np.float64)
    if isinstance(parameter, Float) and parameter.scale not in ("linear", "log"):
        low, high = parameter.ends
        return np.asarray(low + unit * (high - low), np.float64)
    return np.asarray(coordinate_values(parameter, unit), np.float64)


def _round_values(parameter: Float) -> list[float]:
    """Values for ticks on the logit and reverse logarithmic scales: 0.01, 0.1, 0.5, 0.9, 0.99."""
    small = [10.0**-k for k in range(7, 0, -1)]
    candidates = [*small, 0.5, *(1.0 - s for s in small[::-1])]
    low, high = parameter.ends
    inside = [v for v in candidates if parameter.low <= v <= parameter.high]
    if len(inside) < 2:
        places = np.linspace(low, high, 4)
        inside = [float(v) for v in coordinate_values(parameter, (places - low) / (high - low))]
    while len(inside) > 7:
        inside = inside[::2]
    return inside


def value_axis(title: str, *values: np.ndarray, sign: float = 0.0) -> Axis:
    """A linear axis, or a logarithmic one where all values are positive and span orders of magnitude.

    With a sign the axis ends before values that are so bad that all others would lie flat beside them: at most a
    twentieth of the values (one of 8, two of 16), further from the middle half than `_FENCE` times its width, and only
    where the others would take less than ``1 / _FLAT`` of the axis. Good values always lie on it.

    Args:
      title: what it measures; the number of values beyond the end is added.
      values: what the axis shows, of any shapes; those that are not finite do not count.
      sign: 1.0 where low values are good, -1.0 where high ones are, 0.0 where all have to be on the axis.

    >>> axis = value_axis("loss", np.append(np.linspace(1.0, 3.0, 20), 1e6), sign=1.0)
    >>> axis.title, axis.scale, axis.ends, axis.farthest
    ('loss (1 above)', 'linear', (1.0, 3.0), 1000000.0)
    """
    together = np.concatenate([np.ravel(v) for v in values]) if values else np.empty(0)
    together = together[np.isfinite(together)]
    if not len(together):
        return Axis(title)
    scale = _scale(together, sign)
    if not sign:
        return Axis(title, scale)
    order = np.sort(sign * together)  # the best first
    last = _last_shown(sign * np.log(sign * order) if scale == "log" else order)
    beyond = len(order) - 1 - last
    if not beyond:
        return Axis(title, scale)
    low, high = sorted((float(sign * order[0]), float(sign * order[last])))
    named = f"{title} ({beyond:,} {'above' if sign > 0 else 'below'})"
    return Axis(named, scale, None, None, (low, high), beyond, float(sign * order[-1]))


def _scale(values: np.ndarray, sign: float) -> str:
    """Logarithmic where positive values span orders of magnitude, apart from the worst twentieth of them."""
    if values.min() <= 0:
        return "linear"
    if sign < 0:
        low, high = np.quantile(values, 0.05, method="higher"), values.max()
    else:
        low, high = values.min(), np.quantile(values, 0.95, method="lower" if sign else "linear")
    return "log" if high / low > _SPAN else "linear"


def _last_shown(order: np.ndarray) -> int:
    """The place of the worst that an axis shows of values ``float[n]``, on its scale and with the best first."""
    count, whole = len(order), len(order) - 1
    if count < _FEWEST:
        return whole
    low, high = map(float, np.quantile(order, (0.25, 0.75)))
    fewest = float(order[whole - max(min(2, count // _FEWEST), count // 20)])
    last = int(np.searchsorted(order, max(fewest, high + _FENCE * (high - low)), "right")) - 1
    best, worst, end = float(order[0]), float(order[-1]), float(order[last])
    return last if 0 < _FLAT * (end - best) < worst - best else whole


def beyond_words(axis: Axis) -> str:
    """A sentence about the values beyond the end of an axis; empty where there are none.

    >>> beyond_words(value_axis("loss", np.append(np.linspace(1.0, 3.0, 20), 1e6), sign=1.0))
    ' One value lies beyond the axis: 1e6.'
    """
    if not axis.beyond:
        return ""
    if axis.beyond == 1:
        return f" One value lies beyond the axis: {short(axis.farthest)}."
    return f" {axis.beyond:,} values lie beyond the axis, the farthest at {short(axis.farthest)}."


def ticks(axis: Axis, low: float, high: float, most: int = _MOST_TICKS) -> tuple[list[float], list[str]]:
    """Positions and texts of at most about `most` ticks between two values of the axis.

    >>> ticks(Axis(), 0.0, 10.0)[1], ticks(Axis(scale="log"), 1e-5, 1e-1)[1]
    (['0', '2', '4', '6', '8', '10'], ['1e-5', '1e-4', '1e-3', '0.01', '0.1'])
    """
    if axis.ticks is not None:
        labels = axis.labels or tuple(short(t) for t in axis.ticks)
        step = math.ceil(len(axis.ticks) / (2 * most))
        return list(axis.ticks)[::step], list(labels)[::step]
    found = _log_ticks(low, high, most) if axis.scale == "log" else _linear_ticks(low, high, most)
    return found, [short(t) for t in found]


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    if not high > low:
        return [low]
    raw = (high - low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next((m * size for m in (1.0, 2.0, 5.0) if m * size >= raw * 0.999), 10.0 * size)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first < 1 and most < _MOST_TICKS:
        return _linear_ticks(low, high, 2 * most)  # one tick alone gives no scale
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 2:
        step = math.ceil((last - first + 1) / most)
        return [10.0**k for k in range(first, last + 1, step)]
    fine = [m * 10.0**k for k in range(first - 1, last + 1) for m in (1.0, 2.0, 5.0)]
    inside = [float(f"{v:.12g}") for v in fine if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
    return inside if len(inside) > 1 else _linear_ticks(low, high, 3)


def short(value: object) -> str:
    """A value as a short text.

    >>> short(0.0001), short(0.25), short(12000.0), short("adam"), short(True)
    ('1e-4', '0.25', '12,000', 'adam', 'True')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return cell(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{int(value):,}" if abs(value) < 1e9 else f"{float(value):.3g}"
    if not math.isfinite(value):
        return "-"
    text = f"{value:.4g}" if 0.005 <= abs(value) < 1e6 else f"{value:.3e}"
    if "e" not in text:
        return text
    digits, _, power = text.partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
