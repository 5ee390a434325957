"""The evaluator of an objective, whatever its kind, and the structure of results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.curves.rules import EarlyStop
from jhpo.curves.table import CurveTable
from jhpo.errors import InvalidArgument, check_integer, invalid
from jhpo.evaluation.described import Described
from jhpo.evaluation.population import Population
from jhpo.evaluation.spread import RayPopulation
from jhpo.evaluation.stopping import StoppingPopulation
from jhpo.objectives import Objectives
from jhpo.programs.devices import Devices, RayActors
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request, Strategy
from jhpo.training.crossvalidation import in_folds
from jhpo.training.trainable import Trainable


class Evaluator(Protocol):
    """Evaluates generations: a `Population` on devices, or a pool of workers on the host."""

    @property
    def described(self) -> Described:
        """Names of several objectives, and the number of measured constraints, as far as they are known."""
        ...

    def evaluate(self, units: np.ndarray, ids: np.ndarray, root: jax.Array, request: Request) -> Evaluation:
        """Results, as NumPy arrays, of unit rows ``float[n, d]`` whose keys are derived from ids ``uint32[n]``."""
        ...

    def states(
        self,
        units: np.ndarray,
        ids: np.ndarray,
        root: jax.Array,
        values: ArrayLike | None = None,
        horizons: ArrayLike = 1.0,
    ) -> list[Any]:
        """Trained states of a few members, trained again from their keys; None for host objectives."""
        ...


@runtime_checkable
class Closing(Protocol):
    """An evaluator that holds workers between generations."""

    def close(self) -> None:
        """End the workers; the next generation starts others."""
        ...


@contextlib.contextmanager
def in_use(evaluator: Evaluator) -> Iterator[None]:
    """A context at whose end the workers of an evaluator are ended, if it has any."""
    try:
        yield
    finally:
        if isinstance(evaluator, Closing):
            evaluator.close()


class WithEvaluator(Protocol):
    """An objective with its own evaluator, such as those of `jhpo.host`."""

    def evaluator(self, space: Space, replicates: int = 1) -> Evaluator:
        """The evaluator of its generations."""
        ...


# everything that can be tuned: a trainable, a function ``objective(hp)`` or ``objective(hp, key)``, a host objective
Objective = Trainable | Callable[..., Any] | WithEvaluator


def make_evaluator(
    objective: Objective,
    space: Space,
    *,
    replicates: int = 1,
    folds: int = 1,
    fold_by_fold: bool = False,
    metric: str | None = None,
    objectives: Objectives | None = None,
    chunk: int | str | None = None,
    devices: Devices | None = None,
    early_stop: EarlyStop | None = None,
    sign: float = 1.0,
    past: Callable[[], CurveTable] | None = None,
) -> Evaluator:
    """The evaluator of an objective: its own if it has one, otherwise a `Population`.

    Args:
      objective, space, replicates, folds, fold_by_fold, metric, objectives, chunk, devices: see `jhpo.minimize`.
      early_stop: a rule that stops members early.
      sign: the direction of the values that the rule sees, -1.0 where they are maximised.
      past: the learning curves of earlier trials, for the rule.

    Raises:
      InvalidArgument: an unknown kind of objective, or an option out of range.
    """
    check_integer("replicates", replicates)
    if objectives is not None and metric is not None:
        raise invalid("metric", "None beside directions, whose names choose the values", metric)
    if hasattr(objective, "evaluator"):
        if objectives is not None:
            several = getattr(objective, "for_objectives", None)
            if several is None:
                raise invalid("objective", "one that can return several values", objective)
            objective = several(objectives)
        if metric is not None and hasattr(objective, "with_metric"):
            objective = objective.with_metric(metric)
        in_folds(objective, folds, fold_by_fold)  # refuses more than one
        if early_stop is None:
            return objective.evaluator(space, replicates=replicates)
        stopping = getattr(objective, "stopping_evaluator", None)
        if stopping is None:
            raise invalid("objective", "a jhpo.host function or a trainable with early_stop", objective)
        made: Evaluator = stopping(space, replicates, early_stop, sign)
        return made
    wanted = metric if objectives is None else objectives
    if isinstance(devices, RayActors):
        if early_stop is not None:
            raise invalid("early_stop", "None on a Ray cluster, but for jhpo.host functions", early_stop)
        return RayPopulation(
            objective, space, devices, chunk,
            replicates=replicates, folds=folds, fold_by_fold=fold_by_fold, metric=wanted,
        )  # fmt: skip
    population = Population(
        objective, space,
        replicates=replicates, folds=folds, fold_by_fold=fold_by_fold, chunk=chunk, devices=devices, metric=wanted,
    )  # fmt: skip
    if early_stop is None:
        return population
    return StoppingPopulation(population, early_stop, sign, past)


def continuable(evaluator: Evaluator) -> Population:
    """An evaluator as a population, whose members can be paused.

    Raises:
        InvalidArgument: it is another one.
    """
    if not isinstance(evaluator, Population):
        if isinstance(evaluator, RayPopulation):
            raise InvalidArgument("devices: RayActors train members to their end, and this strategy pauses them")
        expected = "a trainable, whose training can be paused and continued"
        note = "of host functions that report, early_stop= and ASHA without batch= stop trials"
        raise invalid("objective", expected, "a host function", note=note)
    return evaluator


def blank_result(strategy: Strategy, space: Space, repeats: int, objectives: int = 1, measured: int = 0) -> Evaluation:
    """Zeros in the structure every result of this study has, for the program that is compiled before there is one.

    Args:
      strategy: what proposes.
      space: where.
      repeats: evaluations of each member, replicates times folds.
      objectives: how many.
      measured: number of constraints that an evaluation measures.
    """
    n, d, dtype = strategy.population, space.dim, jnp.result_type(float)
    c, m = space.num_constraints + measured, () if objectives == 1 else (objectives,)
    return Evaluation(
        value=np.zeros(n, dtype),
        grad=np.zeros((n, d), dtype) if strategy.needs_grad else None,
        constraint=np.zeros((n, c), dtype) if c else None,
        variance=np.zeros((n, *m), dtype) if repeats > 1 and not strategy.continues else None,
        mask=np.ones(n, np.bool_) if strategy.steady or strategy.continues else None,
        values=np.zeros((n, *m), dtype) if m else None,
    )
