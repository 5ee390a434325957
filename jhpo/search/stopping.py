"""Stop rules, checked on the host after every generation."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jhpo.errors import check_integer, check_number, invalid, no_float
from jhpo.objectives import Objectives, check_single
from jhpo.words.advice import advised
from jhpo.words.markup import counted

DEFAULT_PATIENCE = 20  # generations for `tolerance` if `patience` is not given


class Progress(NamedTuple):
    """Progress of a search; values are to be minimised, but for a rule of one's own: those are in its own sign."""

    evaluations: int  # finished evaluations, failed ones included
    generations: int  # closed generations
    seconds: float  # wall time of this search; 0 after a generation that ran together with later ones
    best: float  # lowest finite value so far; NaN before there is one
    bests: Sequence[float]  # `best` after each generation, oldest first


StopRule = Callable[[Progress], str | None]  # why to stop, or None


@advised
@dataclasses.dataclass(frozen=True)
class StopRules:
    """Rules that end a search; it ends as soon as one of them holds. None switches a rule off.

    Args:
        evaluations: finished evaluations, including failed ones.
        generations: closed generations.
        seconds: wall time; what a `jhpo.host` function still evaluates then does not count.
        target: a value (to be minimised) that is good enough.
        patience: generations without an improvement of the best value by more than `tolerance`.
        tolerance: an improvement of at most this much does not count; without `patience`, over 20 generations.
        own: rules of one's own, see `own_rules`.
        sign: -1.0 where values to maximise were turned into ones to minimise; the reason has their own sign.

    Raises:
        InvalidArgument: a value out of range, such as a budget of 0.

    >>> rules = StopRules(evaluations=100, target=0.5)
    >>> rules.check(Progress(64, 1, 2.0, 0.9, [0.9]))
    >>> rules.check(Progress(128, 2, 4.0, 0.4, [0.9, 0.4]))
    'evaluations: 128 of 100 done'
    >>> StopRules(patience=2).check(Progress(64, 4, 2.0, 0.9, [2.0, 0.9, 0.9, 0.9]))
    'patience: no improvement in 2 generations'
    """

    evaluations: int | None = None
    generations: int | None = None
    seconds: float | None = None
    target: float | None = None
    patience: int | None = None
    tolerance: float | None = None
    own: tuple[StopRule, ...] = ()
    sign: float = 1.0

    def __post_init__(self) -> None:
        for name in ("evaluations", "generations", "patience"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name))
        if self.seconds is not None:
            _check_real("seconds", self.seconds)
            check_number("seconds", self.seconds, low=0.0, open_low=True)
        if self.target is not None:
            _check_real("target", self.target)
        if self.tolerance is not None:
            _check_real("tolerance", self.tolerance)
            check_number("tolerance", self.tolerance, low=0.0)

    def turned(self, sign: float) -> StopRules:
        """The rules for values multiplied by `sign`: -1.0 turns a target to maximise into one to minimise."""
        target = None if self.target is None else sign * self.target
        own = tuple(functools.partial(_ask, r, sign, []) for r in self.own)
        return dataclasses.replace(self, target=target, own=own, sign=sign * self.sign)

    def check(self, progress: Progress) -> str | None:
        """The reason to stop now, or None to go on."""
        if self.evaluations is not None and progress.evaluations >= self.evaluations:
            return f"evaluations: {progress.evaluations} of {self.evaluations} done"
        if self.generations is not None and progress.generations >= self.generations:
            return f"generations: {progress.generations} of {self.generations} done"
        if self.target is not None and progress.best <= self.target:
            return f"target: {self.sign * progress.best:.6g} reached {self.sign * self.target:.6g}"
        if self.seconds is not None and progress.seconds >= self.seconds:
            return f"seconds: {progress.seconds:.1f} of {self.seconds:.1f} used"
        stalled = self._stalled(progress.bests)
        return stalled or next((why for rule in self.own if (why := rule(progress))), None)

    def _stalled(self, bests: Sequence[float]) -> str | None:
        if self.patience is None and self.tolerance is None:
            return None
        window = self.patience if self.patience is not None else DEFAULT_PATIENCE
        if len(bests) <= window:
            return None
        before, now = float(bests[-window - 1]), float(bests[-1])
        tolerance = 0.0 if self.tolerance is None else self.tolerance
        if math.isnan(before):
            # only failures until then: any finite value is an improvement
            improved = not math.isnan(now)
        else:
            improved = before - now > tolerance
        if improved:
            return None
        if tolerance > 0:
            return f"tolerance: improved by at most {tolerance:.6g} in {counted(window, 'generation')}"
        return f"patience: no improvement in {counted(window, 'generation')}"


def own_rules(stop: StopRule | Sequence[StopRule] | None) -> tuple[StopRule, ...]:
    """Stop rules of one's own from an argument: a function of `Progress`, several, or None.

    Raises:
        InvalidArgument: something else.
    """
    rules = () if stop is None else tuple(stop) if isinstance(stop, (list, tuple)) else (stop,)
    for rule in rules:
        if not callable(rule):
            raise invalid("stop", "a function stop(progress) that returns why to stop, or None", rule)
    return rules


def _ask(rule: StopRule, sign: float, bests: list[float], progress: Progress) -> str | None:
    """A rule of one's own, asked about values in its own sign; ``bests`` are those of its last call in that sign."""
    if sign != 1.0:
        del bests[len(progress.bests) :]
        bests += [sign * best for best in progress.bests[len(bests) :]]  # all of them each time would be quadratic
        progress = progress._replace(best=sign * progress.best, bests=bests)
    why = rule(progress)
    if why is not None and not (isinstance(why, str) and why):
        raise invalid("stop", "a function that returns None, or a sentence that says why to stop", why)
    return why


def exhausted(limit: int) -> str:
    """The message for a finite search without further points.

    >>> exhausted(9)
    'all 9 points of the search have been handed out'
    """
    if limit == 1:
        return "the only point of the search has been handed out"
    return f"all {limit} points of the search have been handed out"


def check_rules(
    objectives: Objectives | None, target: float | None, patience: int | None, tolerance: float | None
) -> None:
    """Raises if a rule about the best value is given with several objectives.

    Raises:
        InvalidArgument: one of them is given.
    """
    for name, rule in (("target", target), ("patience", patience), ("tolerance", tolerance)):
        if rule is not None:
            check_single(name, objectives, "stop by budget=, generations= or seconds=")


def _check_real(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or no_float(value):
        raise invalid(name, "a number", value)
