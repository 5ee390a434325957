"""The evaluator of one search: generations one by one, or many in one program if they are cheap."""

from __future__ import annotations

import numpy as np

from jhpo.evaluation.evaluators import Evaluator
from jhpo.evaluation.population import Population
from jhpo.objectives import Sign
from jhpo.search.blocks import Block, Blocks
from jhpo.search.cuts import Cut
from jhpo.search.driver import Driver, Place
from jhpo.search.generations import Told
from jhpo.search.keep import Keep
from jhpo.search.meter import Meter
from jhpo.strategies.base import Evaluation, Request

_MOST = 2**62  # evaluations that int64 holds; who means no limit may give more


class SearchEvaluator:
    """Evaluates generations of a search, with the same instructions whether they run one by one or together.

    Args:
        driver: of the strategy; its state is not changed.
        evaluator: of the objective.
        sign: 1.0 to minimise, -1.0 to maximise; one per objective if there are several.
        keep: which rows of generations that run together are returned to the host.
        together: whether generations may run together.
    """

    def __init__(
        self, driver: Driver, evaluator: Evaluator, sign: Sign, *, keep: Keep = "all", together: bool = True
    ) -> None:
        self.evaluator, self._driver = evaluator, driver
        self._blocks: Blocks | None = None
        if together and Blocks.possible(driver, evaluator):
            assert isinstance(evaluator, Population)
            self._blocks = Blocks(driver, evaluator, sign, keep=keep)

    @property
    def together(self) -> bool:
        """Whether generations may run together."""
        return self._blocks is not None

    def evaluate(
        self, units: np.ndarray, ids: np.ndarray, request: Request, *, rows: int | None = None, member: int = 0
    ) -> Evaluation:
        """Results of rows of one generation, as NumPy arrays in the user's sign.

        Args:
            units: ``float[k, d]``.
            ids: ``uint32[k]``, from which their keys are derived.
            request: of the strategy.
            rows: of the whole generation; the strategy's population if None.
            member: index of the first row in it.
        """
        if self._blocks is None:
            return self.evaluator.evaluate(units, ids, self._driver.root, request)
        return self._blocks.evaluate(units, ids, request, rows=rows, member=member)

    def next_cut(
        self, meter: Meter, place: Place, told: Told | None, *, room: int, trial: int, best: float
    ) -> Cut | None:
        """Evaluates the next generations together; None if the host has something to do first.

        The states of the strategy and the meter do not change: the caller stores the results first and then sets them.

        Args:
            meter: of the search.
            place: state of the strategy.
            told: the results to tell it next; None before the first generation.
            room: evaluations left in the budget.
            trial: number of the first trial.
            best: lowest feasible value of whole trainings so far, NaN before the first.
        """
        strategy, blocks, room = self._driver.strategy, self._blocks, min(room, _MOST)
        if blocks is None or room < 1:
            return None
        rows = strategy.population if told is None else len(told.units)
        count = blocks.length(place, rows, room, meter.seconds_left)
        if count < 1:
            return None
        target = -np.inf if meter.rules.target is None else meter.rules.target
        block = blocks.run(place, told, count, room, trial, target)
        if block is None:
            return None
        horizon = strategy.request(block.place.state).horizon
        progress, stopped = meter.foresee(
            _ends(block, rows, room), place.generation, best, block.lowest, horizon == 1.0
        )
        if len(progress) < len(block.lowest):  # again, up to the generation with which the search ends
            block = blocks.run(place, told, len(progress), room, trial, -np.inf)
            if block is None:
                return None
        made = int(_ends(block, rows, room)[-1])
        return Cut(block, trial, place.generation, rows, made, horizon, progress, stopped)


def _ends(block: Block, rows: int, room: int) -> np.ndarray:
    """``int64[g]``: evaluations of the block up to the end of each generation."""
    return np.minimum((1 + np.arange(len(block.lowest))) * rows, room)
