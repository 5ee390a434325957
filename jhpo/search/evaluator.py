"""The evaluator of one search: generations one by one, or many in one program where they take little time."""

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


class SearchEvaluator:
    """Evaluates what a search asks for, by the same instructions whether generations run one by one or together.

    Args:
        driver: the strategy; it stays where it is.
        evaluator: of the objective.
        sign: 1.0 to minimise, -1.0 to maximise; one each where there are several objectives.
        keep: which rows of generations that run together come back to the host.
        together: whether generations may run together at all.
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
        """Generations may run together."""
        return self._blocks is not None

    def evaluate(
        self, units: np.ndarray, ids: np.ndarray, request: Request, *, rows: int | None = None, member: int = 0
    ) -> Evaluation:
        """Rows of one generation; NumPy arrays in the user's own sign.

        Args:
            units: ``float[k, d]``.
            ids: ``uint32[k]``, from which their keys are made.
            request: what is wanted.
            rows: of the whole generation; the strategy's population if None.
            member: place of the first row in it.
        """
        if self._blocks is None:
            return self.evaluator.evaluate(units, ids, self._driver.root, request)
        return self._blocks.evaluate(units, ids, request, rows=rows, member=member)

    def next_cut(
        self, meter: Meter, place: Place, told: Told | None, *, room: int, trial: int, best: float
    ) -> Cut | None:
        """Evaluate the next generations together; None where the host has something to do first.

        The strategy and the meter stay where they are: the caller stores what was made, and then moves them.

        Args:
            meter: of the search.
            place: where the strategy stands.
            told: what it learns next; None before the first generation.
            room: evaluations that the budget allows.
            trial: number of the first trial.
            best: lowest feasible value of whole trainings so far, NaN before there is one.
        """
        strategy, blocks = self._driver.strategy, self._blocks
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
        if len(progress) < len(block.lowest):  # once more, up to the generation with which the search ends
            block = blocks.run(place, told, len(progress), room, trial, -np.inf)
            if block is None:
                return None
        made = int(_ends(block, rows, room)[-1])
        return Cut(block, trial, place.generation, rows, made, horizon, progress, stopped)


def _ends(block: Block, rows: int, room: int) -> np.ndarray:
    """``int64[g]``: evaluations in the block after each generation."""
    return np.minimum((1 + np.arange(len(block.lowest))) * rows, room)
