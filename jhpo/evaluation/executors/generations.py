"""Generations of a host function: handed to its workers, and what came of them as one result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import InvalidArgument, warn_caller
from jhpo.evaluation.described import Described
from jhpo.evaluation.executors.reported import Reported
from jhpo.evaluation.executors.tasks import Pool, Roles, Task
from jhpo.evaluation.measures import measure_constraints, trial_seeds
from jhpo.evaluation.outcome import Outcome, in_width, mean_constraint
from jhpo.objectives import Objectives
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request

Runs = tuple[Task, ...]  # the evaluations of one point, one for each replicate


class Pooled(Protocol):
    """A host objective, as its evaluator needs it."""

    @property
    def workers(self) -> int:
        """Evaluations that run at once."""
        ...

    @property
    def roles(self) -> Roles:
        """What the function is called with."""
        ...

    @property
    def objectives(self) -> Objectives | None:
        """Of a function that returns several values."""
        ...

    def pool(self, space: Space | None = None) -> Pool:
        """A running pool."""
        ...


class HostEvaluator:
    """The evaluator of a host objective."""

    def __init__(self, objective: Pooled, space: Space, replicates: int, reported: Reported) -> None:
        self._objective, self._space, self._replicates = objective, space, replicates
        self._reported, self.reasons = reported, Counter[str]()  # reasons of failures so far, and how often each
        self.notes = reported.notes
        self._pool: Pool | None = None
        self._width: int | None = None  # constraints that are measured
        self.names = None if objective.objectives is None else objective.objectives.names  # of several objectives

    @property
    def described(self) -> Described:
        """The names in the first result; what is measured is not known beforehand."""
        return Described(self.names, 0)

    @property
    def workers(self) -> int:
        """Evaluations that run at once."""
        return self._objective.workers

    def evaluate(self, units: np.ndarray, ids: np.ndarray, root: jax.Array, request: Request) -> Evaluation:
        """Results of unit rows ``float[n, d]``; failed ones are NaN."""
        return self.finished(units, self.begin(units, ids, root, request))

    def begin(self, units: np.ndarray, ids: np.ndarray, root: jax.Array, request: Request) -> list[Runs]:
        """Hand unit rows to the workers, in their order."""
        check_request(request)
        if self._pool is None:
            self._pool = self._objective.pool(self._space)
        pool, several = self._pool, self._replicates > 1
        seeds = [trial_seeds(root, ids, r if several else None).tolist() for r in range(self._replicates)]
        return [tuple(self._submit(pool, u, seed) for seed in own) for u, own in zip(units, zip(*seeds))]

    def finished(self, units: np.ndarray, runs: Sequence[Runs]) -> Evaluation:
        """The results of rows that were handed out; waits for them."""
        outcomes = self._outcomes(runs)
        self.reasons.update(o.reason for own in outcomes for o in own if o.reason)
        trials = [own[r].trial for r in range(self._replicates) for own in runs]  # replicates one after the other
        reporting = [trial for trial in trials if trial is not None]
        pruned = [own[0].pruned for own in outcomes]
        stages = self._reported.finished(reporting, pruned, len(runs)) if reporting else None
        return self._measured(units, outcomes)._replace(stages=stages)

    def results(self, units: np.ndarray, runs: Sequence[Runs]) -> Evaluation:
        """What a strategy learns from rows that have ended."""
        return self._measured(units, self._outcomes(runs))

    def _measured(self, units: np.ndarray, outcomes: list[list[Outcome]]) -> Evaluation:
        """The outcomes of rows as one result, in the mean of the replicates."""
        own = [mean_constraint(each) for each in outcomes]
        values = np.moveaxis(np.asarray([[self._value(o) for o in own] for own in outcomes]), 1, 0)
        constraint = measure_constraints(self._space, np.asarray(units, np.float64))
        if any(c is not None for c in own):
            rows = np.stack([np.full(self._width or 0, np.nan) if c is None else c for c in own])
            constraint = rows if constraint is None else np.concatenate([constraint, rows], axis=1)
        variance = values.var(axis=0, ddof=1) / self._replicates if self._replicates > 1 else None
        mean = values.mean(axis=0)
        if self._objective.objectives is None:
            return Evaluation(value=mean, constraint=constraint, variance=variance)
        first = np.where(np.isfinite(mean).all(axis=1), mean[:, 0], np.nan)
        return Evaluation(value=first, constraint=constraint, variance=variance, values=mean)

    def _outcomes(self, runs: Sequence[Runs]) -> list[list[Outcome]]:
        """The outcomes of rows, of each replicate."""
        found = []
        for own in runs:
            outcomes, self._width = in_width([task.result() for task in own], self._width)
            found.append(outcomes)
        return found

    def _submit(self, pool: Pool, unit: np.ndarray, seed: int) -> Task:
        params = self._space.decode(unit)
        trial = self._reported.trial(params, seed, unit) if self._objective.roles.trial else None
        return pool.submit(params, seed, trial)

    def _value(self, outcome: Outcome) -> float | np.ndarray:
        """The value; of several objectives ``float[m]``, NaN where the evaluation failed."""
        objectives = self._objective.objectives
        if objectives is None:
            return outcome.value
        blank = np.full(objectives.count, np.nan)
        return blank if outcome.values is None else self._in_order(outcome, blank)

    def _in_order(self, outcome: Outcome, blank: np.ndarray) -> np.ndarray:
        """The values in the order of the names that came first; a result with other names has failed."""
        assert outcome.values is not None
        self.names = self.names or outcome.names
        if outcome.names is None or outcome.names == self.names:
            return outcome.values
        assert self.names is not None
        if set(outcome.names) != set(self.names):
            warn_caller(f"expected the values {list(self.names)}, got {list(outcome.names)}: failed")
            return blank
        return outcome.values[[outcome.names.index(name) for name in self.names]]

    def states(
        self,
        units: np.ndarray,
        ids: np.ndarray,
        root: jax.Array,
        values: ArrayLike | None = None,
        horizons: ArrayLike = 1.0,
    ) -> list[Any]:
        """Host objectives have no trained states: None for every row."""
        return [None] * len(units)

    def close(self) -> None:
        """End the workers; the next generation starts others."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __del__(self) -> None:
        self.close()


def check_request(request: Request) -> None:
    """Raises if the strategy requests gradients or a shorter horizon, which a host function does not have.

    Raises:
        InvalidArgument: it does.
    """
    if request.grad:
        raise InvalidArgument("strategy: a host objective needs one without gradients, got one that asks for them")
    if request.horizon != 1.0:
        raise InvalidArgument("strategy: host objectives train to the end (Chain: horizon=1.0), got a shorter horizon")
