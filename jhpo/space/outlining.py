"""Construction of a space's outline, padded so that spaces can share programs."""

from __future__ import annotations

from typing import Protocol

import jax
import numpy as np

from jhpo.space.cells import LogCells, log_cells, log_scale
from jhpo.space.layout import Layout
from jhpo.space.log_table import NODE, STEPS
from jhpo.space.outline import Conditions, LogColumns, LogCurves, Outline, Priors
from jhpo.space.parameters import Int


class Widen(Protocol):
    """Pads an array with one value per coordinate to the number of columns."""

    def __call__(self, values: np.ndarray, blank: float) -> np.ndarray:
        """``[d]`` padded with ``blank`` to ``[columns]``."""
        ...


def class_of(n: int, smallest: int, factor: int = 2) -> int:
    """The smallest ``smallest * factor^k`` that is at least ``n``: a size of padded arrays.

    >>> class_of(3, 4), class_of(5, 4), class_of(33, 4, 4)
    (4, 8, 64)
    """
    size = smallest
    while size < n:
        size *= factor
    return size


def exact_outline(space: Layout) -> Outline:
    """The outline without padding, as NumPy arrays."""
    return _outline(space, space.dim, padded=False)


def padded_outline(space: Layout, columns: int) -> Outline:
    """The outline in arrays of a few sizes, the same for all spaces with the same kinds of parameters.

    Args:
      space: the space.
      columns: number of columns, at least the space's dimension.
    """
    return _outline(space, columns, padded=True)


def _outline(space: Layout, columns: int, padded: bool) -> Outline:
    def wide(values: np.ndarray, blank: float) -> np.ndarray:
        out = np.full(columns, blank, values.dtype)
        out[: space.dim] = values
        return out

    return Outline(
        count=np.asarray(space.dim, np.int32),
        default=wide(space.default, 0.5),
        cells=wide(space.cells, 0) if space.cells.any() else None,
        categorical=wide(space.categorical, False) if space.cells.any() else None,
        logs=_curves(space, wide) if padded else _logs(space),
        conditions=_conditions(space, columns, padded),
        priors=_priors(space, wide),
    )


def _priors(space: Layout, wide: Widen) -> Priors | None:
    each = [p.prior for p in space.parameters for _ in range(p.size)]
    if not any(each):
        return None
    mean, deviation = (np.array([p[i] if p else other for p in each]) for i, other in ((0, 0.5), (1, 1.0)))
    return Priors(wide(mean, 0.5), wide(deviation, 1.0), wide(np.array([bool(p) for p in each]), False))


def _logs(space: Layout) -> LogColumns | None:
    where = [
        (column, p)
        for p, at in zip(space.parameters, space.slices)
        if isinstance(p, Int) and p.log
        for column in range(at.start, at.stop)
    ]
    if not where:
        return None
    tables = [log_cells(p) for _, p in where]
    longest = max(len(t.starts) for t in tables)
    interpolated = any(t.nodes is not None for t in tables)

    def long(table: LogCells) -> LogCells:
        nodes = np.zeros(STEPS // NODE + 1, np.int32) if table.nodes is None else table.nodes
        starts = np.pad(table.starts, (0, longest - len(table.starts)), constant_values=STEPS)
        return table._replace(starts=starts, nodes=nodes if interpolated else None)

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(long(t) for t in tables))
    return LogColumns(np.asarray([c for c, _ in where], np.int32), stacked)


def _curves(space: Layout, wide: Widen) -> LogCurves | None:
    if not space.cells.any():
        return None
    on, low, span = np.zeros(space.dim, bool), np.ones(space.dim), np.ones(space.dim)
    for p, at in zip(space.parameters, space.slices):
        if isinstance(p, Int) and p.log:
            on[at], (low[at], span[at]) = True, log_scale(p)
    return LogCurves(wide(on, False), wide(low, 1.0), wide(span, 1.0))


def _conditions(space: Layout, columns: int, padded: bool) -> Conditions | None:
    if not any(space.conditions):
        return None
    needed: dict[int, set[tuple[int, tuple[bool, ...]]]] = {}  # conditions by parameter, including its parents'
    for i in space.order:
        own = space.conditions[i]
        needed[i] = set(own).union(*(needed[parent] for parent, _ in own))
    each = sorted({condition for conditions in space.conditions for condition in conditions})
    widest = max(len(table) for _, table in each)
    rows, cells = (class_of(len(each), 8, 8), class_of(widest, 16, 8)) if padded else (len(each), widest)
    parent = np.zeros(rows, np.int32)
    allowed, needs = np.zeros((rows, cells), bool), np.zeros((rows, columns), bool)
    for k, (at, table) in enumerate(each):
        parent[k] = space.slices[at].start
        allowed[k, : len(table)] = table
        for i, conditions in needed.items():
            needs[k, space.slices[i]] = (at, table) in conditions
    return Conditions(parent, allowed, needs)
