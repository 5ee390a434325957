"""A rule that stops a trial after some folds of a cross-validation: it has hardly a chance to be the best any more."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from jhpo.curves.early_stop import EarlyStop
from jhpo.curves.table import Curve
from jhpo.errors import check_integer, check_number
from jhpo.words.advice import advised

# What is known of all trials together counts as so many degrees of freedom, if at least so many of them are known.
_WEIGHT, _FEWEST = 4, 3


@advised
@dataclasses.dataclass(frozen=True)
class RacingStopping(EarlyStop):
    """Stops a trial that has hardly a chance to have the best mean over all folds (Maron and Moore 1994).

    For ``fold_by_fold=True``, or a function that reports ``trial.report(folds done, mean over them)``. A trial is
    compared with the leader on the same folds, as in a paired t-test, so that easy and hard folds do not matter. How
    much such differences vary from fold to fold is learned from all trials, and from the trial's own ones; means over
    all folds that there are vary less, the more of them were run. The leader is the best whole trial, or one under way
    that is ahead of it, and is never stopped.

    Args:
      chance: a trial with less than that to be better than the leader in the end is stopped.
      min_folds: no trial is stopped after fewer.

    Raises:
      InvalidArgument: an option outside its range.

    >>> from jhpo.curves import Curve
    >>> def running(*folds):
    ...     curve = Curve()
    ...     for k in range(1, len(folds) + 1):
    ...         curve.append(k, sum(folds[:k]) / k)
    ...     return curve
    >>> best = running(0.30, 0.50, 0.41, 0.20)  # folds differ more than trials do
    >>> rule, others = RacingStopping(), [best, running(0.33, 0.51, 0.43), running(0.35, 0.56, 0.44)]
    >>> rule.stops(running(0.36, 0.57, 0.48), others, 2), rule.stops(running(0.31, 0.49, 0.42), others, 2)
    (True, False)
    """

    chance: float = 0.05
    min_folds: int = 1
    by_fold: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("chance", self.chance, 0.0, 0.5, True, open_high=True)
        check_integer("min_folds", self.min_folds)

    def checks(self, steps: int) -> list[int]:
        return [*range(1, steps + 1)]

    def stops(self, own: Curve, others: Sequence[Curve], since: int) -> bool:
        return self.stopped([own, *others], [0], since)[0]

    def stopped(self, curves: Sequence[Curve], running: Sequence[int], since: int) -> list[bool]:
        alike: dict[tuple[int, ...], list[int]] = {}  # those that were run on the same folds
        for i in running:
            alike.setdefault(tuple(curves[i].steps), []).append(i)
        out = dict.fromkeys(running, False)
        for steps, rows in alike.items():
            if steps[-1] >= self.min_folds:
                chances = _chances([curves[i] for i in rows], curves)
                out |= {i: chance < self.chance for i, chance in zip(rows, chances)}
        return list(out.values())


def _chances(owns: Sequence[Curve], everyone: Sequence[Curve]) -> list[float]:
    """Probabilities that trials have a lower mean over all folds than the leader; 1 for the leader.

    The mean difference over k of K folds differs from that over all of them by a t-distributed error whose variance is
    that of a single fold's difference, times (1/k - 1/K): they are drawn without replacement. As long as nobody has
    more folds than the trials, K is not known, and 1/K counts as 0.

    Args:
      owns: curves of trials that were run on the same folds.
      everyone: all curves.
    """
    steps, end = owns[0].steps, max(curve.steps[-1] for curve in everyone)
    folds, last = steps[-1], len(steps) - 1
    peers = [curve for curve in everyone if curve.steps[: last + 1] == steps]
    whole = min((c for c in peers if folds < c.steps[-1] == end), key=lambda curve: curve.values[-1], default=None)
    contenders = [c for c in peers if not folds < c.steps[-1] == end] + ([] if whole is None else [whole])
    leader = min(contenders, key=lambda curve: curve.values[last])
    usual = whole or leader  # who has the most folds tells best how much differences vary
    known = [_paired(curve, usual) for curve in everyone if curve is not usual]
    # the median of a chi-squared variable lies below its mean (Wilson and Hilferty 1931)
    spread = [variance / (1.0 - 2.0 / (9.0 * freedom)) ** 3 for _, variance, freedom in known if freedom]
    weight = _WEIGHT if len(spread) >= _FEWEST else 0
    pooled = weight * float(np.median(spread)) if weight else 0.0
    share = 1.0 / folds - (1.0 / end if end > folds else 0.0)

    def chance(own: Curve) -> float:
        gap, variance, freedom = _paired(own, leader)
        if gap <= 0.0 or not freedom + weight:
            return 1.0
        error = share * (pooled + freedom * variance) / (weight + freedom)
        return student_tail(gap / math.sqrt(error), weight + freedom) if error > 0.0 else 0.0

    return [chance(own) for own in owns]


def _paired(curve: Curve, other: Curve) -> tuple[float, float, int]:
    """Mean difference on the folds of both, its variance from fold to fold, and the latter's degrees of freedom.

    Curves are means over folds 1 to k: from one point to the next, those of the folds in between follow.
    """
    each: list[tuple[float, float]] = []  # folds from one point to the next, and the mean difference on them
    step = total = 0.0
    for here, there, mine, its in zip(curve.steps, other.steps, curve.values, other.values):
        if here != there:
            break
        size, gap = here - step, (mine - its) * here
        each.append((size, (gap - total) / size))
        step, total = here, gap
    if not each:
        return 0.0, 0.0, 0
    mean = total / step
    squares = sum(size * (gap - mean) ** 2 for size, gap in each)
    return mean, squares / max(len(each) - 1, 1), len(each) - 1


def student_tail(t: float, freedom: int) -> float:
    """P(T > t) for t >= 0 and a Student variable T; Abramowitz and Stegun 26.7.3 and 26.7.4.

    >>> round(student_tail(2.132, 4), 4), round(student_tail(6.314, 1), 4), student_tail(0.0, 3)
    (0.05, 0.05, 0.5)
    """
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    inside = 2.0 / math.pi * (angle + sine * total) if odd else sine * total
    return (1.0 - inside) / 2.0
