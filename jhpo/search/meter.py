"""How far a search is: what its stop rules look at, and what its callback and its caller are told."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jhpo.errors import invalid
from jhpo.search.compiling import compile_seconds
from jhpo.search.stopping import Progress, StopRules


class Update(NamedTuple):
    """What a callback hears after every generation (or every batch of host results)."""

    evaluations: int  # finished in the whole search, earlier calls of a study included
    new: int  # finished in this call
    best: float  # of whole trainings, in the direction of the search; NaN before the first success
    generation: int  # generations asked for
    seconds: float  # wall time of this call
    compile_seconds: float  # the part of it spent tracing and compiling


class Summary(NamedTuple):
    """How a call went."""

    stopped: str  # the sentence that says why it ended
    evaluations: int  # finished in this call
    seconds: float
    compile_seconds: float  # the part of it spent tracing and compiling


Callback = Callable[[Update], object] | Callable[[int, float], object]


def as_listener(callback: Callback | None) -> Callable[[Update], object] | None:
    """A callback in its one form, ``callback(update)``; ``callback(evaluations, best)`` is accepted as well.

    Raises:
        InvalidArgument: no function, or one of other arguments.

    >>> as_listener(lambda evaluations, best: (evaluations, best))(Update(8, 8, 0.5, 1, 0.1, 0.0))
    (8, 0.5)
    """
    if callback is None:
        return None
    if not callable(callback):
        raise invalid("callback", "a function callback(update)", callback)
    listener: Any = callback
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):
        return listener  # a builtin (a queue's put, say) without a signature
    if _takes(signature, 2) and not _takes(signature, 1):
        return lambda update: listener(update.evaluations, update.best)
    if not _takes(signature, 1):
        raise invalid("callback", "a function callback(update) or callback(evaluations, best)", str(signature))
    return listener


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


class Meter:
    """Progress of one call of `minimize` or `Study.optimize`.

    Args:
        rules: what ends the search, in the sense of a minimisation.
        callback: told of every generation.
        sign: 1.0 to minimise, -1.0 to maximise.
        evaluations: finished before this call.
        bests: lowest feasible value after each earlier generation of whole trainings, in the sense of a minimisation.

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
        self.bests = list(bests)
        self.evaluations = self._before = evaluations
        self._listener = as_listener(callback)
        self._begun, self._compiled = time.perf_counter(), compile_seconds()

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._begun

    def report(self, evaluations: int, generation: int, best: float, whole: bool = True) -> str | None:
        """Results came in: tell the callback, and say whether to stop.

        Args:
            evaluations: finished ones.
            generation: generations asked for.
            best: lowest feasible value of whole trainings, NaN before there is one.
            whole: they complete a generation whose members were trained to the end.
        """
        progress = Progress(evaluations, generation, self.seconds, best, self.bests)
        self.hear([progress], whole)
        return self.rules.check(progress)

    @property
    def seconds_left(self) -> float:
        """Wall time that the rules allow; infinity without one about it."""
        return math.inf if self.rules.seconds is None else max(self.rules.seconds - self.seconds, 0.0)

    def foresee(
        self, made: np.ndarray, generation: int, best: float, lowest: np.ndarray, whole: bool
    ) -> tuple[list[Progress], str | None]:
        """How the search stands after each of some generations, up to the first in which a rule holds.

        Nothing is reported: see `hear`.

        Args:
            made: ``int[g]``, evaluations since the last report after each of them.
            generation: generations asked for before them.
            best: lowest feasible value of whole trainings before them, NaN before there is one.
            lowest: ``float[g]``, that of each of them, infinite where there is none.
            whole: their members are trained to the end.

        Returns:
            A `Progress` a generation, and the sentence of the rule.
        """
        after = np.fmin.accumulate(np.concatenate([[best], np.where(np.isfinite(lowest) & whole, lowest, np.nan)]))[1:]
        bests, progress, stopped = list(self.bests), [], None
        for k, (n, now) in enumerate(zip(made.tolist(), after.tolist())):
            if whole:
                bests.append(now)
            # time passes for all of them together
            seconds = self.seconds if k == len(made) - 1 else 0.0
            progress.append(Progress(self.evaluations + n, generation + k + 1, seconds, now, bests))
            stopped = self.rules.check(progress[-1])
            if stopped is not None:
                break
        return progress, stopped

    def hear(self, progress: Sequence[Progress], whole: bool) -> None:
        """Some generations are finished and kept: tell the callback of each.

        Args:
            progress: after each of them.
            whole: they were trained to the end.
        """
        seconds, spent = self.seconds, compile_seconds() - self._compiled
        for each in progress:
            self.evaluations = each.evaluations
            if whole:
                self.bests.append(each.best)
            if self._listener is not None:
                new = each.evaluations - self._before
                self._listener(Update(each.evaluations, new, self.sign * each.best, each.generations, seconds, spent))

    def report_start(self, generation: int) -> str | None:
        """Before anything runs: a study that goes on may have nothing left to do."""
        best = self.bests[-1] if self.bests else np.nan
        return self.rules.check(Progress(self.evaluations, generation, 0.0, best, self.bests))

    def report_time(self, generation: int) -> str | None:
        """While nothing finishes: only the clock can end the search."""
        return self.rules.check(Progress(self.evaluations, generation, self.seconds, np.nan, []))

    def summary(self, stopped: str) -> Summary:
        """The call's figures."""
        spent = compile_seconds() - self._compiled
        return Summary(stopped, self.evaluations - self._before, self.seconds, spent)
