"""One entry for everything that can be tuned: what evaluates a generation, and the structure of its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import check_integer
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request, Strategy
from jhpo.training.objective import as_trainable
from jhpo.training.trainable import Trainable


class Evaluator(Protocol):
    """Evaluates generations: a `Population` on the devices, or a pool of workers on the host."""

    def evaluate(self, units: np.ndarray, ids: np.ndarray, root: jax.Array, request: Request) -> Evaluation:
        """Results of ``float[n, d]`` unit rows whose keys are made from ``uint32[n]`` ids, as NumPy arrays."""
        ...

    def states(
        self,
        units: np.ndarray,
        ids: np.ndarray,
        root: jax.Array,
        values: ArrayLike | None = None,
        horizons: ArrayLike = 1.0,
    ) -> list[Any]:
        """Trained states of a few members, made again from their keys; None where there are none."""
        ...


class WithEvaluator(Protocol):
    """An objective that brings its own evaluator, as `jhpo.host` makes them."""

    def evaluator(self, space: Space, replicates: int = 1) -> Evaluator:
        """What evaluates its generations."""
        ...


# whatever can be tuned: a trainable, a function ``objective(hp)`` or ``objective(hp, key)``, or a host function
Objective = Trainable | Callable[..., Any] | WithEvaluator


def make_evaluator(
    objective: Objective,
    space: Space,
    *,
    replicates: int = 1,
    metric: str | None = None,
    chunk: int | str | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Evaluator:
    """The evaluator for an objective: host functions know their own, everything else is a population.

    Raises:
      InvalidArgument: an objective of no known kind, or an option out of range.
    """
    check_integer("replicates", replicates)
    if hasattr(objective, "evaluator"):
        if metric is not None and hasattr(objective, "with_metric"):
            objective = objective.with_metric(metric)
        return objective.evaluator(space, replicates=replicates)
    from jhpo.evaluation.population import Population

    trainable = as_trainable(objective)
    return Population(trainable, space, replicates=replicates, chunk=chunk, devices=devices, metric=metric)


def blank_result(strategy: Strategy, space: Space, replicates: int) -> Evaluation:
    """Zeros in the structure every result of this study has, for the program that is compiled before there is one."""
    n, d, c, dtype = strategy.population, space.dim, space.num_constraints, jnp.result_type(float)
    return Evaluation(
        value=np.zeros(n, dtype),
        grad=np.zeros((n, d), dtype) if strategy.needs_grad else None,
        constraint=np.zeros((n, c), dtype) if space.has_constraints else None,
        variance=np.zeros(n, dtype) if replicates > 1 else None,
        mask=np.ones(n, np.bool_) if strategy.steady else None,
    )
