"""`minimize` and `maximize`: a search in memory, driven by the host, with stop rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jhpo.curves.rules import EarlyStop
from jhpo.evaluation.evaluators import Objective
from jhpo.objectives import Directions
from jhpo.programs.devices import Devices
from jhpo.search.keep import Keep
from jhpo.search.kinds import search
from jhpo.search.meter import Callback
from jhpo.search.options import Options
from jhpo.search.result import Result
from jhpo.search.stopping import StopRule
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy
from jhpo.words.advice import advised


@advised
def minimize(
    objective: Objective,
    space: Space,
    strategy: Strategy | str | None = None,
    budget: int = 1024,
    *,
    key: jax.Array | None = None,
    seed: int = 0,
    replicates: int = 1,
    folds: int = 1,
    fold_by_fold: bool = False,
    metric: str | None = None,
    chunk: int | str | None = None,
    devices: Devices | None = None,
    generations: int | None = None,
    seconds: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    stop: StopRule | Sequence[StopRule] | None = None,
    callback: Callback | None = None,
    start: Sequence[Any] | dict[str, Any] | None = None,
    keep: Keep = "all",
    directions: Directions | None = None,
    early_stop: EarlyStop | str | None = None,
) -> Result:
    """Search for the hyperparameters with the lowest value, or for the Pareto front of several values.

    Args:
      objective: a trainable, a function ``objective(hp)`` or ``objective(hp, key)``, or a `jhpo.host` objective.
      space: the space to search.
      strategy: a strategy or its name, perhaps with options: ``"pso(population=16)"``. By default `BayesOpt` up to 200
        evaluations, in batches of up to eight where they run side by side; a small swarm below 500, then `PSO()`.
      budget: number of evaluations, never exceeded.
      key: root key ``key[]``; None to derive it from ``seed``.
      seed: an integer in [0, 2^32).
      replicates: evaluations of every member with different keys; the value is their mean.
      folds: train and measure every member on each of so many parts of the data, all in one program; the value is their
        mean, and the strategy sees its variance. For `supervised` tasks without ``valid``, see docs/crossvalidation.md.
      fold_by_fold: train one fold after the other, so that ``early_stop`` ("racing") or a strategy that pauses members
        (`SuccessiveHalving`, `Hyperband`) stops members after some of the folds: a step is then a fold.
      metric: name of the value if the evaluation returns a dict. A score (accuracy, F1, ...) needs `maximize`.
      chunk: members evaluated at once; chosen from their size if None.
      devices: JAX devices to use; all local ones by default. `jhpo.RayActors` spread the members over a Ray cluster.
      generations, seconds, target, patience, tolerance: further stop rules, see `StopRules`. What a
        `jhpo.host` function still evaluates after ``seconds`` does not count.
      stop: a rule of your own, or several: ``stop(progress)`` returns None, or a sentence that says why to stop, which
        becomes ``stopped``. `progress` has ``evaluations``, ``generations``, ``seconds``, ``best`` and ``bests`` (after
        each generation); it is asked after each.
      callback: called with an `Update` after each generation (evaluations, best, seconds, ...), or with (evaluations,
        best) if it takes two arguments; several in a list. It does not end the search, ``stop`` does: returning
        True is a warning.
      start: points to evaluate first and to tell the strategy: dicts with all or some of the host values
        (``{"lr": 0.1}``); the strategy chooses the others. They count towards the budget.
      keep: "all" keeps every trial; "values" keeps every value, but only the best trial's hyperparameters; "best" keeps
        the best trial of each generation, so that memory does not grow with the number of evaluations.
      directions: for several objectives: ``["minimize", "maximize"]`` if the objective returns a tuple or a dict of as
        many values, or ``{"error": "minimize", "params": "minimize"}`` if it returns a dict with these and possibly
        other values. The strategy has to support several objectives (by default `BayesOpt` up to 200
        evaluations, then `NSGA2`); see `Result.pareto`.
      early_stop: a rule that stops trials early by their intermediate values, such as `jhpo.MedianStopping()`: for a
        trainable, whose survivors are compacted into smaller programs and trained on, or a `jhpo.host` function that
        reports, ``fn(params, trial)``. Trials that are stopped count towards the budget, are never the best
        (``history.pruned``), and the strategy learns the last value that they had.

    An objective that measures constraints returns ``{"value": ..., "constraint": [...]}`` with numbers that are >= 0
    if the trial is feasible.

    If generations of a plain function are cheap, many of them run in one program, for up to a quarter of a second. That
    does not change the results; the callback is called for each generation afterwards.

    With a `jhpo.host` objective the stop rules are asked, and callbacks called, whenever results come; what still runs
    when a rule holds does not count. A strategy that asks for fewer points than there are workers, as `BayesOpt` does,
    is asked whenever one is free, if it can be: what it asks for then depends on the order in which results come.

    After Ctrl-C there is no result: ``jhpo.Study(space, storage="study.db").optimize(...)`` keeps what has finished.

    Returns:
      A `Result`.

    Raises:
      InvalidArgument: an invalid argument, before anything is compiled.
      InvalidParameters: a starting point outside the space.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-2.0, 2.0), "kind": jhpo.Choice(["bad", "good"])})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + (hp["kind"] == 0)
    >>> result = jhpo.minimize(f, space, jhpo.PSO(32), budget=1024)
    >>> result.best["kind"], round(result.best["x"], 2), result.stopped
    ('good', 1.0, 'evaluations: 1024 of 1024 done')
    """
    options = Options(
        budget=budget, key=key, seed=seed, replicates=replicates, folds=folds, fold_by_fold=fold_by_fold,
        metric=metric, chunk=chunk, devices=devices, generations=generations, seconds=seconds, target=target,
        patience=patience, tolerance=tolerance, stop=stop, callback=callback, start=start, keep=keep,
        directions=directions, early_stop=early_stop,
    )  # fmt: skip
    return search(objective, space, strategy, "minimize", options)


@advised
def maximize(
    objective: Objective,
    space: Space,
    strategy: Strategy | str | None = None,
    budget: int = 1024,
    *,
    key: jax.Array | None = None,
    seed: int = 0,
    replicates: int = 1,
    folds: int = 1,
    fold_by_fold: bool = False,
    metric: str | None = None,
    chunk: int | str | None = None,
    devices: Devices | None = None,
    generations: int | None = None,
    seconds: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    stop: StopRule | Sequence[StopRule] | None = None,
    callback: Callback | None = None,
    start: Sequence[Any] | dict[str, Any] | None = None,
    keep: Keep = "all",
    early_stop: EarlyStop | str | None = None,
) -> Result:
    """Search for the hyperparameters with the highest value.

    Arguments and errors are those of `minimize`; values, ``target`` and the result keep the sign of the objective.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 2.0)})
    >>> bool(jhpo.maximize(lambda hp: -(hp["x"] - 1.0) ** 2, space, jhpo.PSO(16), budget=320).value > -1e-4)
    True
    """
    options = Options(
        budget=budget, key=key, seed=seed, replicates=replicates, folds=folds, fold_by_fold=fold_by_fold,
        metric=metric, chunk=chunk, devices=devices, generations=generations, seconds=seconds, target=target,
        patience=patience, tolerance=tolerance, stop=stop, callback=callback, start=start, keep=keep,
        early_stop=early_stop,
    )  # fmt: skip
    return search(objective, space, strategy, "maximize", options)
