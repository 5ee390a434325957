"""Whose training a member of a population goes on from: its ancestry, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jhpo.errors import invalid
from jhpo.space.space import Space
from jhpo.training.replay import Schedule
from jhpo.trial import TrialTable


class Lineage(NamedTuple):
    """The trainings of members that take over from one another; arrays by the step at the end of each part.

    Members are counted by their ids.
    """

    sources: Mapping[int, np.ndarray]  # int64[n], whose training each one goes on with; its own id at the beginning
    units: Mapping[int, np.ndarray]  # float[n, d], its hyperparameters in the part


class Ancestry(NamedTuple):
    """What k members were trained with, from the beginning: the parts of their ancestors' trainings."""

    origins: np.ndarray  # int64[k], who began the training: its key is that of this id
    stops: np.ndarray  # int64[p], steps at the end of the parts
    members: np.ndarray  # int64[p, k], who was trained in the part
    units: np.ndarray  # float[p, k, d]


def ancestry(lineage: Lineage, ids: np.ndarray, stops: np.ndarray) -> Ancestry:
    """How members came to be what they are, back from their last part to the first.

    Args:
      lineage: of all members.
      ids: ``int64[k]``.
      stops: ``int64[p]``, the ends of the parts that all of them went through, ascending.

    >>> sources = {2: np.array([0, 1, 2]), 4: np.array([0, 0, 2]), 6: np.array([1, 1, 0])}
    >>> units = {stop: np.arange(3.0)[:, None] + stop for stop in sources}
    >>> found = ancestry(Lineage(sources, units), np.array([0, 2]), np.array([2, 4, 6]))
    >>> found.origins.tolist(), found.members.tolist(), found.units[..., 0].tolist()
    ([0, 0], [[0, 0], [1, 0], [0, 2]], [[2.0, 2.0], [5.0, 4.0], [6.0, 8.0]])
    """
    now = np.asarray(ids, np.int64)
    members, units = [], []
    for stop in np.asarray(stops).tolist()[::-1]:
        members.append(now)
        units.append(lineage.units[stop][now])
        now = lineage.sources[stop][now]
    return Ancestry(now, np.asarray(stops, np.int64), np.stack(members[::-1]), np.stack(units[::-1]))


def schedule_of(space: Space, lineage: Lineage, trial: int) -> Schedule:
    """The schedule of one member of an evolving population."""
    stops = np.array([stop for stop in sorted(lineage.sources) if lineage.sources[stop][trial] >= 0], np.int64)
    if not len(stops):
        raise invalid("trial", "a member of the population", trial)
    found = ancestry(lineage, np.array([trial]), stops)
    return Schedule(space, found.stops, found.units[:, 0], found.members[:, 0], int(found.origins[0]))


def lineage_of(table: TrialTable) -> Lineage | None:
    """Whose training the members of an evolving population continued; None in other studies."""
    if not table.source:
        return None
    return Lineage(*({step: column.array for step, column in part.items()} for part in (table.source, table.steered)))
