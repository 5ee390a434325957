"""Which search an objective and a strategy need."""

from __future__ import annotations

import jax.numpy as jnp

from jhpo.errors import JhpoError
from jhpo.evaluation.evaluators import Objective
from jhpo.evaluation.executors import HostObjective
from jhpo.kernels.internals import is_traced
from jhpo.process.interrupts import interruptible
from jhpo.search.hosted import HostSearch
from jhpo.search.memory import MemorySearch
from jhpo.search.options import Options
from jhpo.search.result import Result
from jhpo.search.starts import read_starts
from jhpo.space.given import check_space
from jhpo.space.space import Space
from jhpo.strategies import as_strategy, for_objectives
from jhpo.strategies.base import Strategy
from jhpo.strategies.usual import AT_ONCE, usual
from jhpo.training.metrics import check_direction, check_directions


@interruptible()
def search(
    objective: Objective, space: Space, strategy: Strategy | str | None, direction: str, options: Options
) -> Result:
    """Search for the best hyperparameters; see `jhpo.minimize`.

    Raises:
        InvalidArgument: an invalid argument, before anything is compiled.
        InvalidParameters: a starting point outside the space.
    """
    try:
        return _search(objective, space, strategy, direction, options)
    except TypeError as error:  # of JAX, about a tracer
        # asked about only now: an objective may make such an error itself
        if is_traced(jnp.zeros(())) or is_traced(options.key):
            name = "minimize" if direction == "minimize" else "maximize"
            raise JhpoError(
                f"{name}: expected a call outside of jit, vmap, scan and the like, as a host drives the search; "
                "jhpo.run(strategy, objective, space, generations, key) is a search inside of a program"
            ) from error
        raise


def _search(
    objective: Objective, space: Space, strategy: Strategy | str | None, direction: str, options: Options
) -> Result:
    check_space(space)
    objectives = options.objectives
    at_once = 1 if isinstance(objective, HostObjective) else AT_ONCE
    if strategy is None:
        strategy = usual(space, options.budget, several=objectives is not None, at_once=at_once)
    strategy = as_strategy(strategy)
    if objectives is None:
        check_direction(objective, options.metric, direction)
    else:
        check_directions(objective, objectives)
    strategy = for_objectives(strategy, objectives)
    starts = read_starts(space, options.start, options.budget)
    sign = 1.0 if direction == "minimize" else -1.0
    if strategy.pauses:
        from jhpo.search.rungs import RungSearch

        return RungSearch(objective, space, strategy, sign, options).run(starts)
    if strategy.thaws:
        from jhpo.search.thaw import ThawSearch

        return ThawSearch(objective, space, strategy, sign, options).run(starts)
    if isinstance(objective, HostObjective):
        return HostSearch(objective, space, strategy, sign, options).run(starts)
    return MemorySearch(objective, space, strategy, sign, options).run(starts)
