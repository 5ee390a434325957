"""Collects the evaluations of a search in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.search.evaluations import Curves, Evaluations
from jhpo.search.keep import Keep
from jhpo.strategies.base import Evaluation, Stages
from jhpo.values.columns import successes


class Rows(NamedTuple):
    """Columns of n trials."""

    units: np.ndarray  # float[n, d], or float[0, d] where they are not kept
    result: Evaluation  # float[n, ...], in the user's own sign
    ids: np.ndarray  # uint32[n], from which the evaluation keys were made
    numbers: np.ndarray  # int64[n], of the trials
    generation: np.ndarray  # int32[n], -1 for starting points
    horizon: np.ndarray  # float[n], share of the training

    def at(self, places: np.ndarray | slice) -> Rows:
        """The rows at `places`."""
        result = jax.tree.map(lambda x: np.asarray(x)[places], self.result)
        columns = (self.ids, self.numbers, self.generation, self.horizon)
        return Rows(self.units[places], result, *(x[places] for x in columns))

    def best(self, sign: float) -> Rows:
        """The row of the best success (the first of equals), or no row if there is none."""
        value = np.asarray(self.result.value)
        whole = np.isfinite(value) if self.result.stages is None else np.isfinite(value) & ~self.result.stages.pruned
        good = successes(whole, self.result.constraint, self.horizon)
        return self.at(good[np.argmin(sign * value[good])][None] if len(good) else slice(0, 0))


class Record:
    """The evaluations so far, as many as `keep` asks for, and the best of them.

    Args:
        sign: 1.0 where values are minimised, -1.0 where they are maximised.
        keep: which evaluations to keep.
    """

    def __init__(self, sign: float, keep: Keep = "all") -> None:
        self.sign, self.keep = sign, keep
        self.evaluations = 0
        self.best = np.nan  # lowest feasible minimised value at full horizon
        self._rows: list[Rows] = []
        self._places: dict[int, int] = {}  # of generations in `_rows`, where the best of each is kept
        self.leader: Rows | None = None  # the best trial alone, or no row

    def add(self, rows: Rows) -> None:
        """Add trials of one generation: all of them, or those that ended since the last call."""
        best = _best_or_first(rows, self.sign)
        kept = {"all": rows, "values": rows._replace(units=rows.units[:0]), "best": best}[self.keep]
        place = len(self._rows)
        if self.keep == "best":
            place = self._places.setdefault(int(rows.generation[0]), place)
        if place == len(self._rows):
            self._rows.append(kept)
        else:
            self._rows[place] = _best_or_first(_joined([self._rows[place], kept]), self.sign)
        self._count(best, len(rows.ids))

    def add_kept(self, kept: Rows, contenders: Rows, evaluations: int) -> None:
        """Add trials that were reduced to what `keep` asks for.

        Args:
            kept: those rows.
            contenders: rows with units, the best trial among them.
            evaluations: how many trials they were chosen from.
        """
        self._rows.append(kept)
        self._count(contenders, evaluations)

    def _count(self, contenders: Rows, evaluations: int) -> None:
        self.evaluations += evaluations
        both = contenders if self.leader is None else _joined([self.leader, contenders])
        self.leader = both.best(self.sign)
        if len(self.leader.ids) and self.leader.horizon[0] == 1.0:
            self.best = float(self.sign * self.leader.result.value[0])

    def rows(self) -> Rows:
        """Everything that was kept."""
        return _joined(self._rows)


def _best_or_first(rows: Rows, sign: float) -> Rows:
    """The best row, or the first where none succeeded."""
    best = rows.best(sign)
    return best if len(best.ids) else rows.at(slice(0, 1))


def evaluations_of(rows: Rows) -> Evaluations:
    """The rows as `Evaluations` of a `Result`."""
    value = np.asarray(rows.result.value)
    return Evaluations(
        units=rows.units if len(rows.units) == len(value) else None,
        value=np.where(np.isfinite(value), value, np.nan),
        constraint=rows.result.constraint,
        variance=rows.result.variance,
        ids=np.asarray(rows.ids, np.uint32),
        generation=np.asarray(rows.generation, np.int32),
        horizon=rows.horizon,
        number=rows.numbers,
        values=rows.result.values,
        pruned=None if rows.result.stages is None else rows.result.stages.pruned,
    )


def curves_of(rows: Rows) -> Curves | None:
    """The learning curves of the trials; None where none has one."""
    stages = rows.result.stages
    if stages is None or not stages.step.size:
        return None
    steps = np.unique(stages.step[stages.step >= 0])
    value = np.full((len(stages.step), len(steps)), np.nan)
    row, place = np.nonzero(stages.step >= 0)
    value[row, np.searchsorted(steps, stages.step[row, place])] = stages.value[row, place]
    return Curves(steps, value)


def _joined(rows: list[Rows]) -> Rows:
    columns = [np.concatenate([r[k] for r in rows]) for k in (0, 2, 3, 4, 5)]
    found = {name: _column(rows, name) for name in Evaluation._fields if name != "stages"}
    return Rows(columns[0], Evaluation(**found, stages=_stages(rows)), *columns[1:])


def _stages(rows: list[Rows]) -> Stages | None:
    """The curves of all rows, whose numbers of points differ."""
    parts = [r.result.stages for r in rows]
    if any(part is None for part in parts):
        return None
    most = max(part.step.shape[1] for part in parts if part is not None)

    def wide(x: np.ndarray, blank: float) -> np.ndarray:
        return np.pad(x, [(0, 0), (0, most - x.shape[1])], constant_values=blank)

    columns = [(wide(p.step, -1), wide(p.value, np.nan), p.pruned) for p in parts if p is not None]
    return Stages(*map(np.concatenate, zip(*columns)))


def _column(rows: list[Rows], name: str) -> Any:
    """A column, NaN where rows lack all or the end of it: a host function that fails measures no constraints."""
    parts = [getattr(r.result, name) for r in rows]
    there: Any = max((p for p in parts if p is not None), key=lambda p: p.shape[1:], default=None)
    if there is None:
        return None
    columns = []
    for r, part in zip(rows, parts):
        columns.append(np.full((len(r.ids), *there.shape[1:]), np.nan, there.dtype))
        if part is not None:
            columns[-1][(slice(None), *map(slice, part.shape[1:]))] = part
    return np.concatenate(columns)


def padded(result: Evaluation, n: int) -> Evaluation:
    """The result with further rows, NaN, of members that were not evaluated; without what strategies do not get."""
    result = result._replace(stages=None)
    return result if n == len(result.value) else scattered(result, np.arange(len(result.value)), n)


def scattered(result: Evaluation, places: np.ndarray | list[int], n: int) -> Evaluation:
    """The result's rows at some places of `n` rows, which are NaN elsewhere; without what strategies do not get."""

    def spread(x: Any) -> Any:
        if x is None:
            return None
        rows = np.full((n, *np.shape(x)[1:]), np.nan, np.asarray(x).dtype)
        rows[places] = x
        return rows

    return Evaluation(*(spread(x) for x in result._replace(stages=None, mask=None)))
