"""`minimize` and `maximize`: a search in memory, on the host, with stop rules; the shortest way to use jhpo."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.errors import JhpoError, check_integer, invalid
from jhpo.evaluation.evaluators import Evaluator, blank_result, make_evaluator
from jhpo.evaluation.population import Population
from jhpo.search.driver import Driver
from jhpo.search.starts import Starts, parts, proposals, read_starts
from jhpo.search.stopping import Progress, StopRules
from jhpo.space.distinct import first_distinct
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, feasible_value
from jhpo.training.metrics import check_direction
from jhpo.training.objective import Objective
from jhpo.training.serialize import serializable


class History(NamedTuple):
    """Every evaluation in the order of the trial ids."""

    units: np.ndarray  # float[m, d]
    value: np.ndarray  # float[m], in the user's own sign; NaN where the trial failed
    constraint: np.ndarray | None  # float[m, c], feasible where >= 0
    variance: np.ndarray | None  # float[m], of value, from replicates
    ids: np.ndarray  # uint32[m], from which the evaluation keys were made
    generation: np.ndarray  # int32[m], -1 for starting points
    horizon: np.ndarray  # float[m], share of the training: values of different shares do not compare


@dataclasses.dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
      best: decoded hyperparameters of the best feasible trial (the least infeasible one if none is feasible) of the
        longest training evaluated, or None if every trial failed.
      value: its value, NaN if every trial failed.
      history: every evaluation, as arrays.
      stopped: the sentence that says why the search ended.
      seconds: wall time, compilation included.
      compile_seconds: the part of it that was the first generation's, where programs are compiled.
      space: the space that was searched.
    """

    best: Any
    value: float
    history: History
    stopped: str
    seconds: float
    compile_seconds: float
    space: Space
    _driver: Driver | None = dataclasses.field(repr=False)
    _last: tuple[np.ndarray, Evaluation] | None = dataclasses.field(repr=False)
    _evaluator: Evaluator | None = dataclasses.field(repr=False)
    _root: jax.Array = dataclasses.field(repr=False)
    _order: np.ndarray = dataclasses.field(repr=False)
    _exact: dict[int, dict[str, Any]] = dataclasses.field(repr=False)  # numbers as they were given, by trial
    _trained: dict[int, Any] = dataclasses.field(repr=False, default_factory=dict)  # states made so far, by trial

    @functools.cached_property
    def state(self) -> Any:
        """The strategy's state after the last results (told when first asked for: few need it)."""
        if self._driver is None:
            raise JhpoError("the strategy's state stayed where the search ran: read result.state before pickling")
        if self._last is not None:
            self._driver.tell(*self._last)
        return serializable(self._driver.state)

    def __getstate__(self) -> dict[str, Any]:
        """What another process of yours can use: all but programs and the objective."""
        known = self._trained
        if self._evaluator is not None and not _trains(self._evaluator):
            known = dict.fromkeys(range(len(self.history.value)))
        return self.__dict__ | {"_driver": None, "_evaluator": None, "_last": None, "_trained": dict(known)}

    def top(self, k: int = 5, states: bool = True) -> list[Top]:
        """The k best trials with different hyperparameters.

        With ``states``, their trained states are made again from their keys. A result that was pickled brings those
        along that were made before.

        Raises:
          InvalidArgument: k is no positive integer.
          JhpoError: a state that the pickled result does not hold.
        """
        check_integer("k", k)
        rows = first_distinct(self.space, self.history.units, self._order, k)
        trained = self._states(rows) if states and len(rows) else [None] * len(rows)
        values = (float(v) for v in self.history.value[rows])
        return [Top(self._params(r), value, int(r), s) for r, value, s in zip(rows, values, trained)]

    def _states(self, rows: np.ndarray) -> list[Any]:
        if self._evaluator is not None:
            of = self.history
            made = self._evaluator.states(of.units[rows], of.ids[rows], self._root, of.value[rows], of.horizon[rows])
            self._trained.update(zip(map(int, rows), serializable(made)))
            return list(made)
        missing = [int(r) for r in rows if int(r) not in self._trained]
        if missing:
            raise JhpoError(
                f"the trained states of trials {missing} stayed where the search ran: call top({len(rows)}) there "
                "before pickling the result, or top(..., states=False) here"
            )
        return [self._trained[int(r)] for r in rows]

    def _params(self, row: int) -> Any:
        return self.space.decode(self.history.units[row], self._exact.get(int(row)))


def _trains(evaluator: Evaluator) -> bool:
    """There are states that somebody may want."""
    return isinstance(evaluator, Population) and not isinstance(evaluator.trainable, Objective)


class Top(NamedTuple):
    """One of the best trials."""

    params: Any  # decoded hyperparameters
    value: float
    id: int  # trial number
    state: Any  # trained state, None for objectives that have none


def minimize(
    objective: Any,
    space: Space,
    strategy: Strategy | None = None,
    budget: int = 1024,
    *,
    key: jax.Array | None = None,
    seed: int = 0,
    replicates: int = 1,
    metric: str | None = None,
    chunk: int | None = None,
    devices: Any = None,
    generations: int | None = None,
    seconds: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    callback: Callable[[int, float], None] | None = None,
    start: Sequence[Any] | dict[str, Any] | None = None,
) -> Result:
    """Search for the hyperparameters with the lowest value.

    Args:
      objective: a trainable, a function ``objective(hp)`` or ``objective(hp, key)``, or a `jhpo.host` function.
      space: where to search.
      strategy: what proposes; `PSO()` by default, a smaller swarm below 500 evaluations.
      budget: number of evaluations, never exceeded.
      key: root key; or ``seed``, from which it is made.
      replicates: evaluations of every member with different keys; the value is their mean.
      metric: name of the value if the evaluation returns a dict. A score (accuracy, F1, ...) needs `maximize`.
      chunk: members evaluated at once; chosen by measurement if None.
      devices: JAX devices to spread over; all local ones by default.
      generations, seconds, target, patience, tolerance: further stop rules, see `StopRules`.
      callback: called with (evaluations, best value) after each generation.
      start: points to evaluate first, which the strategy then learns from: dicts of host values, all or some of them
        (``{"lr": 0.1}``); the strategy chooses the others. They count towards the budget.

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
    rules = StopRules(
        evaluations=check_integer("budget", budget),
        generations=generations,
        seconds=seconds,
        target=target,
        patience=patience,
        tolerance=tolerance,
    )
    options = (key, seed, replicates, metric, chunk, devices, callback, start)
    return _search(objective, space, strategy, rules, 1.0, *options)


def maximize(
    objective: Any, space: Space, strategy: Strategy | None = None, budget: int = 1024, **options: Any
) -> Result:
    """`minimize` with the sign turned: values, ``target`` and the result are those of the objective itself.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 2.0)})
    >>> bool(jhpo.maximize(lambda hp: -(hp["x"] - 1.0) ** 2, space, jhpo.PSO(16), budget=320).value > -1e-4)
    True
    """
    given = {f: options.pop(f, None) for f in ("generations", "seconds", "target", "patience", "tolerance")}
    if given["target"] is not None:
        given["target"] = -given["target"]
    rules = StopRules(evaluations=check_integer("budget", budget), **given)
    names = ("key", "seed", "replicates", "metric", "chunk", "devices", "callback", "start")
    unknown = sorted(set(options) - set(names))
    if unknown:
        raise invalid(unknown[0], f"one of the options {names}", options[unknown[0]])
    defaults: dict[str, Any] = {"seed": 0, "replicates": 1}
    rest: list[Any] = [options.get(n, defaults.get(n)) for n in names]
    return _search(objective, space, strategy, rules, -1.0, *rest)


def _search(
    objective: Any,
    space: Space,
    strategy: Strategy | None,
    rules: StopRules,
    sign: float,
    key: jax.Array | None,
    seed: int,
    replicates: int,
    metric: str | None,
    chunk: int | None,
    devices: Any,
    callback: Callable[[int, float], None] | None,
    start: Any,
) -> Result:
    if not isinstance(space, Space):
        raise invalid("space", "a jhpo.Space", space)
    if strategy is None:
        from jhpo.strategies.pso import swarm_for

        strategy = swarm_for(rules.evaluations)
    if not isinstance(strategy, Strategy):
        raise invalid("strategy", "an instance of a jhpo strategy", strategy)
    check_direction(objective, metric, "minimize" if sign > 0 else "maximize")
    starts = read_starts(space, start, rules.evaluations)
    begin = time.perf_counter()
    root = jax.random.key(seed) if key is None else key
    evaluator = make_evaluator(objective, space, replicates=replicates, metric=metric, chunk=chunk, devices=devices)
    if rules.evaluations and type(strategy).grow is Strategy.grow:  # without growing buffers the budget may be told
        strategy = strategy.prepare(rules.evaluations)
    driver = Driver(strategy, space, root)
    log = _Log(sign)
    limit = strategy.max_evaluations(space)
    units: np.ndarray | None = None
    result = blank_result(strategy, space, replicates)
    compile_seconds, stopped = 0.0, None
    if starts is not None:
        log.begin(starts, driver, evaluator, root)
        limit = None if limit is None else limit + log.evaluations
        seconds = time.perf_counter() - begin
        if callback is not None:
            callback(log.evaluations, sign * log.best)
        stopped = rules.check(Progress(log.evaluations, 0, seconds, log.best, log.bests))
    while stopped is None:
        units = driver.turn(units, result) if driver.state is None or units is not None else driver.ask()
        left = (rules.evaluations or 0) - log.evaluations
        left = left if limit is None else min(left, limit - log.evaluations)
        ids = log.evaluations + np.arange(len(units))
        streams = driver.evaluation_ids(ids)
        taken = min(left, len(units))
        measured = evaluator.evaluate(units[:taken], streams[:taken], root, driver.request)
        result = _padded(_signed(measured, sign), len(units))
        log.add(units[:taken], measured, streams[:taken], driver.generation - 1, driver.request.horizon)
        seconds = time.perf_counter() - begin
        compile_seconds = compile_seconds or seconds
        best = log.best
        if callback is not None:
            callback(log.evaluations, sign * best)
        stopped = rules.check(Progress(log.evaluations, driver.generation, seconds, best, log.bests))
        if stopped is None and limit is not None and log.evaluations >= limit:
            stopped = f"exhausted: all {limit} points of the {type(strategy).__name__} were evaluated"
    history = log.history()
    order = log.order()
    first = order[0] if len(order) else None
    return Result(
        best=None if first is None else space.decode(history.units[first], log.exact.get(int(first))),
        value=float("nan") if first is None else float(history.value[first]),
        history=history,
        stopped=stopped,
        seconds=time.perf_counter() - begin,
        compile_seconds=compile_seconds,
        space=space,
        _driver=driver,
        _last=None if units is None else (units, result),
        _evaluator=evaluator,
        _root=root,
        _order=order,
        _exact=log.exact,
    )


def _signed(result: Evaluation, sign: float) -> Evaluation:
    """The result as the strategy sees it: to be minimised."""
    if sign > 0:
        return result
    grad = None if result.grad is None else -result.grad
    return result._replace(value=-result.value, grad=grad)


def _padded(result: Evaluation, n: int) -> Evaluation:
    """Rows that were not evaluated any more count as failed."""
    missing = n - len(result.value)
    if not missing:
        return result

    def pad(x: Any) -> Any:
        return None if x is None else np.pad(x, [(0, missing)] + [(0, 0)] * (np.ndim(x) - 1), constant_values=np.nan)

    return Evaluation(*(pad(x) for x in result))


class _Log:
    """The evaluations so far, and the best value after each generation (minimised sign)."""

    def __init__(self, sign: float) -> None:
        self.sign = sign
        self.evaluations = 0
        self.exact: dict[int, dict[str, Any]] = {}
        self.bests: list[float] = []  # of the generations that trained their members to the end
        self._rows: list[tuple[np.ndarray, Evaluation, np.ndarray, int, float]] = []
        self._best = (np.inf, np.inf)  # violation, value

    def begin(self, starts: Starts, driver: Driver, evaluator: Evaluator, root: jax.Array) -> None:
        """Evaluate starting points to the end, and show them to the strategy where its own trainings are as long."""
        units = starts.units if starts.whole else starts.completed(proposals(driver, len(starts.units)))
        request = driver.started()
        ids = np.arange(len(units), dtype=np.uint32)
        measured = evaluator.evaluate(units, ids, root, request._replace(horizon=1.0))
        self.add(units, measured, ids, -1, 1.0)
        self.exact = {i: values for i, values in enumerate(starts.exact) if values}
        if request.horizon == 1.0:
            for rows, told in parts(units, _signed(measured, self.sign), driver.strategy.population):
                driver.absorb(rows, told)

    @property
    def best(self) -> float:
        """Lowest feasible value of a whole training, NaN before there is one."""
        return self._best[1] if self._best[0] == 0 else np.nan

    def add(self, units: np.ndarray, result: Evaluation, ids: np.ndarray, generation: int, horizon: float) -> None:
        self._rows.append((units, result, ids, generation, horizon))
        self.evaluations += len(units)
        if horizon < 1.0:
            return
        value, violation = feasible_value(_signed(result, self.sign), np)
        at = np.lexsort((value, violation))[0]
        if np.isfinite(value[at]):
            self._best = min(self._best, (float(violation[at]), float(value[at])))
        self.bests.append(self.best)

    def _joined(self, field: str) -> Any:
        parts = [getattr(result, field) for _, result, *_ in self._rows]
        return None if parts[0] is None else np.concatenate([np.asarray(p) for p in parts])

    def history(self) -> History:
        value = self._joined("value")
        return History(
            units=np.concatenate([u for u, *_ in self._rows]),
            value=np.where(np.isfinite(value), value, np.nan),
            constraint=self._joined("constraint"),
            variance=self._joined("variance"),
            ids=np.concatenate([np.asarray(i, np.uint32) for _, _, i, *_ in self._rows]),
            generation=np.concatenate([np.full(len(u), g, np.int32) for u, _, _, g, _ in self._rows]),
            horizon=self._horizon(),
        )

    def _horizon(self) -> np.ndarray:
        return np.concatenate([np.full(len(u), h) for u, *_, h in self._rows])

    def order(self) -> np.ndarray:
        """Row numbers of the trials of the longest training that did not fail, best first."""
        joined = _signed(Evaluation(self._joined("value"), constraint=self._joined("constraint")), self.sign)
        value, violation = feasible_value(joined, np)
        order = np.lexsort((value, violation))
        order = order[np.isfinite(value[order])]
        horizon = self._horizon()[order]
        return order[horizon == horizon.max()] if len(order) else order
