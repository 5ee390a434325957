"""The result of a search in memory: the best trial, the evaluations, and trained states recomputed on demand."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.errors import JhpoError, check_integer, invalid
from jhpo.evaluation.ensemble import Ensemble, ensemble_of
from jhpo.evaluation.evaluators import Evaluator
from jhpo.evaluation.lineage import Lineage, schedule_of
from jhpo.evaluation.population import Population
from jhpo.evaluation.repeating import Repeater
from jhpo.evaluation.spread import RayPopulation
from jhpo.evaluation.stopping import StoppingPopulation
from jhpo.evaluation.thawing import Thawed
from jhpo.objectives import Objectives, Values, check_single, front, knee
from jhpo.process.interrupts import interruptible
from jhpo.search.driver import Driver
from jhpo.search.evaluations import Curves, Evaluations, Top
from jhpo.search.keep import Keep
from jhpo.space.distinct import first_distinct
from jhpo.space.serialize import serializable
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation
from jhpo.training.objective import Objective
from jhpo.training.replay import Schedule
from jhpo.values.columns import best_first, successes
from jhpo.values.pytrees import HP
from jhpo.words.attributes import Advising
from jhpo.words.markup import named, table


class Origin(NamedTuple):
    """What a result was made with; it is not pickled."""

    driver: Driver
    last: tuple[Any, Evaluation] | None  # units and results the strategy was not told of yet
    evaluator: Evaluator | Repeater | Thawed
    root: jax.Array


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Result(Advising):
    """What a search found.

    Attributes:
      best: decoded hyperparameters of the best feasible trial of the longest training evaluated, or None if every
        trial failed or violated a constraint (where `Study.best` raises). Several objectives have no best: see `pareto`
        and `knee`.
      value: its value, NaN where there is none.
      history: every evaluation, or those that ``keep`` names, as arrays.
      stopped: the sentence that says why the search ended.
      seconds: wall time, compilation included.
      compile_seconds: the part of it that was spent tracing and compiling.
      space: the space that was searched.
      keep: what was kept: "all", "values" or "best".
      objectives: several, with their directions and names; None where there is one.
      steps: steps of training of all members together, where members were paused (`jhpo.SuccessiveHalving`);
        otherwise None, and so are the following. With ``fold_by_fold`` a step is a fold.
      curves: values of the members of ``history`` at each rung, or as they were reported (`jhpo.Trial.report`).
      occupancy: share of the work on the devices that was done on members, the rest being empty places.
      folds: how many were run of those that all members have, "94 of 240"; empty where they are not run one by one.
      notes: what host functions noted (`jhpo.Trial.note`), by the trial's number.
    """

    best: HP
    value: float
    history: Evaluations
    stopped: str
    seconds: float
    compile_seconds: float
    space: Space
    keep: Keep
    objectives: Objectives | None
    _origin: Origin | None
    _leader: Evaluations  # the best success alone, or none
    _sign: float  # -1.0 where it was maximised
    _exact: dict[int, dict[str, Any]]  # numbers as they were given, by trial
    _trained: dict[int, Any] = dataclasses.field(default_factory=dict)  # states made so far, by trial
    steps: int | None = None
    curves: Curves | None = None
    occupancy: float | None = None
    _lineage: Lineage | None = None  # where members took over from one another
    folds: str = ""
    notes: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        """What was found, without the arrays.

        >>> import jhpo
        >>> jhpo.minimize(lambda hp: hp["x"], jhpo.Space({"x": jhpo.Int(2, 5)}), jhpo.GridSearch(), budget=4)
        Result(best={'x': 2}, value=2.0, stopped='evaluations: 4 of 4 done')
        """
        found = f"best={self.best!r}, value={self.value!r}"
        if self.objectives is not None:
            found = f"objectives={self.objectives!r}"
        folds = f", folds={self.folds!r}" if self.folds else ""
        return f"Result({found}, stopped={self.stopped!r}{folds})"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("trials", len(self.history.value)), ("seconds", self.seconds)]
        rows += [("stopped", self.stopped), *([("folds", self.folds)] if self.folds else [])]
        if self.objectives is not None:
            rows[:0] = [("front", f"{len(self._front()[0])} feasible trials, see pareto()")]
        elif self.best is not None:
            rows[:0] = [("value", self.value), *named(self.best)]
        return table(("", "result"), rows)

    @functools.cached_property
    def state(self) -> Any:
        """The strategy's state after the last results, computed on first access."""
        if self._origin is None:
            raise JhpoError("the strategy's state stayed where the search ran: read result.state before pickling")
        if self._origin.last is not None:
            self._origin.driver.tell(*self._origin.last)
        return serializable(self._origin.driver.state)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but compiled programs and the objective."""
        known = self._trained
        if self._origin is not None and not _trains(self._origin.evaluator):
            known = dict.fromkeys(self.history.number.tolist())
        return self.__dict__ | {"_origin": None, "_trained": dict(known)}

    def top(self, k: int = 5, states: bool = True) -> list[Top]:
        """The k best trials with different hyperparameters, best first; feasible ones only.

        With ``states``, their trained states are recomputed from their keys. A pickled result holds only the states
        computed before.

        Raises:
          InvalidArgument: k is not a positive integer.
          JhpoError: the pickled result does not hold a state, or the search kept only the best trial and k > 1.
        """
        return self._tops(*self._best("top", k), states)

    def ensemble(self, k: int = 8) -> Ensemble:
        """The k best members, or as many as there are, with their trained states stacked, as one predictor.

        Its `predict` is the mean of their predictions (of probabilities for classification), and its `selected` chooses
        among them greedily on validation data. With folds every member has one model a fold.

        Raises:
          InvalidArgument: k is not a positive integer, or an objective that cannot predict.
          JhpoError: as of `top`; or no trial succeeded.
        """
        of, rows = self._best("ensemble", k)
        if self._origin is None:
            raise JhpoError(
                "the trained members stayed where the search ran: call ensemble there, and save what it gives"
            )
        if not len(rows):
            raise JhpoError("there is no ensemble: every trial failed or violated a constraint")
        if not _trains(self._origin.evaluator):
            raise invalid("objective", "a trainable with predict(hp, state, x) for an ensemble", "a function")
        assert of.units is not None
        trainable = self._origin.evaluator.trainable  # type: ignore[union-attr]  # as `_trains` found
        return ensemble_of(trainable, self.space, of.units[rows], self._states(of, rows))

    def _best(self, what: str, k: int) -> tuple[Evaluations, np.ndarray]:
        """The evaluations that were kept, and the rows of the k best."""
        check_integer("k", k)
        check_single(what, self.objectives, "pareto() gives the trials that none other dominates")
        if k > 1 and self.keep != "all":
            raise JhpoError(
                f"keep={self.keep!r} kept the hyperparameters of the best trial alone: top(1) gives it, and a search "
                f'with keep="all" the {k} best'
            )
        of = self.history if self.keep == "all" else self._leader
        assert of.units is not None
        order = best_first(successes(of.whole, of.constraint, of.horizon), self._sign * of.value)
        return of, first_distinct(self.space, of.units, order, k)

    def pareto(self, states: bool = False) -> list[Top]:
        """The feasible trials that no other dominates, with distinct hyperparameters, sorted by their first value.

        With one objective, the trials of the best value. Empty if every trial failed or violated a constraint.

        Args:
          states: recompute their trained states from their keys.

        >>> import jhpo
        >>> space = jhpo.Space({"x": jhpo.Int(-2, 5)})
        >>> both = lambda hp: {"near": hp["x"] ** 2, "far": (hp["x"] - 2) ** 2}
        >>> found = jhpo.minimize(both, space, jhpo.GridSearch(), budget=8, directions=["minimize", "minimize"])
        >>> [point.params["x"] for point in found.pareto()], found.knee().values
        ([0, 1, 2], Values(near=1.0, far=1.0))
        """
        of = self.history
        assert of.units is not None
        rows, minimised = self._front()
        order = rows[front(minimised[rows])]
        return self._tops(of, first_distinct(self.space, of.units, order, max(len(order), 1)), states)

    def knee(self, weights: Sequence[float] | None = None) -> Top:
        """The trial of the front nearest to the best value of every objective, each scaled by the front's extent.

        Args:
          weights: how much each objective counts; equally if None.

        Raises:
          InvalidArgument: not one weight >= 0 for each objective.
          JhpoError: there is no feasible trial.
        """
        points = self.pareto()
        if not points:
            raise JhpoError("no successful trial, so no front")
        signs = np.ones(1) * self._sign if self.objectives is None else self.objectives.signs
        return points[knee(signs * np.asarray([p.values for p in points]), weights)]

    def _front(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the successful trials, and the values of all trials, to be minimised."""
        of = self.history
        if self.keep != "all":
            raise JhpoError(f'keep={self.keep!r} kept too little for a front: search with keep="all"')
        values = (self._sign * of.value)[:, None]
        if self.objectives is not None and of.values is not None:
            values = self.objectives.minimised(of.values)
        return successes(of.whole, of.constraint, of.horizon), values

    def _tops(self, of: Evaluations, rows: np.ndarray, states: bool) -> list[Top]:
        assert of.units is not None
        trained = self._states(of, rows) if states and len(rows) else [None] * len(rows)
        numbers, values = of.number[rows].tolist(), of.value[rows].tolist()
        several = of.value[rows, None] if of.values is None else of.values[rows]
        names = None if self.objectives is None else self.objectives.names
        return [
            Top(
                self.space.decode(of.units[row], self._exact.get(number)),
                value, number, state, Values(map(float, each), names), self.notes.get(number, {}),
            )
            for row, number, value, state, each in zip(rows, numbers, values, trained, several)
        ]  # fmt: skip

    def schedule(self, trial: Top | int | None = None) -> Schedule:
        """The hyperparameters with which a member of an evolving population was trained, those of its ancestors first.

        Args:
          trial: one that `top` gives, or its number; the best by default.

        Raises:
          InvalidArgument: no such trial.
          JhpoError: a search whose members keep their hyperparameters, or one in which nobody succeeded.

        >>> import jax.numpy as jnp, jhpo
        >>> class Descent:
        ...     steps = 8
        ...     def init(self, hp, key): return jnp.float32(1.0)
        ...     def step(self, hp, w, t): return w - hp["lr"] * w
        ...     def evaluate(self, hp, w): return w**2
        >>> space = jhpo.Space({"lr": jhpo.Float(0.01, 0.1)})
        >>> result = jhpo.minimize(Descent(), space, jhpo.PopulationBasedTraining(4, exchange=4), budget=4)
        >>> schedule = result.schedule()
        >>> schedule.steps.tolist(), schedule.params[-1] == result.best, len(schedule.of("lr"))
        ([4, 8], True, 2)
        """
        if self._lineage is None:
            raise JhpoError("there are no schedules: the members of this search keep their hyperparameters")
        if trial is None:
            if not len(self._leader.number):
                raise JhpoError("there is no best member: every trial failed or violated a constraint")
            trial = int(self._leader.number[0])
        number = trial.id if isinstance(trial, Top) else trial
        count = max(len(source) for source in self._lineage.sources.values())
        return schedule_of(self.space, self._lineage, check_integer("trial", number, 0, count - 1))

    @interruptible()
    def _states(self, of: Evaluations, rows: np.ndarray) -> list[Any]:
        numbers = of.number[rows].tolist()
        if self._origin is not None:
            assert of.units is not None
            made = self._origin.evaluator.states(
                of.units[rows], of.ids[rows], self._origin.root, of.value[rows], of.horizon[rows]
            )
            self._trained.update(zip(numbers, serializable(made)))
            return list(made)
        missing = [n for n in numbers if n not in self._trained]
        if missing:
            raise JhpoError(
                f"the trained states of trials {missing} stayed where the search ran: call top({len(rows)}) there "
                "before pickling the result, or top(..., states=False) here"
            )
        return [self._trained[n] for n in numbers]


def _trains(evaluator: Evaluator | Repeater | Thawed) -> bool:
    """Whether evaluations produce trained states."""
    trained = (Population, RayPopulation, Repeater, StoppingPopulation, Thawed)
    return isinstance(evaluator, trained) and not isinstance(evaluator.trainable, Objective)
