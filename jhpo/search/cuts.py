"""A block of generations that ends where the search ends."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jhpo.search.blocks import Block
from jhpo.search.generations import Made
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
