"""The evaluator of an objective, whatever its kind, and the structure of results."""

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
    """Evaluates generations: a `Population` on devices, or a pool of workers on the host."""

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
    metric: str | None = None,
    chunk: int | str | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Evaluator:
    """The evaluator of an objective: its own if it has one, otherwise a `Population`.

    Raises:
      InvalidArgument: an unknown kind of objective, or an option out of range.
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
