"""`Study.optimize`: evaluate, store, continue, until a stop rule holds."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from jhpo.curves.rules import EarlyStop
from jhpo.errors import NothingFound, SpaceExhausted, check_integer, invalid, warn_caller
from jhpo.evaluation.evaluators import Evaluator, Objective, in_use, make_evaluator
from jhpo.evaluation.executors import HostObjective
from jhpo.evaluation.executors.host import check_reports
from jhpo.process.interrupts import interruptible
from jhpo.programs.devices import Devices, check_clock
from jhpo.report.spent import compiled_meanwhile
from jhpo.search.compiling import compile_spans
from jhpo.search.evaluator import SearchEvaluator
from jhpo.search.meter import Callback, Summary
from jhpo.search.stopping import StopRule, StopRules, check_rules, own_rules
from jhpo.strategies.early_stop import rule_of
from jhpo.study import events
from jhpo.study.batch import (
    evaluate_block,
    evaluate_generation,
    evaluate_waiting,
    search_evaluator,
)
from jhpo.study.book import Book
from jhpo.study.hosted import on_host
from jhpo.study.layout import stored_layout
from jhpo.study.referee import Referee
from jhpo.study.rungs import Rungs
from jhpo.study.thaws import Thaws
from jhpo.study.watch import Watch
from jhpo.training.metrics import check_direction, check_directions
from jhpo.words.advice import advised


@interruptible()
@advised
def optimize(
    study: Book,
    objective: Objective,
    budget: int | None = None,
    *,
    generations: int | None = None,
    seconds: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    stop: StopRule | Sequence[StopRule] | None = None,
    metric: str | None = None,
    chunk: int | str | None = None,
    devices: Devices | None = None,
    callback: Callback | None = None,
    early_stop: EarlyStop | str | None = None,
) -> Summary:
    """Evaluate until a stop rule holds; each result is stored before the next generation begins.

    Args:
        objective: a trainable, a JAX function ``objective(hp)`` or ``objective(hp, key)``, or a `jhpo.host`
            function.
        budget: finished trials of the whole study, those of earlier calls included: a study that was stopped is
            continued by the same call. Never exceeded.
        generations, seconds, target, patience, tolerance: further stop rules, see `jhpo.StopRules`; generations
            count over the whole study, seconds for this call. What a `jhpo.host` function still evaluates then
            does not count, and returns to the queue.
        stop: a rule of your own, or several, see `jhpo.minimize`.
        metric: name of the value if the evaluation returns a dict; its direction has to be the study's, where known.
            Several objectives have the names in the study's ``directions``.
        chunk: members evaluated at once; by default as measured when the study began.
        devices: JAX devices to spread over; all local ones by default. `jhpo.RayActors` are actors on a Ray cluster.
        callback: called with an `Update` after each generation, or with (evaluations, best) if it takes two arguments;
            several in a list (see `jhpo.interop.loggers`).
        early_stop: a rule that stops trials early, such as `jhpo.MedianStopping`. They are PRUNED, count towards the
            budget, are never the best, and the strategy learns the last value that they had. The objective has to have
            intermediate values: a trainable, whose survivors are compacted and trained on, or a `jhpo.host` function
            that reports them, ``fn(params, trial)``.

    Returns:
        A `Summary` with the reason for the end.

    Raises:
        InvalidArgument: no stop rule, or an invalid argument.
        KeyboardInterrupt: Ctrl-C; everything finished is stored, and the same call continues from there.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}), "random")
    >>> study.optimize(lambda hp: hp["x"] ** 2, budget=128).stopped
    'evaluations: 128 of 128 done'
    """
    if all(rule is None for rule in (budget, generations, seconds, target, patience, tolerance, stop)):
        raise invalid("budget", "a number of evaluations, or another stop rule", None)
    if budget is not None:
        check_integer("budget", budget)
    check_clock(seconds, devices)
    objectives = study.objectives
    if objectives is None:
        check_direction(objective, metric, study.direction)
    else:
        check_directions(objective, objectives)
        check_rules(objectives, target, patience, tolerance)
    rule = rule_of(study.strategy, early_stop, objectives)
    if rule is not None and isinstance(objective, HostObjective):
        check_reports(objective, type(rule).__name__)
    rules = StopRules(budget, generations, seconds, target, patience, tolerance, own_rules(stop)).turned(study.sign)
    watch, stored = Watch(study, rules, callback), study.ledger.storing.copy()
    continued: Thaws | Rungs | None = None
    if study.strategy.continues:
        study.refresh()
        evaluator = _evaluator(study, objective, None, metric, chunk, devices)
        continued = Thaws(study, evaluator, budget) if study.strategy.thaws else Rungs(study, evaluator)
    paused = continued is not None and (isinstance(continued, Thaws) or continued.paused)
    stopped = watch.first_check(paused=paused)
    if stopped is not None:
        _warn_of_nothing(study, objective)
        return watch.summary(stopped)
    try:
        if not isinstance(objective, HostObjective):
            study.warn_of_precision()
        if isinstance(continued, Thaws):
            stopped = _on_thaws(study, continued, watch)
        elif isinstance(continued, Rungs):
            stopped = _on_rungs(study, continued, watch)
        elif isinstance(objective, HostObjective):
            objective = objective if metric is None else objective.with_metric(metric)
            objective = objective if objectives is None else objective.for_objectives(objectives)
            stopped = on_host(study, objective, watch, Referee(study.ledger, rule))
        else:
            evaluator = _evaluator(study, objective, rule, metric, chunk, devices)
            study.ledger.measures(evaluator.described.constraints)
            with in_use(evaluator):
                stopped = _on_devices(study, search_evaluator(study, evaluator), watch)
    except SpaceExhausted as error:
        stopped = f"exhausted: {error}"
    except KeyboardInterrupt:
        _finish(study, watch, "interrupted", stored)
        raise
    summary = _finish(study, watch, stopped, stored)
    _warn_of_nothing(study, objective)
    return summary


def _warn_of_nothing(study: Book, objective: Objective) -> None:
    """Warn where trials have finished, and none of them is a success."""
    if study.evaluations and not len(study.history.table.successes()):
        wanted = "best" if study.objectives is None else "front"
        warn_caller(study.trials.why_nothing(wanted, isinstance(objective, HostObjective)), NothingFound)


def _evaluator(
    study: Book,
    objective: Objective,
    rule: EarlyStop | None,
    metric: str | None,
    chunk: int | str | None,
    devices: Devices | None,
) -> Evaluator:
    """What evaluates the objective in the layout of the study."""
    return make_evaluator(
        objective, study.space,
        replicates=study.replicates, folds=study.folds, fold_by_fold=study.fold_by_fold,
        metric=metric, objectives=study.objectives,
        **stored_layout(study, chunk, devices),
        early_stop=rule, sign=study.sign, past=lambda: study.history.table.reports,
    )  # fmt: skip


def _finish(study: Book, watch: Watch, stopped: str, stored: np.ndarray) -> Summary:
    summary, (idle, running) = watch.summary(stopped), (study.ledger.storing - stored).tolist()
    now = time.time()
    with study.ledger.transaction() as append:
        meanwhile = compiled_meanwhile(study.history.table, compile_spans(), now - summary.seconds, now)
        append(events.Stop(*summary, now, meanwhile, store_seconds=idle + running, store_running=running))
    study.checkpoint()
    return summary


def _on_devices(study: Book, evaluator: SearchEvaluator, watch: Watch) -> str:
    while True:
        with study.ledger.turns:
            waited = evaluate_waiting(study, evaluator, watch.left)
            cut = None if waited else evaluate_block(study, evaluator, watch)
            ended = not (waited or cut is not None) and evaluate_generation(study, evaluator, watch.left)
        stopped = watch.check(ended) if cut is None else watch.check_cut(cut)
        if stopped is None and watch.waits():
            stopped = watch.wait()
        if stopped is not None:
            return stopped


def _on_rungs(study: Book, rungs: Rungs, watch: Watch) -> str:
    """Train one rung after the other; what waits in the queue is trained to its end in between."""
    queue = search_evaluator(study, rungs.population)
    while True:
        with study.ledger.turns:
            waited = evaluate_waiting(study, queue, watch.left)
            ended = not waited and rungs.train(watch.left)
        watch.steps = rungs.members.steps
        paused = rungs.paused
        stopped = watch.check(ended, paused)
        if stopped is None and not paused and watch.waits():
            stopped = watch.wait()
        if stopped is not None:
            return stopped


def _on_thaws(study: Book, thaws: Thaws, watch: Watch) -> str:
    """Train on what the strategy thaws; what waits in the queue is trained to its end in between."""
    queue = search_evaluator(study, thaws.pool.population)
    while True:
        with study.ledger.turns:
            study.refresh()
            stopped = thaws.stopped
            # what was enqueued does not count towards the effort of the members
            waited = evaluate_waiting(study, queue, (lambda: None) if stopped is None else watch.left)
            if stopped is not None and not waited:
                return stopped
            before = study.history.opened
            trained = not waited and thaws.train()
        if not (waited or trained) and study.history.opened == before:
            return thaws.nothing_left
        watch.steps = thaws.pool.steps
        stopped = watch.check(trained, paused=True)
        if stopped is not None:
            return stopped
