"""Figures of one line: values as blocks of text or as the points of a polyline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jhpo.report.figures.axes import value_axis

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"


def levels(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """``float64[n]`` in [0, 1]: heights of finite values, on a logarithmic scale where they span orders of magnitude.

    >>> levels([1.0, 2.0, 3.0]).tolist(), levels([1.0, 10.0, 1e4]).tolist()
    ([0.0, 0.5, 1.0], [0.0, 0.25, 1.0])
    """
    found = np.asarray(values, np.float64)
    if value_axis("", found).scale == "log":
        found = np.log10(found)
    span = np.ptp(found) if len(found) else 0.0
    return (found - found.min()) / span if span > 0 else np.full(len(found), 0.5)


def spark(values: Sequence[float] | np.ndarray, width: int, letters: str = BLOCKS) -> str:
    """Values as letters of rising height, at most `width` of them; those that are not finite are left out.

    >>> spark([3.0, 2.0, 2.0, 1.0], 8), spark(range(100), 5), spark([], 5)
    ('█▅▅▁', '▁▃▅▆█', '')
    """
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    if len(found) > width:
        found = found[np.linspace(0, len(found) - 1, width).round().astype(int)]
    return "".join(letters[int(k)] for k in np.minimum(levels(found) * len(letters), len(letters) - 1))


def histogram(values: Sequence[float] | np.ndarray, width: int, letters: str = BLOCKS) -> tuple[float, str, float]:
    """The lowest value, how many values there are around each place up to the highest, as letters, and the highest.

    Places are on a logarithmic scale where the values span orders of magnitude.

    >>> histogram([0.0, 0.0, 0.0, 1.0], 3)
    (0.0, '█ ▃', 1.0)
    """
    found = np.asarray(values, np.float64)
    found = np.sort(found[np.isfinite(found)])
    if not len(found):
        return float("nan"), "", float("nan")
    counts = np.bincount(np.minimum((levels(found) * width).astype(int), width - 1), minlength=width)
    height = np.ceil(counts / counts.max() * len(letters)).astype(int)
    return float(found[0]), "".join(letters[h - 1] if h else " " for h in height), float(found[-1])


def points(values: Sequence[float] | np.ndarray, width: float, height: float) -> str:
    """Values as the points of an SVG polyline.

    >>> points([0.0, 1.0], 10, 4)
    '0.0,4.0 10.0,0.0'
    """
    x = np.linspace(0.0, width, max(len(values), 2))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, height * (1.0 - levels(values))))
