"""A trial, and the columns in which a study keeps all of its trials."""

from __future__ import annotations

import enum
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import DTypeLike

from jhpo.pytrees import HP


class TrialState(enum.IntEnum):
    """Where a trial is in its life."""

    WAITING = 0  # enqueued, or given back by a lost worker: nobody works on it
    RUNNING = 1  # handed out
    COMPLETE = 2  # told a finite value
    FAILED = 3  # told a failure, with its reason


DONE = (TrialState.COMPLETE, TrialState.FAILED)


@dataclass(frozen=True)
class Trial:
    """One evaluation of the objective, as it stood when it was asked for or looked up.

    `params` are decoded host values: strings and numbers in the space's shape, inactive parameters absent.
    """

    id: int
    params: HP
    status: TrialState
    value: float  # as told, in the study's direction; NaN unless complete
    reason: str  # why it failed; empty otherwise
    generation: int  # of the strategy; -1 for enqueued and foreign trials
    attempt: int  # how often it was handed out before
    seed: int  # 64 bits of randomness, the trial's own unless the strategy fixes its members' randomness
    horizon: float  # share of the training to run: below 1 in the first phase of a chain
    unit: np.ndarray = field(repr=False, compare=False)  # float64[d], the point of the unit cube

    @property
    def state(self) -> TrialState:
        """The old name of `status`: a state is what was trained (`Study.states`, `Result.top`)."""
        warnings.warn("Trial.state is called Trial.status now", DeprecationWarning, stacklevel=2)
        return self.status


class Column:
    """A growing NumPy array: appending a block costs its length."""

    def __init__(self, dtype: DTypeLike, width: tuple[int, ...] = (), fill: float = 0) -> None:
        self._fill = fill
        self._data = np.full((64, *width), fill, dtype)
        self._size = 0

    def resize(self, size: int) -> None:
        """Make it at least `size` long; new entries hold the fill value."""
        if size > len(self._data):
            grown = np.full((max(size, 2 * len(self._data)), *self._data.shape[1:]), self._fill, self._data.dtype)
            grown[: self._size] = self._data[: self._size]
            self._data = grown
        self._size = max(self._size, size)

    @property
    def array(self) -> np.ndarray:
        """A view of the entries; do not keep it across `resize`."""
        return self._data[: self._size]


def feasible(constraint: np.ndarray) -> np.ndarray:
    """``bool[n]``: which rows of constraint values, ``float[n, c]``, violate none.

    A value is violated below 0, and where it is missing (NaN) among others; nothing speaks against a row without any.

    >>> feasible(np.array([[0.0, 1.0], [-0.1, 1.0], [np.nan, 1.0], [np.nan, np.nan]])).tolist()
    [True, False, False, True]
    """
    missing = np.isnan(constraint)
    violated = (constraint < 0) | (missing & ~missing.all(axis=1, keepdims=True))
    return ~violated.any(axis=1)


def successes(complete: np.ndarray, constraint: np.ndarray | None, horizon: np.ndarray) -> np.ndarray:
    """Numbers of the trials that count as successes, ascending: of studies and of searches in memory alike.

    Args:
        complete: ``bool[n]``, measured with a finite value.
        constraint: ``float[n, c]``, or None where there are no constraints.
        horizon: ``float[n]``, share of the training; a value after half of it says nothing about one after the whole,
            so that the longest trainings alone count.
    """
    good = complete if constraint is None else complete & feasible(constraint)
    ids = np.flatnonzero(good)
    return ids[horizon[ids] == horizon[ids].max()] if len(ids) else ids


def best_first(ids: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Trial numbers by their values (to be minimised), the earlier trial first where they are equal."""
    return ids[np.argsort(value[ids], kind="stable")]


class TrialTable:
    """All trials of a study, a column a property; trial ids are the row numbers."""

    def __init__(self, dim: int) -> None:
        self.size = 0
        self.unit = Column(np.float64, (dim,))
        self.value = Column(np.float64, fill=np.nan)
        self.state = Column(np.uint8)
        self.generation = Column(np.int32, fill=-1)
        self.member = Column(np.int32, fill=-1)
        self.attempt = Column(np.uint16)  # how often it was handed out before
        self.stream = Column(np.int64, fill=-1)  # id its evaluation key was made from, -1 for its own
        self.horizon = Column(np.float64, fill=1.0)  # share of the training
        self.lost = Column(np.uint16)  # how often its worker was lost
        self.asked = Column(np.float64, fill=np.nan)  # seconds since the epoch
        self.told = Column(np.float64, fill=np.nan)
        self.reason: dict[int, str] = {}
        self.worker: dict[int, str] = {}  # of running trials
        self.extra: dict[str, Column] = {}  # "grad" [d], "constraint" [c], "cost", "variance"

    def columns(self) -> list[Column]:
        """Every column there is."""
        fixed = [self.unit, self.value, self.state, self.generation, self.member, self.attempt, self.stream]
        return [*fixed, self.horizon, self.lost, self.asked, self.told, *self.extra.values()]

    def add(self, count: int) -> slice:
        """Rows for `count` new trials."""
        rows = slice(self.size, self.size + count)
        self.size += count
        for column in self.columns():
            column.resize(self.size)
        return rows

    def set_extra(self, name: str, ids: np.ndarray, values: np.ndarray) -> None:
        """Store further results (float[k] or float[k, m]) of the trials `ids`."""
        if name not in self.extra:
            self.extra[name] = Column(np.float64, values.shape[1:], fill=np.nan)
            self.extra[name].resize(self.size)
        self.extra[name].array[ids] = values

    def done(self, ids: np.ndarray | slice = slice(None)) -> np.ndarray:
        """``bool[k]``: which of some trials, or of all, are told, whether complete or failed."""
        return self.state.array[ids] >= TrialState.COMPLETE

    def in_state(self, state: TrialState) -> np.ndarray:
        """Ids of the trials in `state`, ascending."""
        return np.flatnonzero(self.state.array == state)

    def successes(self) -> np.ndarray:
        """Ids of complete, feasible trials; where trainings differ in length, of the longest ones alone."""
        constraint = self.extra["constraint"].array if "constraint" in self.extra else None
        return successes(self.state.array == TrialState.COMPLETE, constraint, self.horizon.array)

    def streams(self, ids: np.ndarray) -> np.ndarray:
        """``int64[k]``: the ids from which the trials' keys are made."""
        return np.where(self.stream.array[ids] >= 0, self.stream.array[ids], ids)

    def ranked(self, sign: float) -> np.ndarray:
        """`successes`, best first (ties: the earlier trial first)."""
        return best_first(self.successes(), sign * self.value.array)

    def trial(self, trial_id: int, decode: Callable[[np.ndarray], HP], seed: int) -> Trial:
        """The trial as it stands."""
        return Trial(
            id=trial_id,
            params=decode(self.unit.array[trial_id]),
            status=TrialState(int(self.state.array[trial_id])),
            value=float(self.value.array[trial_id]),
            reason=self.reason.get(trial_id, ""),
            generation=int(self.generation.array[trial_id]),
            attempt=int(self.attempt.array[trial_id]),
            seed=seed,
            horizon=float(self.horizon.array[trial_id]),
            unit=self.unit.array[trial_id].copy(),
        )
