"""The strategy of a search that names none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jhpo.space.space import Space
    from jhpo.strategies.base import Strategy

FEW = 200  # evaluations, up to which a model of the objective is worth its time
SMALL = 500  # evaluations, below which a swarm of forty hardly moves
_WIDE = 200  # coordinates, up to which `BayesOpt` was measured
_ROUNDS = 8  # at least so many batches, or what the first one tells comes too late
AT_ONCE = 8  # points of a batch where evaluations run side by side


def usual(space: Space, budget: int | None = None, *, several: bool = False, at_once: int = AT_ONCE) -> Strategy:
    """The default strategy: Bayesian optimisation for few evaluations, a population for many.

    ``docs/strategies/index.md`` has the measurements.

    Args:
      space: what is searched.
      budget: number of evaluations; None if it is not known, as when a study is made.
      several: whether there are several objectives.
      at_once: how many evaluations run side by side at most.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    >>> [type(usual(space, n)).__name__ for n in (None, 50, 400, 5000)]
    ['BayesOpt', 'BayesOpt', 'PSO', 'PSO']
    >>> [usual(space, n).population for n in (10, 50, 200, 400, 5000)]
    [1, 6, 8, 10, 40]
    """
    few = budget is None or budget <= FEW
    if few and space.dim <= _WIDE:
        from jhpo.strategies.bayes.strategy import BayesOpt

        return BayesOpt(batch=1 if budget is None else max(min(at_once, budget // _ROUNDS), 1))
    if several:
        from jhpo.strategies.nsga2 import NSGA2

        return NSGA2() if budget is None or budget >= 512 else NSGA2(max(budget // 16 * 2, 8))
    from jhpo.strategies.pso import PSO

    # a swarm has to move about twenty times
    return PSO() if budget is None or budget >= SMALL else PSO(10, variant="gbest")
