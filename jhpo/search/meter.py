"""Progress of a search: what its stop rules check, and what its callback and its caller get."""

from __future__ import annotations

import dataclasses
import inspect
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jhpo.errors import invalid, warn_caller
from jhpo.search.compiling import compile_seconds
from jhpo.search.stopping import Progress, StopRules


class Update(NamedTuple):
    """Progress passed to a callback after every generation (or every batch of host results)."""

    evaluations: int  # finished in the whole search, earlier calls of a study included
    new: int  # finished during this call, by other workers too
    best: float  # of the first objective, of whole trainings, in your own sign; NaN before the first success
    generation: int  # generations asked for
    seconds: float  # wall time of this call
    compile_seconds: float  # the part of it spent tracing and compiling
    steps: int = 0  # of training of all members in this call, where members are paused and continued
    budget: int | None = None  # evaluations with which the search ends at the latest; None without that limit


class Summary(NamedTuple):
    """How a call of `Study.optimize` ended."""

    stopped: str  # the sentence that says why it ended
    evaluations: int  # finished during this call, by other workers too
    seconds: float
    compile_seconds: float  # the part of it spent tracing and compiling


One = Callable[[Update], object] | Callable[[int, float], object]
Callback = One | Sequence[One]  # several are called in their order


def as_listener(callback: Callback | None) -> Callable[[Update], object] | None:
    """The callback as a function of one `Update`; ``callback(evaluations, best)`` is accepted as well, and a list.

    Raises:
        InvalidArgument: not a function, or one with other arguments.

    >>> as_listener(lambda evaluations, best: (evaluations, best))(Update(8, 8, 0.5, 1, 0.1, 0.0))
    (8, 0.5)
    """
    if callback is None:
        return None
    if isinstance(callback, (list, tuple)):
        several = [heard for heard in map(as_listener, callback) if heard is not None]
        return lambda update: [heard(update) for heard in several]
    if not callable(callback):
        raise invalid("callback", "a function callback(update)", callback)
    listener: Any = callback
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):
        return lambda update: _no_rule(listener(update))  # a builtin (a queue's put, say) without a signature
    if _takes(signature, 2) and not _takes(signature, 1):
        return lambda update: _no_rule(listener(update.evaluations, update.best))
    if not _takes(signature, 1):
        raise invalid("callback", "a function callback(update) or callback(evaluations, best)", str(signature))
    return lambda update: _no_rule(listener(update))


def _no_rule(returned: object) -> object:
    """What a callback returned; a warning of True, which ends searches in other libraries and would be overheard here.

    It is no error: what a progress bar's ``update`` returns is True at times.
    """
    if isinstance(returned, (bool, np.bool_)) and returned:
        rule = "stop=, where stop(progress) returns a sentence that says why, or None"
        warn_caller(f"callback: it returned True, which does not end the search; a rule that does is {rule}")
    return returned


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


class Meter:
    """Progress of one call of `minimize` or `Study.optimize`.

    Args:
        rules: stop rules, for minimised values.
        callback: called after every generation.
        sign: 1.0 to minimise, -1.0 to maximise.
        evaluations: finished before this call.
        bests: lowest feasible minimised value after each earlier generation at full horizon.

    >>> meter = Meter(StopRules(evaluations=16), None, 1.0)
    >>> meter.report(8, 1, 0.5), meter.report(16, 2, 0.25)
    (None, 'evaluations: 16 of 16 done')
    >>> meter.bests
    [0.5, 0.25]
    """

    def __init__(
        self,
        rules: StopRules,
        callback: Callback | None,
        sign: float,
        *,
        evaluations: int = 0,
        bests: Sequence[float] = (),
    ) -> None:
        self.rules, self.sign = rules, sign
        self.bests, self.steps = list(bests), 0
        self.evaluations = self._before = evaluations
        self._best = self.bests[-1] if self.bests else np.nan  # the last that was reported, see `Progress`
        self._listener = as_listener(callback)
        self._begun, self._compiled = time.perf_counter(), compile_seconds()

    @property
    def heard(self) -> bool:
        """Whether a callback hears of every report."""
        return self._listener is not None

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._begun

    def report(
        self, evaluations: int, generation: int, best: float, whole: bool = True, paused: bool = False
    ) -> str | None:
        """Results came in: tell the callback, and say whether to stop.

        Args:
            evaluations: finished ones.
            generation: generations asked for.
            best: lowest feasible value of whole trainings, NaN before there is one.
            whole: they complete a generation whose members were trained to the end.
            paused: members wait to be trained on, so that a budget that is used up is no reason to stop.
        """
        progress = Progress(evaluations, generation, self.seconds, best, self.bests)
        self.hear([progress], whole)
        return self._rules(paused).check(progress)

    @property
    def seconds_left(self) -> float:
        """Wall time left under the stop rules; infinity without a time limit."""
        return math.inf if self.rules.seconds is None else max(self.rules.seconds - self.seconds, 0.0)

    def foresee(
        self, made: np.ndarray, generation: int, best: float, lowest: np.ndarray, whole: bool
    ) -> tuple[list[Progress], str | None]:
        """Progress after each of several generations, up to the first after which a stop rule holds.

        Nothing is recorded: see `hear`.

        Args:
            made: ``int[g]``, evaluations since the last report after each of them.
            generation: generations asked for before them.
            best: lowest feasible value at full horizon before them, NaN before there is one.
            lowest: ``float[g]``, that of each of them, infinite where there is none.
            whole: whether their members run the full horizon.

        Returns:
            One `Progress` per generation, and why to stop, or None.
        """
        after = np.fmin.accumulate(np.concatenate([[best], np.where(np.isfinite(lowest) & whole, lowest, np.nan)]))[1:]
        bests, progress, stopped = list(self.bests), [], None
        for k, (n, now) in enumerate(zip(made.tolist(), after.tolist())):
            if whole:
                bests.append(now)
            # they ran in one program, so only the last one has a time
            seconds = self.seconds if k == len(made) - 1 else 0.0
            progress.append(Progress(self.evaluations + n, generation + k + 1, seconds, now, bests))
            stopped = self.rules.check(progress[-1])
            if stopped is not None:
                break
        return progress, stopped

    def hear(self, progress: Sequence[Progress], whole: bool) -> None:
        """Record finished generations and call the callback for each.

        Args:
            progress: after each of them.
            whole: whether their members ran the full horizon.
        """
        seconds, spent = self.seconds, compile_seconds() - self._compiled
        for each in progress:
            self.evaluations, self._best = each.evaluations, each.best
            if whole:
                self.bests.append(each.best)
            if self._listener is not None:
                new = each.evaluations - self._before
                best = self.sign * each.best
                heard = Update(each.evaluations, new, best, each.generations, seconds, spent, self.steps)
                self._listener(heard._replace(budget=self.rules.evaluations))

    def report_start(self, generation: int, paused: bool = False) -> str | None:
        """Check the rules before anything runs: a resumed study may have nothing left to do, unless members wait."""
        return self._rules(paused).check(Progress(self.evaluations, generation, 0.0, self._best, self.bests))

    def _rules(self, paused: bool) -> StopRules:
        return dataclasses.replace(self.rules, evaluations=None) if paused else self.rules

    def report_time(self, generation: int) -> str | None:
        """Check the rules while no result arrives, for those that look at the time."""
        return self.rules.check(Progress(self.evaluations, generation, self.seconds, self._best, self.bests))

    def summary(self, stopped: str) -> Summary:
        """The `Summary` of the call."""
        spent = compile_seconds() - self._compiled
        return Summary(stopped, self.evaluations - self._before, self.seconds, spent)
