"""The evaluations of a search in memory, as arrays, and its best trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jhpo.objectives import NO_VALUES, Values
from jhpo.values.pytrees import HP, State
from jhpo.words.markup import brief, cut, named, table


class Evaluations(NamedTuple):
    """The evaluations that were kept, in the order of the trials."""

    units: np.ndarray | None  # float[m, d]; None where values alone were kept
    value: np.ndarray  # float[m], in the user's own sign; NaN where the trial failed
    constraint: np.ndarray | None  # float[m, c], feasible where >= 0
    variance: np.ndarray | None  # float[m], of value, from replicates
    ids: np.ndarray  # uint32[m], from which the evaluation keys were made
    generation: np.ndarray  # int32[m], -1 for starting points
    horizon: np.ndarray  # float[m], share of the training: values of different shares do not compare
    number: np.ndarray  # int64[m], of the trials: 0, 1, 2, ... where all are kept
    values: np.ndarray | None = None  # float[m, k] with k > 1 objectives, of which `value` is the first
    pruned: np.ndarray | None = None  # bool[m], stopped early, at their last value; None where none could be

    def __repr__(self) -> str:
        return brief(self)

    @property
    def whole(self) -> np.ndarray:
        """``bool[m]``: trials that succeeded and were not stopped early."""
        finite = np.isfinite(self.value)
        return finite if self.pruned is None else finite & ~self.pruned


class Curves(NamedTuple):
    """Intermediate values: of members that were paused, at each rung; of others, as they were reported."""

    steps: np.ndarray  # int64[r], of training, ascending
    value: np.ndarray  # float[m, r], in the user's own sign; NaN where a member has none

    def __repr__(self) -> str:
        return brief(self)

    def of(self, row: int) -> dict[int, float]:
        """The values of one member by the step at which they were measured."""
        there = np.isfinite(self.value[row])
        return dict(zip(self.steps[there].tolist(), self.value[row, there].tolist()))


class Top(NamedTuple):
    """One of the best trials."""

    params: HP  # decoded hyperparameters
    value: float
    id: int  # trial number
    state: State  # trained state, None for objectives that have none
    values: Values = NO_VALUES  # of several objectives; of one the value alone
    notes: Mapping[str, Any] = {}  # of a host function, by name

    def __repr__(self) -> str:
        found = f"value={self.value!r}" if len(self.values) < 2 else f"values={self.values!r}"
        trained = "" if self.state is None else f", state={cut(brief(self.state), 80)}"
        return f"Top({self.id}, {found}, params={self.params!r}{trained})"

    def _repr_html_(self) -> str:
        names = self.values.names or range(len(self.values))
        values = list(zip(names, self.values)) if len(self.values) > 1 else [("value", self.value)]
        notes = [(f"note {name}", value) for name, value in self.notes.items()]
        return table(("", f"trial {self.id}"), [*values, *named(self.params), *notes])
