"""What a strategy requests of the evaluation of a generation, what it is told, and how members compare."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import warn_caller

Floats = Any  # a jax.Array in traced code, a NumPy array on the host


class Request(NamedTuple):
    """What a strategy needs from the evaluation of the next generation; static, constant within a phase."""

    grad: bool = False  # gradients with respect to the unit coordinates
    horizon: float = 1.0  # fraction of the training steps to run, in (0, 1]


def warn_of_unlearnt(strategy: Any, result: Evaluation, own: int) -> bool:
    """Warns of measured constraints that a strategy does not learn as it was not told their number; whether it did.

    Args:
      strategy: a `Strategy`.
      result: of some points.
      own: constraints of the space, which come first.
    """
    count = 0 if result.constraint is None else result.constraint.shape[-1] - own
    if count < 1 or strategy.measuring(count) is strategy:
        return False
    warn_caller(
        f"the objective measures constraints ({count}) that the search does not learn, as the strategy was made before "
        f"their number was known: BayesOpt(constraints={count})"
    )
    return True


class Stages(NamedTuple):
    """Intermediate values of n members, at most r each, of which some were stopped early; NumPy arrays."""

    step: np.ndarray  # int64[n, r], ascending; -1 where there is none
    value: np.ndarray  # float[n, r], in the user's own sign; NaN likewise
    pruned: np.ndarray  # bool[n], stopped early: the member's value is the last one
    width: np.ndarray | None = None  # int64[n, r], of the programs that trained members to these steps; 0 where none
    length: np.ndarray | None = None  # int64[n], of a whole training, where it is known


class Evaluation(NamedTuple):
    """Results at n points. NaN or +-inf in ``value`` means that the member failed.

    With m > 1 objectives ``values`` has all of them; ``value`` is the first one, NaN if any of them is not finite.
    """

    value: Floats  # float[n], to be minimised
    grad: Floats | None = None  # float[n, d], with respect to the unit coordinates
    cost: Floats | None = None  # float[n], cost of the evaluation in units of the user
    constraint: Floats | None = None  # float[n, c], feasible where >= 0
    variance: Floats | None = None  # float[n], of ``value``, from replicates; float[n, m] of ``values``
    mask: Floats | None = None  # bool[n], False in padding rows
    values: Floats | None = None  # float[n, m], each to be minimised, with several objectives
    stages: Stages | None = None  # intermediate values, for the record: a strategy does not get them


def feasible_value(result: Evaluation, xp: ModuleType = jnp) -> tuple[Floats, Floats]:
    """Value and violation, ``float[n]`` each, for Deb's rules (2000): compare by violation, then by value.

    Both are +inf for failed members. The violation is 0 for feasible members, otherwise the sum of the absolute values
    of negative constraints. Pass NumPy as ``xp`` on the host, so that nothing is compiled.
    """
    lost = ~xp.isfinite(result.value)
    if result.mask is not None:
        lost = lost | ~result.mask
    value = xp.where(lost, xp.inf, result.value)
    if result.constraint is None or result.constraint.shape[-1] == 0:
        return value, xp.where(lost, xp.inf, xp.zeros_like(value))
    lacking = xp.where(xp.isnan(result.constraint), xp.inf, xp.maximum(-result.constraint, 0.0))
    return value, xp.where(lost, xp.inf, lacking.sum(axis=-1).astype(value.dtype))


def objective_values(result: Evaluation) -> Floats:
    """``float[n, m]``: all objectives, a single one as a column."""
    return result.value[:, None] if result.values is None else result.values


def lowest_feasible(result: Evaluation) -> tuple[jax.Array, jax.Array]:
    """The feasible row with the lowest value, ``int32[]``, and that value, ``float[]``.

    If no row is feasible, the first row and infinity.
    """
    value, violation = feasible_value(result)
    value = jnp.where(violation > 0, jnp.inf, value)
    return jnp.argmin(value), value.min()
