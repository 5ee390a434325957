"""The data of a study for frames, figures and pages."""

from __future__ import annotations

from typing import Any, NamedTuple

from jhpo.space.space import Space
from jhpo.trial import TrialTable


class Trials(NamedTuple):
    """The trials of one study as columns; `Study.trials` makes one."""

    space: Space
    table: TrialTable  # one row per trial
    direction: str  # "minimize" or "maximize"
    header: dict[str, Any]  # the study's first event: seed, strategy, versions
    stops: list[str]  # why the calls of `optimize` ended, in the order of the log

    @property
    def sign(self) -> float:
        """+1 to minimise, -1 to maximise."""
        return 1.0 if self.direction == "minimize" else -1.0
