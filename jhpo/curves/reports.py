"""What one evaluation reports while it runs, and what it is told: to go on, or to stop."""

from __future__ import annotations

import math
from collections.abc import Callable

from jhpo.curves.table import Report
from jhpo.errors import check_integer, invalid
from jhpo.values.notes import Notes

REPORTS_ONLY = (
    "it is a record of a trial: report from the second argument of a jhpo.host objective, fn(params, trial), or on a "
    "trial that study.ask has just handed out; a copy in another process is a record: there, return the measurements "
    'and report them where the trial was asked for, or let jhpo.host(fn, workers=..., kind="process") run fn'
)

_MOST_STEPS = 2**63 - 1  # that a study can store


class Reports:
    """What one evaluation reports; `Trial.report`, `Trial.should_stop` and `Trial.note` go through it.

    Args:
      send: takes a report to where it is kept.
      ask: whether to stop, given the step at which it was asked before; called only after a report.
      note: takes notes to where they are kept.
    """

    def __init__(
        self, send: Callable[[Report], object], ask: Callable[[int], bool], note: Callable[[Notes], object]
    ) -> None:
        self._send, self._ask, self.note = send, ask, note
        self.last: Report | None = None
        self.stopped = False
        self._asked, self._answered = -1, -1

    def report(self, report: Report) -> None:
        """Check a report and send it."""
        self._send(checked(report, self.last))
        self.last = report

    def should_stop(self) -> bool:
        """Whether to stop; once it is True it stays so, and without a new report the answer stays the same."""
        if self.last is not None and not self.stopped and self.last.step > self._answered:
            self._answered = self.last.step
            self.stopped = self._ask(self._asked)
            self._asked = self._answered
        return self.stopped


def checked(report: Report, last: Report | None) -> Report:
    """The report, if it is a finite value at a step after the last one.

    Raises:
      InvalidArgument: it is not.

    >>> checked(Report(0.5, 3), None)
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: step: expected an integer >= 0, got 0.5; report(step, value) takes the step first
    """
    step, value, more = report
    try:
        step = check_integer("step", step, 0)
    except ValueError as error:
        raise invalid("step", "an integer >= 0", step, note="report(step, value) takes the step first") from error
    if step > _MOST_STEPS:
        raise invalid("step", "an integer below 2^63", step)
    if last is not None and step <= last.step:
        note = "report every step once, in their order"
        raise invalid("step", f"one after {last.step}, the last that was reported", step, note=note)
    return Report(step, _number("value", value), {name: _number(name, each) for name, each in more.items()})


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(name, "a finite number", value) from error
    if not math.isfinite(number):
        note = "a training that diverged has failed: return the value instead of reporting it"
        raise invalid(name, "a finite number", value, note=note)
    return number
