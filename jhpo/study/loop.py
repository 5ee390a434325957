"""`Study.optimize`: evaluate, store, continue, until a stop rule holds."""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.errors import SpaceExhausted, check_integer, invalid
from jhpo.evaluation.evaluators import make_evaluator
from jhpo.evaluation.executors import HostObjective
from jhpo.evaluation.executors.host import check_request
from jhpo.kernels.internals import COMPILING
from jhpo.search.stopping import Progress, StopRules
from jhpo.study.batch import evaluate_generation, evaluate_waiting, give_back, stored_layout
from jhpo.study.book import Book
from jhpo.training.metrics import check_direction
from jhpo.trial import Trial

_POLL_SECONDS = 0.05
_PATIENT_SECONDS = 60.0  # of waiting for other workers without a word

# Seconds this process spent tracing and compiling, by JAX's own account.
_compile_seconds = 0.0
_compile_spans: deque[tuple[float, float]] = deque(maxlen=256)  # counted ones, in order, none inside another
_compile_lock = threading.Lock()


def _count_compilation(event: str, duration_secs: float, **_: Any) -> None:
    """Add a span that ends now; a function traced inside another one is told of first, and counts once."""
    global _compile_seconds
    if not event.startswith(COMPILING):
        return
    with _compile_lock:
        end = time.perf_counter()
        begin = end - duration_secs
        while _compile_spans and _compile_spans[-1][1] > begin:
            inner = _compile_spans.pop()
            begin = min(begin, inner[0])
            _compile_seconds -= inner[1] - inner[0]
        _compile_spans.append((begin, end))
        _compile_seconds += end - begin


jax.monitoring.register_event_duration_secs_listener(_count_compilation)


class Update(NamedTuple):
    """What a callback hears after every generation (or every batch of host results)."""

    evaluations: int  # finished in the whole study
    new: int  # finished in this call
    best: float  # in the study's direction; NaN before the first success
    generation: int
    seconds: float
    compile_seconds: float


class Summary(NamedTuple):
    """How a call of `optimize` went."""

    stopped: str  # the sentence that says why
    evaluations: int  # finished in this call
    seconds: float
    compile_seconds: float  # the part of it spent tracing and compiling


class Meter:
    """Progress of one call: what the stop rules and the callback look at."""

    def __init__(self, study: Book, rules: StopRules, callback: Callable[[Update], None] | None) -> None:
        self._study, self._rules, self._callback = study, rules, callback
        self._start, self._compiled = time.perf_counter(), _compile_seconds
        self._waiting_since: float | None = None
        self._said = False
        self._before = self._done = study.evaluations
        table = study.history.table
        ids = table.successes()
        values = study.sign * table.value.array[ids]
        best = np.full(study.history.opened + 1, np.inf)
        np.minimum.at(best, table.generation.array[ids], values)  # foreign trials (-1) fall in the last place
        best = np.minimum(np.minimum.accumulate(best[:-1]), best[-1])
        bests = [float(b) if np.isfinite(b) else np.nan for b in best]
        # patience begins where members are trained to the end
        short = table.generation.array[table.horizon.array < 1.0]
        self.bests = bests[1 + short.max() :] if len(short) else bests

    def best(self) -> float:
        """Lowest value of whole trainings in the sense of a minimisation, NaN if there is none."""
        with self._study.ledger.lock:
            return self._best()

    def _best(self) -> float:
        table = self._study.history.table
        ids = table.successes()
        if not len(ids) or table.horizon.array[ids[0]] < 1.0:
            return np.nan
        return float((self._study.sign * table.value.array[ids]).min())

    def check(self, ended: bool = True) -> str | None:
        """After a batch of results (`ended`: it completed a generation): report it, and say whether to stop."""
        best, history = self.best(), self._study.history
        self._done = self._study.evaluations
        seconds = time.perf_counter() - self._start
        if ended and history.horizon == 1.0:
            self.bests.append(best)
        if self._callback is not None:
            spent = _compile_seconds - self._compiled
            shown = self._study.sign * best
            new = self._done - self._before
            self._callback(Update(self._done, new, shown, history.opened, seconds, spent))
        return self._rules.check(Progress(self._done, history.opened, seconds, best, self.bests))

    def check_time(self) -> str | None:
        """While nothing finishes: only the clock can end the search."""
        seconds = time.perf_counter() - self._start
        return self._rules.check(Progress(self._done, self._study.history.opened, seconds, np.nan, []))

    def first_check(self) -> str | None:
        """Before anything runs: a resumed study may have nothing left to do."""
        best = self.bests[-1] if self.bests else np.nan
        return self._rules.check(Progress(self._done, self._study.history.opened, 0.0, best, self.bests))

    def left(self, mine: Collection[int] = ()) -> int | None:
        """Evaluations the budget still allows beside those in flight elsewhere; `mine` are in flight here."""
        if self._rules.evaluations is None:
            return None
        return self._rules.evaluations - self._study.evaluations - self._study.ledger.others(mine)

    def waits(self) -> bool:
        """The rest of the budget is in flight with other workers."""
        left = self.left()
        return left is not None and left < 1

    def wait(self) -> str | None:
        """Let others work; what ends the search meanwhile."""
        now = time.monotonic()
        if self._waiting_since is None or self._study.evaluations != self._done:
            self._waiting_since = now
        if not self._said and now - self._waiting_since > _PATIENT_SECONDS:
            self._said = True
            warnings.warn(
                f"waiting for {self._study.ledger.others()} trials that other workers hold; "
                "study.requeue() gives back those that nobody will tell any more",
                stacklevel=4,
            )
        time.sleep(_POLL_SECONDS)
        self._study.refresh()
        return self.check(False) if self._study.evaluations != self._done else self.check_time()

    def summary(self, stopped: str) -> Summary:
        """The call's figures."""
        seconds = time.perf_counter() - self._start
        return Summary(stopped, self._done - self._before, seconds, _compile_seconds - self._compiled)


def optimize(
    study: Book,
    objective: Any,
    budget: int | None = None,
    *,
    generations: int | None = None,
    seconds: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    metric: str | None = None,
    chunk: int | None = None,
    devices: Any = None,
    callback: Callable[[Update], None] | None = None,
) -> Summary:
    """Evaluate until a stop rule holds; each result is stored before the next generation begins.

    Args:
        objective: a trainable, a JAX function ``objective(hp)`` or ``objective(hp, key)``, or a `jhpo.host`
            function.
        budget: finished trials of the whole study, those of earlier calls included: a study that was stopped is
            continued by the same call. Never exceeded.
        generations, seconds, target, patience, tolerance: further stop rules, see `jhpo.StopRules`; generations
            count over the whole study, seconds for this call.
        metric: name of the value if the evaluation returns a dict; its direction has to be the study's, where known.
        chunk: members evaluated at once; by default as measured when the study began.
        devices: JAX devices to spread over; all local ones by default.
        callback: called with an `Update` after each generation.

    Returns:
        A `Summary` with the reason for the end.

    Raises:
        InvalidArgument: no stop rule at all, or an argument that cannot work.
        KeyboardInterrupt: Ctrl-C; everything finished is stored, the same call goes on from there.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}), "random")
    >>> study.optimize(lambda hp: hp["x"] ** 2, budget=128).stopped
    'evaluations: 128 of 128 done'
    """
    if all(rule is None for rule in (budget, generations, seconds, target, patience, tolerance)):
        raise invalid("budget", "a number of evaluations, or another stop rule", None)
    if budget is not None:
        check_integer("budget", budget)
    check_direction(objective, metric, study.direction)
    lowest = None if target is None else study.sign * target
    rules = StopRules(budget, generations, seconds, lowest, patience, tolerance)
    meter = Meter(study, rules, callback)
    stopped = meter.first_check()
    if stopped is not None:
        return meter.summary(stopped)
    try:
        if isinstance(objective, HostObjective):
            objective = objective if metric is None else objective.with_metric(metric)
            stopped = _on_host(study, objective, meter)
        else:
            study.warn_of_precision()
            layout = stored_layout(study, chunk, devices)
            evaluator = make_evaluator(objective, study.space, replicates=study.replicates, metric=metric, **layout)
            stopped = _on_devices(study, evaluator, meter)
    except SpaceExhausted as error:
        stopped = f"exhausted: {error}"
    except KeyboardInterrupt:
        _finish(study, meter, "interrupted")
        raise
    return _finish(study, meter, stopped)


def _finish(study: Book, meter: Meter, stopped: str) -> Summary:
    summary = meter.summary(stopped)
    with study.ledger.transaction() as append:
        append("stop", {**summary._asdict(), "time": time.time()})
    study.checkpoint()
    return summary


def _on_devices(study: Book, evaluator: Any, meter: Meter) -> str:
    while True:
        with study.ledger.turns:
            waited = evaluate_waiting(study, evaluator, meter.left)
            ended = False if waited else evaluate_generation(study, evaluator, meter.left)
        stopped = meter.check(ended)
        if stopped is None and meter.waits():
            stopped = meter.wait()
        if stopped is not None:
            return stopped


def _on_host(study: Book, objective: HostObjective, meter: Meter) -> str:
    """Keep the workers busy; results are stored as they come."""
    if study.replicates != 1:
        raise invalid("replicates", "1 with a host objective", study.replicates)
    pool = objective.pool(study.space)
    running: dict[Any, Trial] = {}
    try:
        while True:
            _submit(study, objective, pool, running, meter)
            if not running:
                if not (meter.waits() or study.ledger.others()):
                    raise SpaceExhausted("the search has no point left to evaluate")
                stopped = meter.wait()
                if stopped is not None:
                    return stopped
                continue
            next(iter(running)).wait(_POLL_SECONDS)
            done = [task for task in running if task.done()]
            if not done:
                stopped = meter.check_time()
                if stopped is not None:
                    return stopped
                continue
            trials = [running.pop(task) for task in done]
            study.tell_outcomes(trials, [task.result() for task in done])
            history = study.history
            ended = not running and history.handed == len(history.members)
            stopped = meter.check(ended)
            if stopped is not None:
                return stopped
    finally:
        pool.close()
        if running:
            # what was cut off goes back to the queue; a resumed study begins with it
            give_back(study, {trial.id: trial.attempt for trial in running.values()})


def _submit(study: Book, objective: HostObjective, pool: Any, running: dict[Any, Trial], meter: Meter) -> None:
    """Hand out more work: a steady strategy fills every free worker, another one waits for its generation."""
    room = pool.workers - len(running) if study.strategy.steady else (0 if running else study.strategy.population)
    if room < 1:
        return
    mine = [trial.id for trial in running.values()]

    def allowed() -> int:
        left = meter.left(mine)
        return room if left is None else left - len(mine)

    try:
        trials = study.take(room, allowed, attended=True)
    except SpaceExhausted:
        if not running and not study.ledger.others(mine):
            raise
        return
    check_request(study.ledger.searcher().request)
    for trial in trials:
        running[pool.submit(trial.params, trial.seed)] = trial
