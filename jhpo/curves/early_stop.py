"""The base class of rules that stop a trial early."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import ClassVar

from jhpo.curves.table import Curve
from jhpo.errors import invalid

CHECKS = 10  # parts of a training, unless a rule says otherwise


class EarlyStop:
    """Base class of rules that stop a trial early, given as ``early_stop=``; write `stops` for one of your own."""

    # by_fold: it compares means over folds, so that a trainable has to be cross-validated fold by fold
    by_fold: ClassVar[bool] = False

    def stops(self, own: Curve, others: Sequence[Curve], since: int) -> bool:
        """Whether a trial that runs is to be stopped.

        Args:
          own: its learning curve so far, of at least one point; values are to be minimised.
          others: the curves of all other trials that have one, running ones too.
          since: step at which this was last asked about the trial; -1 the first time.
        """
        raise TypeError(f"{type(self).__name__} must define 'stops'")

    def stopped(self, curves: Sequence[Curve], running: Sequence[int], since: int) -> list[bool]:
        """Which of several trials are to be stopped, all judged by the same curves; by default `stops` of each.

        Args:
          curves: of all trials that have one.
          running: which of them are judged.
          since: as of `stops`, the same for all.
        """
        every = list(curves)
        return [self.stops(every[i], every[:i] + every[i + 1 :], since) for i in running]

    def checks(self, steps: int) -> list[int]:
        """Where the members of a `Trainable` are judged, the last of them the end: by default ten equal parts.

        >>> EarlyStop().checks(25), EarlyStop().checks(3)
        ([3, 6, 9, 12, 15, 18, 21, 24, 25], [1, 2, 3])
        """
        each = -(-steps // CHECKS)
        return [*range(each, steps, each), steps]


def checks_of(rule: EarlyStop, steps: int) -> list[int]:
    """Where a rule judges the members of a training of so many steps.

    Raises:
      InvalidArgument: steps that do not rise, or do not lead to the end of the training.
    """
    found = rule.checks(steps)
    try:
        stops = [operator.index(stop) for stop in found]
    except TypeError:
        stops = []
    if stops[-1:] != [steps] or any(a >= b for a, b in itertools.pairwise([0, *stops])):
        expected = f"a rule whose checks({steps}) are steps from 1 on that rise to {steps}, the end of the training"
        raise invalid("early_stop", expected, found)
    return stops


def stopped_by(rule: EarlyStop, curves: Sequence[Curve], running: Sequence[int], since: int) -> list[bool]:
    """Which of several trials a rule stops.

    Raises:
      InvalidArgument: its answers are not as many.
    """
    found = [bool(answer) for answer in rule.stopped(curves, running, since)]
    if len(found) != len(running):
        raise invalid("early_stop", f"a rule whose stopped() has {len(running)} answers, one for each trial", found)
    return found
