"""Pools and their tasks, and the call of a host function that turns exceptions into outcomes."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, Protocol

from jhpo.curves.reports import Reports
from jhpo.errors import JhpoError, TrialPruned, in_words, invalid, line_of
from jhpo.evaluation.outcome import Outcome, failure, judge, stopped_early
from jhpo.objectives import Objectives
from jhpo.training.metrics import measure
from jhpo.trial import Trial
from jhpo.values.pytrees import HP
from jhpo.words.lookups import names_there

_LONGEST_REASON = 2000
DONE = "done"  # what a worker elsewhere sends with its outcome; other messages name a method of `Reports`


_ENDING = threading.Lock()  # of all tasks: it is held for a moment


class Task:
    """An evaluation that was submitted; `result` waits for its outcome."""

    __slots__ = ("_done", "_error", "_heard", "_latch", "_outcome", "params", "seconds", "seed", "started", "trial")

    def __init__(self, params: HP, seed: int, trial: Trial | None = None) -> None:
        self.params, self.seed, self.trial = params, seed, trial  # the trial takes reports, if the function does
        self.started: float | None = None  # on the monotonic clock, when a worker began
        self.seconds = math.inf  # from then to the end
        self._done = False
        self._latch: threading.Lock | None = None  # made by whoever waits, held until the end
        self._outcome: Outcome | None = None
        self._error: Exception | None = None
        self._heard: Callable[[Task], object] | None = None

    def call(self, heard: Callable[[Task], object]) -> None:
        """Call a function with this task when it has ended, in the thread that ends it, or now if it has."""
        with _ENDING:
            if not self._done:
                self._heard = heard
                return
        heard(self)

    def done(self) -> bool:
        """Whether there is an outcome."""
        return self._done

    def finish(self, outcome: Outcome | None, error: Exception | None = None) -> bool:
        """Set the outcome, or an error of the pool itself; False if it was set before."""
        with _ENDING:
            if self._done:
                return False
            self._outcome, self._error, self._done = outcome, error, True
            if self.started is not None:
                self.seconds = time.monotonic() - self.started
            heard, latch = self._heard, self._latch
        if latch is not None:
            latch.release()
        if heard is not None:
            heard(self)
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the outcome."""
        with _ENDING:
            if self._done:
                return True
            if self._latch is None:
                self._latch = threading.Lock()
                self._latch.acquire()
            latch = self._latch
        if latch.acquire(timeout=-1 if timeout is None else timeout):
            latch.release()
        return self._done

    def result(self) -> Outcome:
        """The outcome; raises if the pool could not run the task."""
        # short waits: on some systems an unlimited wait blocks Ctrl-C
        while not self.wait(0.2):
            continue
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome


class Pool(Protocol):
    """Runs tasks concurrently."""

    workers: int

    def submit(self, params: HP, seed: int, trial: Trial | None = None) -> Task:
        """Start an evaluation as soon as a worker is free; the trial takes reports, if the function makes any."""
        ...

    def close(self) -> None:
        """Stop the workers; running tasks are abandoned."""
        ...


class Roles(NamedTuple):
    """What a host function is called with, in this order."""

    params: bool = True
    seed: bool = False
    trial: bool = False  # by its name

    def arguments(self, params: HP, seed: int, trial: Trial | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments of a call."""
        positional = ((params,) if self.params else ()) + ((seed,) if self.seed else ())
        return positional, {"trial": trial} if self.trial else {}


def roles_of(fn: Callable[..., Any]) -> Roles:
    """What a function is called with, from its signature.

    Raises:
        InvalidArgument: arguments that a host function cannot have.

    >>> roles_of(lambda params, seed, trial: 0.0)
    Roles(params=True, seed=True, trial=True)
    """
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        return Roles()  # a builtin without a signature gets only the hyperparameters
    named = [p for p in parameters if p.name == "trial" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p not in named]
    required = [p for p in positional if p.default is p.empty]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    between = named and named[0].kind is named[0].POSITIONAL_OR_KEYWORD and parameters.index(named[0]) < len(required)
    if len(required) > 2 or not (positional or takes_any or named) or between:
        expected = "a function fn(params), fn(params, seed), fn(params, trial) or fn(params, seed, trial)"
        raise invalid("fn", expected, str(inspect.signature(fn)))
    return Roles(bool(positional or takes_any), len(required) == 2, bool(named))


class Call(NamedTuple):
    """How a host function is called, and how its result is converted."""

    roles: Roles
    metric: str | None  # name of a metric to compute from returned (outputs, targets), or None
    objectives: Objectives | None = None  # if it returns several values
    retries: int = 0  # times that a failed evaluation is repeated
    memory: int | None = None  # bytes that a process may occupy


def call(fn: Callable[..., Any], how: Call, params: HP, seed: int, trial: Trial | None = None) -> Outcome:
    """The outcome of a call; an exception becomes a failure with its message and the line that raised it."""
    reports = None if trial is None else trial.reporting
    try:
        positional, named = how.roles.arguments(params, seed, trial)
        value = _in_this_process(fn, *positional, **named)
        if reports is not None and reports.stopped:
            return _pruned(reports)
        return judge(value if how.metric is None else _measured(how.metric, value), how.objectives)
    except TrialPruned:
        return _pruned(reports)
    except SystemExit as error:
        return failure(f"the objective called sys.exit({error.code!r})")
    except MemoryError as error:
        return failure(f"out of memory: {in_words(error).partition(': ')[2]}")
    except BaseException as error:  # noqa: BLE001 one bad member must not end the study
        return _failed(error)


def _in_this_process(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What the function returns. A child that it forks ends here, as it would at the end of a program of its own.

    It would go on as a second worker: answer for its parent, and evaluate in its place.
    """
    here = os.getpid()
    try:
        value = fn(*args, **kwargs)
    except BaseException as error:
        if os.getpid() != here:
            _end_of_a_child(error)
        raise
    if os.getpid() != here:
        _end_of_a_child(None)
    return value


def _end_of_a_child(error: BaseException | None) -> NoReturn:
    """End the process with the code and the text that Python ends a program with."""
    code = 0 if error is None else 1
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _failed(error: BaseException) -> Outcome:
    """A failure with an exception's message and the line that raised it; of one in `trial.report` the caller's."""
    try:
        where = line_of(error, ("jhpo",)) + names_there(error, ("jhpo",))
    except Exception:  # noqa: BLE001 frames and keys are someone else's, and without an outcome the search would wait
        where = ""
    return failure(f"{in_words(error)}{where}"[:_LONGEST_REASON])


def with_reports(trial: Trial, ask: Callable[..., Any]) -> Trial:
    """A trial in another process, whose reports go back by ``ask(method of Reports, *arguments)``, see `answered`."""

    def asked(method: str, *content: Any) -> Any:
        answer = ask(method, *content)
        if isinstance(answer, JhpoError):
            raise answer
        return answer

    return dataclasses.replace(
        trial,
        reporting=Reports(
            lambda report: asked("report", report), lambda _: asked("should_stop"), lambda notes: asked("note", notes)
        ),
    )


def answered(task: Task, method: str, content: tuple[Any, ...], again: bool = False) -> Any:
    """What a method of `Reports` returns here, for the worker that called it; an error is raised there.

    Args:
        task: the evaluation.
        method: "report", "should_stop" or "note".
        content: its arguments.
        again: the evaluation was begun again, so that what it reported before comes once more: it is kept once.
    """
    assert task.trial is not None and task.trial.reporting is not None
    reports = task.trial.reporting
    if again and method == "report" and reports.last is not None and content[0].step <= reports.last.step:
        return None
    try:
        return getattr(reports, method)(*content)
    except JhpoError as error:
        return error


def _pruned(reports: Reports | None) -> Outcome:
    last = None if reports is None else reports.last
    return stopped_early(float("nan") if last is None else last.value)


def _measured(metric: str, value: object) -> object:
    """The result with a pair (outputs, targets), alone or as the "value" of a dict, replaced by its metric."""
    if isinstance(value, dict) and "value" in value:
        return {**value, "value": _measured(metric, value["value"])}
    if not isinstance(value, (tuple, list)):
        return value
    if len(value) != 2:
        raise invalid("objective", f"a pair (outputs, targets) for {metric!r}, or a number", f"{len(value)} values")
    return measure(metric, *value)
