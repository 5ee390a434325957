"""`minimize` and `maximize`: a search in memory, on the host, with stop rules; the shortest way to use jhpo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jhpo.evaluation.evaluators import Objective
from jhpo.objectives import Directions
from jhpo.search.keep import Keep
from jhpo.search.memory import search
from jhpo.search.meter import Callback
from jhpo.search.options import Options
from jhpo.search.result import Result
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy


def minimize(
    objective: Objective,
    space: Space,
    strategy: Strategy | None = None,
    budget: int = 1024,
    *,
    key: jax.Array | None = None,
    seed: int = 0,
    replicates: int = 1,
    metric: str | None = None,
    chunk: int | str | None = None,
    devices: Sequence[jax.Device] | None = None,
    generations: int | None = None,
    seconds: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    callback: Callback | None = None,
    start: Sequence[Any] | dict[str, Any] | None = None,
    keep: Keep = "all",
    directions: Directions | None = None,
) -> Result:
    """Search for the hyperparameters with the lowest value, or for the front of several values.

    Args:
      objective: a trainable, a function ``objective(hp)`` or ``objective(hp, key)``, or a `jhpo.host` function.
      space: where to search.
      strategy: what proposes; `PSO()` by default, a smaller swarm below 500 evaluations.
      budget: number of evaluations, never exceeded.
      key: root key; or ``seed``, an integer in [0, 2^32), from which it is made as in a `Study`.
      replicates: evaluations of every member with different keys; the value is their mean.
      metric: name of the value if the evaluation returns a dict. A score (accuracy, F1, ...) needs `maximize`.
      chunk: members evaluated at once; chosen from their size if None.
      devices: JAX devices to spread over; all local ones by default.
      generations, seconds, target, patience, tolerance: further stop rules, see `StopRules`.
      callback: called with an `Update` after each generation (evaluations, best, seconds, ...), or with (evaluations,
        best) if it takes two arguments.
      start: points to evaluate first, which the strategy then learns from: dicts of host values, all or some of them
        (``{"lr": 0.1}``); the strategy chooses the others. They count towards the budget.
      keep: "all" keeps every trial; "values" every value, and the hyperparameters of the best trial alone; "best" the
        best trial of each generation, so that the memory of a search does not grow with its evaluations.
      directions: of several objectives: ``["minimize", "maximize"]`` for an objective that returns a tuple or a dict of
        as many values, or ``{"error": "minimize", "params": "minimize"}`` for one that returns a dict of these and
        perhaps of more. The strategy has to be one for several (`NSGA2` by default); `Result.pareto` is what is found.

    An objective that measures constraints returns them beside its value: ``{"value": ..., "constraint": [...]}``,
    numbers that are >= 0 where the trial is feasible.

    Generations of a plain function that take little time run many at once in one program, for up to a quarter of a
    second; results do not depend on that, and the callback hears of each of them afterwards.

    Returns:
      A `Result`.

    Raises:
      InvalidArgument: an argument that cannot work, before anything is compiled.
      InvalidParameters: a starting point outside the space.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-2.0, 2.0), "kind": jhpo.Choice(["bad", "good"])})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + (hp["kind"] == 0)
    >>> result = jhpo.minimize(f, space, jhpo.PSO(32), budget=1024)
    >>> result.best["kind"], round(result.best["x"], 2), result.stopped
    ('good', 1.0, 'evaluations: 1024 of 1024 done')
    """
    options = Options(
        budget=budget, key=key, seed=seed, replicates=replicates, metric=metric, chunk=chunk, devices=devices,
        generations=generations, seconds=seconds, target=target, patience=patience, tolerance=tolerance,
        callback=callback, start=start, keep=keep, directions=directions,
    )  # fmt: skip
    return search(objective, space, strategy, "minimize", options)


def maximize(
    objective: Objective,
    space: Space,
    strategy: Strategy | None = None,
    budget: int = 1024,
    *,
    key: jax.Array | None = None,
    seed: int = 0,
    replicates: int = 1,
    metric: str | None = None,
    chunk: int | str | None = None,
    devices: Sequence[jax.Device] | None = None,
    generations: int | None = None,
    seconds: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    callback: Callback | None = None,
    start: Sequence[Any] | dict[str, Any] | None = None,
    keep: Keep = "all",
) -> Result:
    """`minimize` with the sign turned: values, ``target`` and the result are those of the objective itself.

    Args and errors are those of `minimize`.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 2.0)})
    >>> bool(jhpo.maximize(lambda hp: -(hp["x"] - 1.0) ** 2, space, jhpo.PSO(16), budget=320).value > -1e-4)
    True
    """
    options = Options(
        budget=budget, key=key, seed=seed, replicates=replicates, metric=metric, chunk=chunk, devices=devices,
        generations=generations, seconds=seconds, target=target, patience=patience, tolerance=tolerance,
        callback=callback, start=start, keep=keep,
    )  # fmt: skip
    return search(objective, space, strategy, "maximize", options)
