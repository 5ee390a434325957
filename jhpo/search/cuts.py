"""A block of generations, cut where the search ends."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jhpo.search.blocks import Block
from jhpo.search.generations import Made
from jhpo.search.record import Rows
from jhpo.search.stopping import Progress


class Cut(NamedTuple):
    """A block of a search; if a stop rule holds in it, its last generation is the one that meets it."""

    block: Block
    trial: int  # number of the first trial
    generation: int  # of the first trial
    rows: int  # per generation
    evaluations: int  # that count; the last generation may count in part
    horizon: float  # fraction of the training
    progress: list[Progress]  # of the search after each generation
    stopped: str | None  # why the search ends with this block

    def leaders(self) -> Rows:
        """The best trial of each generation."""
        return self._rows(self.block.leaders, len(self.block.lowest))

    def everything(self) -> Rows:
        """Every trial, or the leaders if only those are kept."""
        made = self.block.made
        return self.leaders() if made is None else self._rows(made, self.evaluations)

    def _rows(self, made: Made, count: int) -> Rows:
        numbers = self.trial + np.arange(len(made.rows))[:, None] * self.rows + made.rows
        generation = self.generation + np.arange(len(numbers), dtype=np.int32)[:, None]

        def flat(x: np.ndarray) -> np.ndarray:  # without a copy; rows that do not count are last
            return x.reshape(-1, *x.shape[2:])[:count]

        return Rows(
            units=np.empty((0, self.block.leaders.units.shape[-1])) if made.units is None else flat(made.units),
            result=jax.tree.map(flat, made.result),
            ids=flat(made.streams),
            numbers=flat(numbers),
            generation=flat(np.broadcast_to(generation, numbers.shape)),
            horizon=np.full(count, self.horizon),
        )
