"""The end of a generation, as the strategy is told it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Closing(NamedTuple):
    """What the strategy is told at the end of a generation."""

    generation: int
    members: np.ndarray  # int64[n], trial of each row; -1 where the row was not handed out
    told: np.ndarray  # bool[n], the row's trial was finished before the generation was closed
    others: np.ndarray  # int64[k], trials of earlier generations or foreign ones told since the last closing
    expected: np.ndarray  # int64[j], foreign ones added since the last closing that are not told yet
    step: Any  # int, at which the members' training was paused; 0 where it was not; int64[n], one a row
