"""What a figure shows, apart from how it is drawn: panels with axes and marks, and the numbers behind them.

`plotly.py` and `svg.py` draw the same description, so that a page and a notebook show the same figure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
      title: what it measures.
      scale: "linear" or "log".
      ticks: positions of the ticks; chosen from the data if None.
      labels: their texts.
      ends: lowest and highest value shown; chosen from the data if None.
      beyond: how many values lie beyond the ends, and are drawn there.
      farthest: of these the one that is farthest away.
    """

    title: str = ""
    scale: str = "linear"
    ticks: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    ends: tuple[float, float] | None = None
    beyond: int = 0
    farthest: float = 0.0

    @property
    def listed(self) -> bool:
        """Whether it shows the values of a list, at 0, 1, 2, ..."""
        return self.ticks is not None and self.ends == (-0.5, len(self.ticks) - 0.5)


@dataclass(frozen=True, eq=False)
class Points:
    """Points ``float[n]``; NaN where there is none."""

    x: np.ndarray
    y: np.ndarray
    name: str = ""
    shade: np.ndarray | None = None  # float[n] in [0, 1], 1 for the best; None for the colour of `slot`
    texts: Sequence[str] | None = None  # what hovering shows
    slot: int = 0  # colour of the series
    faint: bool = False


@dataclass(frozen=True, eq=False)
class Line:
    """A line through ``float[n]`` points, broken at NaN; with `step`, values hold until the next."""

    x: np.ndarray
    y: np.ndarray
    name: str = ""
    slot: int = 0
    step: bool = False


@dataclass(frozen=True, eq=False)
class Band:
    """The area between two lines."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    name: str = ""
    slot: int = 0
    step: bool = False


@dataclass(frozen=True, eq=False)
class Threads:
    """Many thin lines over the same steps: ``x`` float[k], ``y`` float[n, k], ``shade`` float[n] in [0, 1]."""

    x: np.ndarray
    y: np.ndarray
    shade: np.ndarray
    name: str = ""


@dataclass(frozen=True, eq=False)
class Spans:
    """Horizontal segments from ``start`` to ``stop`` at the heights ``y``."""

    start: np.ndarray
    stop: np.ndarray
    y: np.ndarray
    name: str = ""
    slot: int = 0


@dataclass(frozen=True, eq=False)
class Bars:
    """Horizontal bars, the first one at the bottom."""

    labels: Sequence[str]
    length: np.ndarray
    error: np.ndarray | None = None  # half the length of the error bars
    name: str = ""
    slot: int = 0


@dataclass(frozen=True, eq=False)
class Heat:
    """Cells with borders ``x`` float[k + 1] and ``y`` float[m + 1]; ``shade`` float[m, k] in [0, 1], NaN is empty."""

    x: np.ndarray
    y: np.ndarray
    shade: np.ndarray
    texts: np.ndarray | None = None  # object[m, k]


Mark = Points | Line | Band | Threads | Spans | Bars | Heat


@dataclass(frozen=True)
class Panel:
    """Marks on a pair of axes."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    title: str = ""


@dataclass(frozen=True, eq=False)
class Parallel:
    """Lines across several axes: ``rows`` float[n, k] in the axes' own values, NaN where a line has a gap."""

    axes: tuple[Axis, ...]
    rows: np.ndarray
    shade: np.ndarray  # float[n] in [0, 1]
    title: str = ""


@dataclass(frozen=True, eq=False)
class Description:
    """A figure apart from how it is drawn.

    Attributes:
      title: of the figure.
      panels: its parts.
      words: what it shows, for readers who do not see it.
      data: its numbers, columns of equal length.
      shades: what a colour says, where points are shaded.
      own: draws the interactive figure where the panels do not describe it (three dimensions).
    """

    title: str
    panels: tuple[Panel | Parallel, ...]
    words: str
    data: dict[str, Any]
    shades: str = ""
    own: Callable[[ModuleType], Any] | None = dataclasses.field(default=None, repr=False)


def shades(value: np.ndarray, sign: float) -> np.ndarray:
    """``float64[n]`` in [0, 1]: ranks of values, 1 for the best, NaN where a value is; equal values share theirs.

    >>> shades(np.array([3.0, 1.0, np.nan, 2.0]), 1.0).tolist()
    [0.0, 1.0, nan, 0.5]
    """
    there = np.isfinite(value)
    levels, where = np.unique(-sign * value[there], return_inverse=True)
    out = np.full(len(value), np.nan)
    out[there] = where / max(len(levels) - 1, 1) if len(levels) > 1 else 1.0
    return out


def stacked(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Columns of several tables, one below the other."""
    return {name: np.concatenate([np.asarray(p[name]) for p in parts]) for name in parts[0]} if parts else {}
