"""`run`: an Optuna objective, unchanged, with a strategy of jhpo and in a jhpo study."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jhpo.curves.reports import Reports
from jhpo.curves.rules import EarlyStop, check_early_stop
from jhpo.curves.table import Report
from jhpo.errors import InvalidSpace, StorageError, TrialPruned, check_integer
from jhpo.evaluation.executors import host
from jhpo.evaluation.outcome import Outcome, failure, judge, stopped_early
from jhpo.interop.define_by_run import Asked, no_suggestions, traced_space
from jhpo.interop.distributions import Distribution, optuna
from jhpo.interop.suggesting import SuggestingTrial
from jhpo.interop.values_only import values_only
from jhpo.keys import SEEDS
from jhpo.objectives import Directions, Objectives, read_directions
from jhpo.search.meter import Callback, Update, as_listener
from jhpo.space.space import Space
from jhpo.storage import open_log
from jhpo.strategies.base import Strategy
from jhpo.strategies.usual import FEW
from jhpo.study.study import Study
from jhpo.trial import Trial, TrialState
from jhpo.values.notes import Notes, read_notes
from jhpo.values.pytrees import HP
from jhpo.words.advice import advised


@advised
def run(
    objective: Callable[[Any], Any],
    budget: int,
    strategy: Strategy | str | None = None,
    *,
    space: Space | None = None,
    trace: int = 8,
    direction: str = "minimize",
    directions: Directions | None = None,
    seed: int = 0,
    storage: str | os.PathLike[str] | None = None,
    resume: bool = False,
    workers: int = 1,
    timeout: float | None = None,
    seconds: float | None = None,
    target: float | None = None,
    early_stop: EarlyStop | str | None = None,
    callback: Callback | None = None,
) -> Study:
    """Run an Optuna objective, as it is, with a strategy of jhpo.

    The objective gets a trial with ``suggest_float``, ``suggest_int``, ``suggest_categorical``, ``report``,
    ``should_prune``, ``set_constraint``, ``set_user_attr`` and ``number``. The space is read from its first calls,
    which get random values: a parameter that only some of them asked for gets a condition on an earlier choice or
    integer that explains it. If a later call asks for something new, the space is read again from all calls so far, and
    the strategy begins anew with their results. A stored study cannot change its space: there it is an error, which
    says what was asked. User attributes are the trials' notes (`jhpo.Trial.note`); one that is not plain is kept while
    its call runs, with a warning.

    Args:
        objective: an Optuna objective. ``optuna.TrialPruned`` ends a trial early; any other exception makes it a
            failure with its reason, and the search goes on.
        budget: number of trials, the first calls included.
        strategy: an instance or a registered name; by default the stored one, or `BayesOpt`, or `NSGA2` for
            several objectives and more than 200 trials.
        space: the space, if it is to be given rather than read; no call is then random.
        trace: number of first calls.
        direction, directions, seed, storage, resume: as for `jhpo.Study`. A stored study that is resumed has its space.
        workers: calls that run at once, in threads.
        timeout: seconds for one call.
        seconds, target, early_stop, callback: as for `Study.optimize`; without ``early_stop``, ``should_prune()`` is
            False unless the strategy itself stops trials.

    Returns:
        The study, with the first calls as its first trials. `to_optuna` makes an Optuna study of it.

    Raises:
        InvalidSpace: no call suggested anything, a parameter whose distribution changes, or a stored study whose space
            does not hold what a call asked for.
        InvalidArgument: an invalid argument.

    >>> def objective(trial):
    ...     kind = trial.suggest_categorical("kind", ["line", "parabola"])
    ...     x = trial.suggest_float("x", -1.0, 1.0)
    ...     return x if kind == "line" else x**2 + trial.suggest_float("shift", 0.0, 1.0)
    >>> study = run(objective, 40, "pso(population=8)")
    >>> study.space.parameters[study.space.names.index("shift")].when
    (('kind', ('parabola',)),)
    """
    check_integer("budget", budget)
    check_integer("trace", trace)
    check_integer("seed", seed, 0, SEEDS - 1)
    early_stop, objectives = check_early_stop(early_stop), read_directions(directions, direction)
    if strategy is None and not resume:
        strategy = "bayes" if objectives is None or budget <= FEW else "nsga2"
    strategy = None if strategy is None else values_only(strategy)
    caller = _Caller(objective, objectives, fixed=space is not None or storage is not None)

    calls: list[Finished] = []  # of earlier studies, the first trials of this one

    def begin(space: Space) -> Study:
        named = {"direction": direction} if directions is None else {"directions": directions}
        return Study(space, strategy, storage, seed, resume=resume, **named)

    if space is not None:
        study = begin(space)
    elif storage is not None and _holds_study(storage, resume):
        with Study.load(storage, strategy=strategy) as stored:
            space = stored.space
        study = begin(space)  # which compares the other arguments with the stored ones
    else:
        calls = caller.first_calls(min(trace, budget), seed, workers, timeout)
        study = begin(traced_space([call.asked for call in calls]))
        replay(study, calls)
    begun = time.monotonic()
    while True:
        caller.follow(study, calls)
        left = None if seconds is None else max(seconds - (time.monotonic() - begun), 1e-3)
        made, listener = host(caller.call, workers, timeout=timeout), caller.listener(callback)
        try:
            study.optimize(made, budget, seconds=left, target=target, early_stop=early_stop, callback=listener)
        except _SpaceChanged:
            calls = caller.finished(study)
            study = begin(traced_space([call.asked for call in calls]))
            replay(study, calls)
        else:
            return study


def _holds_study(storage: str | os.PathLike[str], resume: bool) -> bool:
    """Whether there is a study to resume; what is wrong with the storage is said before the first call."""
    log = open_log(storage, create=True)
    try:
        found = bool(log.read())
    finally:
        log.close()
    if found and not resume:
        raise StorageError(f"{log.url} holds a study already: continue it (resume=True), or name another file")
    return found


class Finished(NamedTuple):
    """A call that has ended."""

    asked: Asked
    outcome: Outcome
    reports: Sequence[Report]
    notes: Mapping[str, Any]


def replay(study: Study, calls: Sequence[Finished]) -> None:
    """Makes calls that have ended the first trials of a study."""
    for call in calls:
        study.enqueue(dict(call.asked.values))
        (trial,) = study.ask(1)
        for report in call.reports:
            trial.report(report.step, report.value)
        if call.notes:
            trial.note(call.notes)
        study.tell_outcomes([trial], [call.outcome])


class _SpaceChanged(Exception):
    """A call asked for something that the space does not hold."""


class _Caller:
    """Calls the objective, and remembers what its calls asked for.

    Args:
        objective: of the user.
        objectives: several ones, or None.
        fixed: whether the space cannot change.
    """

    def __init__(self, objective: Callable[[Any], Any], objectives: Objectives | None, fixed: bool) -> None:
        self._objective, self._objectives, self._fixed = objective, objectives, fixed
        self._known: dict[str, Distribution] = {}
        self._space: Space | None = None  # None during the first calls
        self._heard: dict[int, tuple[Asked, Any]] = {}  # what a trial asked for and returned, by its id
        self._past: Sequence[Finished] = ()  # the study's first trials, which were called before it began
        self._error: Exception | None = None

    def first_calls(self, count: int, seed: int, workers: int, timeout: float | None) -> list[Finished]:
        """Calls with random values, from which the space is read."""
        made = host(self.call, workers, timeout=timeout)
        pool = (made if self._objectives is None else made.for_objectives(self._objectives)).pool()
        seeds = np.random.SeedSequence(seed).generate_state(count, np.uint64).tolist()
        reports: list[list[Report]] = [[] for _ in seeds]
        notes: list[Notes] = [{} for _ in seeds]
        try:
            tasks = [pool.submit({}, s, _recording(k, s, reports[k], notes[k])) for k, s in enumerate(seeds)]
            outcomes = [task.result() for task in tasks]
        finally:
            pool.close()
        if self._error is not None:
            raise self._error
        if not any(asked.values for asked, _ in self._heard.values()):
            got = next((o.reason for o in outcomes if o.reason), "none")
            raise no_suggestions(got)
        return [Finished(self._heard[k][0], outcomes[k], reports[k], read_notes(notes[k])) for k in sorted(self._heard)]

    def follow(self, study: Study, past: Sequence[Finished]) -> None:
        """Begin to call for the trials of a study, the first of which are calls that have ended."""
        # a new dict: a call that ran out of time may still go on, and is none of this study
        self._space, self._error, self._heard, self._past = study.space, None, {}, past

    def call(self, params: HP, trial: Trial) -> Any:
        """Call the objective for a trial."""
        point: Mapping[str, Any] = {} if self._space is None else self._space.flat(params)
        fixed, heard = self._fixed and self._space is not None, self._heard
        suggesting, value, whole = SuggestingTrial(trial, point, self._known, fixed), None, False
        try:
            value, whole = suggesting.measured(self._objective(suggesting)), True
            return value
        except optuna.TrialPruned as error:
            raise TrialPruned(str(error)) from error
        except InvalidSpace as error:
            self._error = error
            raise
        finally:
            heard[trial.id] = suggesting.asked._replace(whole=whole), value
            if suggesting.surprised and self._space is not None:
                self._error = self._error or _SpaceChanged()

    def listener(self, callback: Callback | None) -> Callable[[Update], object]:
        """The user's callback, and the end of a search whose space has changed."""
        theirs = as_listener(callback)

        def hear(update: Update) -> None:
            if theirs is not None:
                theirs(update)
            if self._error is not None:
                raise self._error

        return hear

    def finished(self, study: Study) -> list[Finished]:
        """The finished trials of a study as calls."""
        calls = list(self._past)
        for trial in (study[number] for number in range(len(calls), len(study))):
            if trial.status in (TrialState.WAITING, TrialState.RUNNING) or trial.id not in self._heard:
                continue
            asked, value = self._heard[trial.id]
            if trial.status is TrialState.COMPLETE:
                outcome = judge(value, self._objectives)
            elif trial.status is TrialState.PRUNED:
                outcome = stopped_early(trial.value)
            else:
                outcome = failure(trial.reason)
            reports = [Report(*point) for point in trial.curve.items()]
            calls.append(Finished(asked, outcome, reports, trial.notes))
        return calls


def _recording(number: int, seed: int, reports: list[Report], notes: Notes) -> Trial:
    """A trial of no study, whose reports are appended to a list, and its notes kept; it is never stopped."""
    takes = Reports(reports.append, lambda since: False, notes.update)
    return Trial(number, {}, TrialState.RUNNING, float("nan"), "", -1, 0, seed, 1.0, np.zeros(0), reporting=takes)
