"""A block of generations that ends where the search ends."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jhpo.search.blocks import Block, Blocks
from jhpo.search.driver import Place
from jhpo.search.generations import Made, Told
from jhpo.search.meter import Meter
from jhpo.search.record import Rows
from jhpo.search.stopping import Progress


class Cut(NamedTuple):
    """A block of a search, its last generation the one in which a stop rule holds, if one does."""

    block: Block
    trial: int  # number of the first one
    generation: int  # of the first trial
    rows: int  # of a generation
    evaluations: int  # that count: the last generation may do so in part
    horizon: float  # share of the training
    progress: list[Progress]  # of the search after each generation
    stopped: str | None  # why the search ends with it

    def leaders(self) -> Rows:
        """The best trial of each generation."""
        return self._rows(self.block.leaders, len(self.block.lowest))

    def everything(self) -> Rows:
        """Every trial, or the leaders where they are kept alone."""
        made = self.block.made
        return self.leaders() if made is None else self._rows(made, self.evaluations)

    def _rows(self, made: Made, count: int) -> Rows:
        numbers = self.trial + np.arange(len(made.rows))[:, None] * self.rows + made.rows
        generation = self.generation + np.arange(len(numbers), dtype=np.int32)[:, None]

        def flat(x: np.ndarray) -> np.ndarray:  # without a copy; what does not count stands at the end
            return x.reshape(-1, *x.shape[2:])[:count]

        return Rows(
            units=np.empty((0, self.block.leaders.units.shape[-1])) if made.units is None else flat(made.units),
            result=jax.tree.map(flat, made.result),
            ids=flat(made.streams),
            numbers=flat(numbers),
            generation=flat(np.broadcast_to(generation, numbers.shape)),
            horizon=np.full(count, self.horizon),
        )


def next_cut(
    blocks: Blocks, meter: Meter, place: Place, told: Told | None, *, room: int, trial: int, best: float
) -> Cut | None:
    """Evaluate the next generations of a search; None where the host has something to do first.

    The strategy and the meter stay where they are: the caller stores what was made, and then moves them.

    Args:
        blocks: what runs them.
        meter: of the search.
        place: where the strategy stands.
        told: what it learns next; None before the first generation.
        room: evaluations that the budget allows.
        trial: number of the first trial.
        best: lowest feasible value of whole trainings so far, NaN before there is one.
    """
    strategy = blocks.driver.strategy
    rows = strategy.population if told is None else len(told.units)
    count = blocks.length(place, rows, room, meter.seconds_left)
    if count < 1:
        return None
    target = -np.inf if meter.rules.target is None else meter.rules.target
    block = blocks.run(place, told, count, room, trial, target)
    if block is None:
        return None
    horizon = strategy.request(block.place.state).horizon
    progress, stopped = meter.foresee(_ends(block, rows, room), place.generation, best, block.lowest, horizon == 1.0)
    if len(progress) < len(block.lowest):  # once more, up to the generation with which the search ends
        block = blocks.run(place, told, len(progress), room, trial, -np.inf)
        if block is None:
            return None
    made = int(_ends(block, rows, room)[-1])
    return Cut(block, trial, place.generation, rows, made, horizon, progress, stopped)


def _ends(block: Block, rows: int, room: int) -> np.ndarray:
    """``int64[g]``: evaluations in the block after each generation."""
    return np.minimum((1 + np.arange(len(block.lowest))) * rows, room)
