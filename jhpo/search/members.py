"""The members of a search that pauses and continues them: what they reached at each rung."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from numpy.typing import DTypeLike

from jhpo.evaluation.lineage import Lineage
from jhpo.search.evaluations import Curves, Evaluations
from jhpo.search.keep import Keep
from jhpo.search.record import Rows
from jhpo.strategies.base import Evaluation
from jhpo.values.columns import Column, feasible, successes


class Members:
    """Everything that is known of the members, a row a member, in the order in which they began.

    Args:
        sign: 1.0 where values are minimised, -1.0 where they are maximised.
        length: steps of a whole training.
        dim: coordinates of a unit row.
        evolves: members take over from one another, with other hyperparameters.
    """

    def __init__(self, sign: float, length: int, dim: int, evolves: bool = False) -> None:
        self.sign, self.length, self.evolves = sign, length, evolves
        self.count = 0
        self.best = np.nan  # lowest feasible value of a whole training, in the sense of a minimisation
        self._units = Column(np.float64, (dim,))
        self._value = Column(np.float64, fill=np.nan)
        self._generation = Column(np.int32)
        self._step = Column(np.int64)
        self._extra: dict[str, Column] = {}  # "constraint" [c], "variance"
        self._curve: dict[int, Column] = {}  # by step
        self._widths: dict[int, Column] = {}  # of the programs that trained a member to a step
        self._source: dict[int, Column] = {}  # whose training a member went on with up to a step, if members evolve
        self._steered: dict[int, Column] = {}  # [d], with which hyperparameters

    def begin(self, units: np.ndarray, generation: int) -> np.ndarray:
        """New members; their ids, ``int64[n]``."""
        ids = self.count + np.arange(len(units))
        self.count += len(units)
        for column in self._columns():
            column.resize(self.count)
        self._units.array[ids] = units
        self._generation.array[ids] = generation
        return ids

    def take_over(self, ids: np.ndarray, sources: np.ndarray, units: np.ndarray, stop: int) -> None:
        """Members that evolve are to be trained to a step: each one goes on from a source, its own id at first.

        Args:
            ids: ``int[n]``.
            sources: ``int[n]``, members.
            units: ``float[n, d]``, hyperparameters from here on.
            stop: the step.
        """
        self._units.array[ids] = units
        self._column(self._source, stop, np.int64, -1).array[ids] = sources
        self._column(self._steered, stop, np.float64, np.nan, self._units.array.shape[1:]).array[ids] = units

    def reach(self, ids: np.ndarray, result: Evaluation, stop: int, widths: np.ndarray) -> None:
        """Members were trained to a step.

        Args:
            ids: ``int[n]``.
            result: in the user's own sign.
            stop: the step.
            widths: ``int[n]``, of the programs that trained them.
        """
        value = np.asarray(result.value, np.float64)
        value = np.where(np.isfinite(value), value, np.nan)
        self._column(self._curve, stop, np.float64, np.nan).array[ids] = value
        self._column(self._widths, stop, np.int64, 0).array[ids] = widths
        self._value.array[ids] = value
        self._step.array[ids] = stop
        for name in ("constraint", "variance"):
            found = getattr(result, name)
            if found is not None:
                if name not in self._extra:
                    self._extra[name] = Column(np.float64, np.shape(found)[1:], fill=np.nan)
                    self._extra[name].resize(self.count)
                self._extra[name].array[ids] = found
        if stop == self.length:
            constraint = None if result.constraint is None else np.asarray(result.constraint)
            good = successes(np.isfinite(value), constraint, np.ones(len(value)))
            if len(good):
                self.best = float(np.fmin(self.best, (self.sign * value[good]).min()))

    def rows(self) -> Rows:
        """All members after their last rungs."""
        ids = np.arange(self.count)
        extra: dict[str, Any] = {name: column.array for name, column in self._extra.items()}
        return Rows(
            units=self._units.array,
            result=Evaluation(self._value.array, **extra),
            ids=ids.astype(np.uint32),
            numbers=ids,
            generation=self._generation.array,
            horizon=self._step.array / self.length,
        )

    def curves(self, ids: np.ndarray) -> Curves:
        """The curves of some members."""
        steps = sorted(self._curve)
        return Curves(np.asarray(steps, np.int64), np.stack([self._curve[s].array[ids] for s in steps], axis=1))

    def widths(self) -> dict[int, np.ndarray]:
        """``int64[n]`` by step: the programs that trained the members to it."""
        return {stop: column.array for stop, column in self._widths.items()}

    def lineage(self) -> Lineage | None:
        """Who took over from whom; None where nobody did."""
        if not self.evolves:
            return None
        return Lineage(*({s: c.array for s, c in columns.items()} for columns in (self._source, self._steered)))

    def _column(
        self, columns: dict[int, Column], stop: int, dtype: DTypeLike, fill: float, shape: tuple[int, ...] = ()
    ) -> Column:
        """The column of a step, made when first asked for."""
        if stop not in columns:
            columns[stop] = Column(dtype, shape, fill=fill)
            columns[stop].resize(self.count)
        return columns[stop]

    def _columns(self) -> list[Column]:
        fixed = [self._units, self._value, self._generation, self._step]
        steps = (self._curve, self._widths, self._source, self._steered)
        return [*fixed, *self._extra.values(), *(column for columns in steps for column in columns.values())]


def kept_of(history: Evaluations, keep: Keep, sign: float) -> tuple[Evaluations, np.ndarray]:
    """What a search keeps of its members, and which rows those are."""
    rows = np.arange(len(history.value))
    if keep == "best":  # of those that began together, a success if there is one
        bad = ~history.whole if history.constraint is None else ~(history.whole & feasible(history.constraint))
        order = np.lexsort((sign * history.value, -history.horizon, bad, history.generation))
        _, first = np.unique(history.generation[order], return_index=True)
        rows = order[first]
    kept: Evaluations = jax.tree.map(lambda x: x[rows], history)
    return (kept._replace(units=None) if keep == "values" else kept), rows
