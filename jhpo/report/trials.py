"""The data of a study for frames, figures and pages."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jhpo.objectives import Objectives, front
from jhpo.space.space import Space
from jhpo.trial import TrialTable


class Trials(NamedTuple):
    """The trials of one study as columns; `Study.trials` makes one."""

    space: Space
    table: TrialTable  # one row per trial
    direction: str  # "minimize" or "maximize"; "several" with several objectives
    header: dict[str, Any]  # the study's first event: seed, strategy, versions
    stops: list[str]  # why the calls of `optimize` ended, in the order of the log
    objectives: Objectives | None = None  # None with one objective

    @property
    def sign(self) -> float:
        """+1 to minimise, -1 to maximise."""
        return 1.0 if self.direction == "minimize" else -1.0

    def front(self) -> np.ndarray:
        """``int64[k]``: ids of the feasible trials that no other dominates, sorted by their first value."""
        ids = self.table.successes()
        return np.asarray(ids[front(self.minimised(ids))])

    def minimised(self, ids: np.ndarray) -> np.ndarray:
        """``float64[k, m]``: values of the trials `ids`, with the signs of minimisation."""
        if self.objectives is None or "values" not in self.table.extra:
            count = 1 if self.objectives is None else self.objectives.count
            return np.repeat(self.sign * self.table.value.array[ids, None], count, axis=1)
        return self.objectives.minimised(self.table.extra["values"].array[ids])
