"""Members that were paused and continued, trained once more in the programs that trained them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from jhpo.evaluation.continuing import Continuing, Part
from jhpo.evaluation.lineage import Lineage, ancestry
from jhpo.evaluation.population import Population
from jhpo.evaluation.retraining import warn_of_others


class Repeater:
    """Makes trained states of the members of a search again.

    Args:
      population: that trained them.
      widths: by the step at the end of a rung, ``int[n]``: of the program that trained each member to it, 0 where none
        did. Members are counted by their ids.
      lineage: of members that took over from one another.
    """

    def __init__(
        self, population: Population, widths: Mapping[int, np.ndarray], lineage: Lineage | None = None
    ) -> None:
        self.population, self.trainable = population, population.trainable
        self._widths, self._lineage = widths, lineage

    def states(
        self,
        units: ArrayLike,
        ids: ArrayLike,
        root: jax.Array,
        values: ArrayLike | None = None,
        horizons: ArrayLike = 1.0,
    ) -> list[Any]:
        """Trained states of a few members after their last rung; see `Population.states`."""
        units, ids = self.population.checked(units, ids)
        stops = sorted(self._widths)
        width = np.stack([self._widths[stop][ids] for stop in stops], axis=1)
        out: list[Any] = [None] * len(ids)
        found = np.full(len(ids), np.nan)
        for passed in np.unique(width > 0, axis=0):
            rows = np.flatnonzero(((width > 0) == passed).all(axis=1))
            members = Continuing(self.population)
            parts, begun = self.parts(units[rows], ids[rows], np.asarray(stops)[passed])
            found[rows] = members.again(parts, begun, root).value
            for row, state in zip(rows.tolist(), members.states(np.arange(len(rows)))):
                out[row] = state
        if values is not None:
            warn_of_others(np.asarray(values, found.dtype), found)
        return out

    def parts(self, units: np.ndarray, ids: np.ndarray, stops: np.ndarray) -> tuple[list[Part], np.ndarray]:
        """How members were trained, and the ids from which their keys were made, ``int[k]``.

        Args:
          units: ``float[k, d]``, their hyperparameters.
          ids: ``int[k]``.
          stops: ``int[p]``, the ends of the parts that all of them went through.
        """
        if self._lineage is None:
            return [Part(units, stop, self._widths[stop][ids]) for stop in stops.tolist()], ids
        found = ancestry(self._lineage, ids, stops)
        widths = [self._widths[stop][members] for stop, members in zip(stops.tolist(), found.members)]
        return [Part(*part) for part in zip(found.units, stops.tolist(), widths)], found.origins
