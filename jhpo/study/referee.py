"""What the running trials of a study report: stored as it comes, and judged by the rule that stops trials early."""

from __future__ import annotations

import time
import weakref

from jhpo.curves.reports import Reports
from jhpo.curves.rules import EarlyStop
from jhpo.curves.table import Report
from jhpo.errors import JhpoError, TrialConflict
from jhpo.study import events
from jhpo.study.ledger import Ledger
from jhpo.values.notes import Notes


class Referee:
    """Takes the reports of running trials.

    Args:
        ledger: of the study.
        rule: that stops trials early, or None.
    """

    def __init__(self, ledger: Ledger, rule: EarlyStop | None) -> None:
        # weakly: a trial in somebody's hands must not keep a study open that nobody else knows of
        self._known, self._rule = weakref.ref(ledger), rule

    @property
    def _ledger(self) -> Ledger:
        ledger = self._known()
        if ledger is None:
            raise JhpoError("trial.report: the study that handed this trial out is gone; keep the Study object")
        return ledger

    def reports(self, trial_id: int, attempt: int) -> Reports:
        """What takes the reports of a trial while it is being evaluated, the given time that it was handed out."""
        return Reports(
            lambda report: self._keep(trial_id, attempt, report),
            lambda since: self._stops(trial_id, attempt, since),
            lambda notes: self._note(trial_id, attempt, notes),
        )

    def _keep(self, trial_id: int, attempt: int, report: Report) -> None:
        with self._ledger.transaction() as append:
            self._check_runs(trial_id, attempt, "this report is refused")
            append(events.Report(trial_id, report.step, report.value, time.time(), dict(report.more)))

    def _note(self, trial_id: int, attempt: int, notes: Notes) -> None:
        with self._ledger.transaction() as append:
            self._check_runs(trial_id, attempt, f"study.note(..., trial={trial_id}) keeps notes of finished ones too")
            append(events.Note(trial_id, notes, time.time()))

    def _check_runs(self, trial_id: int, attempt: int, otherwise: str) -> None:
        if not self._ledger.runs(trial_id, attempt):
            raise TrialConflict(f"trial {trial_id} was finished, or handed to another worker, meanwhile; {otherwise}")

    def _stops(self, trial_id: int, attempt: int, since: int) -> bool:
        """True also for a trial that is no longer ours, so that an evaluation nobody waits for comes to its end."""
        with self._ledger.lock:
            if not self._ledger.runs(trial_id, attempt):
                return True
            curves = self._ledger.history.table.reports
            return self._rule is not None and self._rule.stops(curves.of(trial_id), curves.others(trial_id), since)
