"""Tables of the cells of logarithmic integers, computed in float64 and looked up in integers.

A unit coordinate is resolved in steps of 2^-24, the spacing that float32 has everywhere in [0, 1]. A table has the
first step of each of the lowest values, and for the others the value at each of 65,537 nodes, in fixed point.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

STEPS = 2**24  # of a unit coordinate
EXACT = 4096  # largest number of values whose first steps are stored
NODE = 256  # steps between two nodes
POINT = 7  # fractional bits of a node's value


class LogTable(NamedTuple):
    """Cells of a logarithmic integer, as offsets from its lowest value."""

    starts: np.ndarray  # int32[k], first step of each of the lowest values
    nodes: np.ndarray | None  # int32[65537], offset at every 256th step in fixed point; None if starts has them all
    narrowest: int  # steps of the narrowest cell


def _position(low: int, high: int) -> tuple[float, float]:
    """Logarithms of the outer edges of the first and the last cell."""
    return math.log(low - 0.5), math.log(high + 0.5)


@functools.lru_cache(maxsize=256)
def log_table(low: int, high: int) -> LogTable:
    """The table of the integers ``low ... high`` with cells of equal ratio.

    >>> log_table(1, 8).starts.tolist()[:2], log_table(1, 8).narrowest > 0
    ([0, 6505566], True)
    """
    begin, end = _position(low, high)
    count = high - low + 1

    def step(offset: np.ndarray) -> np.ndarray:
        # log1p resolves the differences of neighbouring large integers
        return np.ceil(np.log1p(offset / (low - 0.5)) / (end - begin) * STEPS)

    starts = step(np.arange(min(count, EXACT), dtype=np.float64)).astype(np.int32)
    if count <= EXACT:
        return LogTable(starts, None, int(np.diff(starts, append=STEPS).min()))
    at = np.arange(0, STEPS + 1, NODE) / STEPS * (end - begin)
    values = np.clip((low - 0.5) * np.expm1(at) * 2**POINT, 0, count * 2**POINT - 1)
    nodes = np.floor(values).astype(np.int64)
    steepest = int(np.diff(nodes).max())
    narrowest = min(int(np.diff(starts).min()), (NODE << POINT) // max(steepest, 1))
    return LogTable(starts, nodes.astype(np.int32) if nodes[-1] < 2**31 else None, narrowest)
