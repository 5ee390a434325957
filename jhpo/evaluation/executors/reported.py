"""What the host trials of a search in memory report and note while they run, and which of them are stopped early."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from jhpo.curves.reports import Reports
from jhpo.curves.rules import EarlyStop
from jhpo.curves.table import CurveTable, Report
from jhpo.errors import TrialConflict
from jhpo.strategies.base import Stages
from jhpo.trial import Trial, TrialState
from jhpo.values.notes import Notes
from jhpo.values.pytrees import HP


class Reported:
    """Takes the reports of trials, from any thread.

    Args:
        rule: that stops trials early, or None.
        sign: 1.0 where values are minimised, -1.0 where they are maximised.
    """

    def __init__(self, rule: EarlyStop | None, sign: float) -> None:
        self._rule, self._curves = rule, CurveTable(sign)
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._notes: dict[int, Notes] = {}  # of trials that run
        self.notes: dict[int, Notes] = {}  # of those that have ended, by the place of their point among all
        self._rows = 0
        self._count = 0

    def trial(self, params: HP, seed: int, unit: np.ndarray) -> Trial:
        """A trial that is about to be evaluated; they are numbered as they come."""
        number, self._count = self._count, self._count + 1
        self._running.add(number)
        reports = Reports(
            lambda report: self._keep(number, report),
            lambda since: self._stops(number, since),
            lambda notes: self._note(number, notes),
        )
        return Trial(
            number, params, TrialState.RUNNING, float("nan"), "", -1, 0, seed, 1.0, unit, reporting=reports
        )  # fmt: skip

    def _keep(self, number: int, report: Report) -> None:
        with self._lock:
            self._check_runs(number)
            self._curves.add(number, report)

    def _note(self, number: int, notes: Notes) -> None:
        with self._lock:
            self._check_runs(number)
            self._notes.setdefault(number, {}).update(notes)

    def _check_runs(self, number: int) -> None:
        if number not in self._running:
            raise TrialConflict(f"trial {number} was finished meanwhile; this report is refused")

    def _stops(self, number: int, since: int) -> bool:
        with self._lock:
            if number not in self._running:
                return True
            curves = self._curves
            return self._rule is not None and self._rule.stops(curves.of(number), curves.others(number), since)

    def finished(self, trials: Sequence[Trial], pruned: Sequence[bool], rows: int) -> Stages:
        """The curves of trials that have ended: `rows` points, and then their replicates, of which only notes are kept.

        Args:
            trials: in the order of the points; replicates one after the other.
            pruned: whether each was stopped early.
            rows: number of points.
        """
        with self._lock:
            self._running.difference_update(trial.id for trial in trials)
            points = [self._curves.points(trial.id) for trial in trials[:rows]]
            for k, trial in enumerate(trials):
                if trial.id in self._notes:
                    self.notes.setdefault(self._rows + k % rows, {}).update(self._notes.pop(trial.id))
            self._rows += rows
        most = max(map(len, points), default=0)
        step, value = np.full((len(points), most), -1, np.int64), np.full((len(points), most), np.nan)
        for row, curve in enumerate(points):
            step[row, : len(curve)], value[row, : len(curve)] = list(curve), list(curve.values())
        return Stages(step, value, np.asarray(pruned[:rows], np.bool_))
