"""Members of a population side by side in one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax

from jhpo.kernels.columns import by_columns
from jhpo.kernels.lapack import lapack_in_turn
from jhpo.programs.devices import default_devices

F = TypeVar("F", bound=Callable[..., Any])


def all_members(member: F, graded: bool = False) -> F:
    """What a function computes for one member, for all of them: rows of its arguments to rows of its results.

    All programs that train members go through it, so that a training that is stopped and continued in another one
    rounds as the whole one does.

    Args:
      member: of the arrays of one member and trees of them.
      graded: whether it computes gradients with respect to hyperparameters, whose saved states stay as they are.
    """
    one = lapack_in_turn(member)
    on_cpu = default_devices()[0].platform == "cpu"
    return jax.vmap(by_columns(one) if on_cpu and not graded else one)
