"""The evaluations of a search in memory as they come in."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jhpo.search.result import Evaluations
from jhpo.strategies.base import Evaluation
from jhpo.trial import best_first, successes


class Rows(NamedTuple):
    """Some trials that were evaluated together."""

    units: np.ndarray  # float[n, d]
    result: Evaluation  # in the user's own sign
    ids: np.ndarray  # uint32[n], from which the evaluation keys were made
    generation: int  # -1 for starting points
    horizon: float  # share of the training


class Record:
    """All evaluations so far, and the best of them.

    Args:
        sign: 1.0 where values are minimised, -1.0 where they are maximised.
    """

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.evaluations = 0
        self.best = np.nan  # lowest feasible value of a whole training, in the sense of a minimisation
        self._rows: list[Rows] = []

    def add(self, rows: Rows) -> None:
        """More trials; their numbers follow those that are there."""
        self._rows.append(rows)
        self.evaluations += len(rows.units)
        if rows.horizon < 1.0:
            return
        value = self.sign * np.asarray(rows.result.value)
        good = successes(np.isfinite(value), rows.result.constraint, np.ones(len(value)))
        if len(good):
            self.best = float(np.fmin(self.best, value[good].min()))

    def evaluations_made(self) -> Evaluations:
        """Everything, as arrays."""
        rows = self._rows
        value = np.concatenate([np.asarray(r.result.value) for r in rows])
        return Evaluations(
            units=np.concatenate([r.units for r in rows]),
            value=np.where(np.isfinite(value), value, np.nan),
            constraint=self._joined("constraint"),
            variance=self._joined("variance"),
            ids=np.concatenate([np.asarray(r.ids, np.uint32) for r in rows]),
            generation=np.concatenate([np.full(len(r.units), r.generation, np.int32) for r in rows]),
            horizon=np.concatenate([np.full(len(r.units), r.horizon) for r in rows]),
        )

    def _joined(self, field: str) -> np.ndarray | None:
        """A column that some of the rows may lack (a host function can leave its constraints out): NaN there."""
        parts = [getattr(r.result, field) for r in self._rows]
        there: Any = next((p for p in parts if p is not None), None)
        if there is None:
            return None
        blank = np.full((1, *there.shape[1:]), np.nan, there.dtype)
        return np.concatenate(
            [np.repeat(blank, len(r.units), axis=0) if p is None else np.asarray(p) for r, p in zip(self._rows, parts)]
        )


def ranked(made: Evaluations, sign: float) -> np.ndarray:
    """``int64[m]``: numbers of the successes, best first."""
    return best_first(successes(np.isfinite(made.value), made.constraint, made.horizon), sign * made.value)
