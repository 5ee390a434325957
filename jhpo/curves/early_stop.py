"""The base class of rules that stop a trial early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from jhpo.curves.table import Curve

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
