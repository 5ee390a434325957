"""Cells: which value of a discrete parameter a unit coordinate stands for, for traced and host code alike.

Cells are computed in float32 and integers, with operations on which NumPy and every device agree. A unit coordinate
is resolved in steps of 2^-24, the spacing that float32 has everywhere in [0, 1]. Cells of equal width need one product;
those of logarithmic integers are looked up in a `log_table`, with linear interpolation between its nodes. Where to look
a formula says, to the next place; what stands there decides.
"""

from __future__ import annotations

import bisect
import math
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jhpo.space.log_table import NODE, POINT, STEPS, log_table
from jhpo.space.parameters import Int, Parameter

Array = Any  # a NumPy array on the host, a JAX array in traced code


class LogCells(NamedTuple):
    """The cells of a logarithmic integer as arrays, padded if several are stacked."""

    starts: Array  # int32[s], the first steps of the lowest values, then 2^24 at least once
    nodes: Array | None  # int32[65537], see `log_table`; None if the starts cover all values
    known: Array  # int32[], number of values whose start is known
    count: Array  # int32[], number of values
    low: Array  # float32[], the lowest value less one half
    span: Array  # float32[], logarithm of the ratio of the outer edges


def log_cells(parameter: Int) -> LogCells:
    """The `LogCells` of one parameter, as NumPy arrays."""
    table = log_table(parameter.low, parameter.high)
    starts = np.append(table.starts, np.int32(STEPS))
    known, count = np.int32(len(table.starts)), np.int32(parameter.cells)
    return LogCells(starts, table.nodes, known, count, *map(np.float32, log_scale(parameter)))


def log_scale(parameter: Int) -> tuple[float, float]:
    """Of a logarithmic integer the lower edge of the first cell, and the logarithm of the ratio of the outer edges."""
    low, high = parameter.low - 0.5, parameter.high + 0.5
    return low, math.log(high / low)


def _interpolated(nodes: Array, step: Array) -> Array:
    node, rest = step // np.int32(NODE), step % np.int32(NODE)
    low = nodes[node]
    return (low + (nodes[node + 1] - low) * rest // np.int32(NODE)) >> np.int32(POINT)


def log_index(cells: LogCells, unit: Array, xp: ModuleType) -> Array:
    """Index of the value at unit coordinates in [0, 1]: ``float32[...]`` to ``int32[...]``."""
    step = xp.minimum(xp.floor(unit * np.float32(STEPS)), np.float32(STEPS - 1)).astype(np.int32)
    last = cells.known - np.int32(1)
    near = xp.minimum(cells.low * xp.expm1(unit * cells.span), last.astype(np.float32))
    index = _last_at_most(xp.asarray(cells.starts), step, near, xp)
    if cells.nodes is None:
        return index
    above = xp.maximum(_interpolated(xp.asarray(cells.nodes), step), last)
    return xp.where(index < last, index, xp.minimum(above, cells.count - np.int32(1)))


def _first_step(cells: LogCells, index: Array, xp: ModuleType) -> Array:
    """The first step of the cell ``index``, which may be one beyond the last cell."""
    starts = xp.asarray(cells.starts)
    exact = starts[xp.minimum(index, cells.known)]
    if cells.nodes is None:
        return exact
    nodes = xp.asarray(cells.nodes)
    wanted = index << np.int32(POINT)
    near = xp.log1p(index.astype(np.float32) / cells.low) / cells.span * np.float32(STEPS // NODE)
    node = xp.clip(_last_at_most(nodes, wanted - np.int32(1), near, xp), 0, len(nodes) - 2)
    gap = xp.maximum(nodes[node + 1] - nodes[node], np.int32(1))
    step = node * np.int32(NODE) - (-(wanted - nodes[node]) * np.int32(NODE) // gap)
    step = xp.where(index > cells.count - np.int32(1), np.int32(STEPS), step)
    return xp.where(index < cells.known, exact, xp.maximum(step, starts[cells.known - np.int32(1)]))


def log_centre(cells: LogCells, index: Array, dtype: DTypeLike, xp: ModuleType) -> Array:
    """Unit coordinates of the cell centres: ``int32[...]`` to ``dtype[...]``."""
    dtype = np.dtype(dtype)
    first, after = (_first_step(cells, index + np.int32(k), xp) for k in (0, 1))
    return ((first + after) // np.int32(2)).astype(dtype) / dtype.type(STEPS)


def _last_at_most(table: Array, wanted: Array, near: Array, xp: ModuleType) -> Array:
    """Places ``int32[...]`` of the last numbers of a rising table that are at most ``wanted``.

    ``near`` float32[...]: where they are, up to one place. A search would read a dozen numbers one after the other.
    """
    place = xp.clip(near.astype(np.int32), 0, len(table) - 2)
    above = (table[place] > wanted).astype(np.int32)
    return place - above + (table[place + np.int32(1)] <= wanted).astype(np.int32)


def index_of(parameter: Parameter, unit: Array, xp: ModuleType = jnp) -> Array:
    """Index of the value at unit coordinates: ``float[...]`` to ``int32[...]``, equal in NumPy and JAX.

    >>> index_of(Int(1, 4), np.array([0.0, 0.26, 1.0]), np).tolist()
    [0, 1, 3]
    """
    unit = xp.clip(xp.asarray(unit).astype(np.float32), np.float32(0), np.float32(1))
    if isinstance(parameter, Int) and parameter.log:
        return log_index(log_cells(parameter), unit, xp)
    at = xp.floor(unit * np.float32(parameter.cells))
    return xp.minimum(at, np.float32(parameter.cells - 1)).astype(np.int32)


def index_of_one(parameter: Parameter, unit: float) -> int:
    """`index_of` of one coordinate in Python: to the same integer, in less than a tenth of the time.

    >>> index_of_one(Int(1, 4), 0.26), index_of_one(Int(1, 1000, log=True), 0.5)
    (1, 21)
    """
    there = min(max(np.float32(unit), np.float32(0)), np.float32(1))
    if not (isinstance(parameter, Int) and parameter.log):
        return min(int(there * np.float32(parameter.cells)), parameter.cells - 1)
    table = log_table(parameter.low, parameter.high)
    place = bisect.bisect_right(table.starts, min(int(there * np.float32(STEPS)), STEPS - 1)) - 1
    if table.nodes is None or place < len(table.starts) - 1:
        return place
    return int(index_of(parameter, there, np))


def centre_of(parameter: Parameter, index: Array, dtype: DTypeLike, xp: ModuleType = jnp) -> Array:
    """Unit coordinates of the cell centres, ``int32[...]`` to ``dtype[...]``: the inverse of `index_of`."""
    index = xp.clip(xp.asarray(index), 0, parameter.cells - 1).astype(np.int32)
    dtype = np.dtype(dtype)
    if isinstance(parameter, Int) and parameter.log:
        return log_centre(log_cells(parameter), index, dtype, xp)
    return (index.astype(dtype) + dtype.type(0.5)) / dtype.type(parameter.cells)


def edge_of(parameter: Parameter, index: Array, dtype: DTypeLike, xp: ModuleType = jnp) -> Array:
    """Unit coordinates of the lower edges of cells: ``int32[...]`` to ``dtype[...]``; 1 for the number of cells."""
    dtype = np.dtype(dtype)
    index = xp.clip(xp.asarray(index), 0, parameter.cells).astype(np.int32)
    if isinstance(parameter, Int) and parameter.log:
        return _first_step(log_cells(parameter), index, xp).astype(dtype) / dtype.type(STEPS)
    return index.astype(dtype) / dtype.type(parameter.cells)
