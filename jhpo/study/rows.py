"""The rows of a generation that are handed out next, to workers one by one or to a whole population."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jhpo.errors import SpaceExhausted
from jhpo.search.stopping import exhausted
from jhpo.study import events
from jhpo.study.fold import Fold
from jhpo.study.follower import Follower
from jhpo.trial import TrialTable


class NextRows(NamedTuple):
    """Rows of a generation to hand out together."""

    generation: int
    rows: int  # of the whole generation
    member: int  # first row
    id: int  # first trial
    units: np.ndarray  # float[k, d]; k is 0 where the caller has to wait for results
    streams: np.ndarray | None  # uint32[k], ids from which the keys are made; None where they are the trials' own
    horizon: float  # share of the training

    def key_ids(self) -> np.ndarray:
        """``uint32[k]``: the ids from which the evaluation keys are made."""
        return self.id + np.arange(len(self.units), dtype=np.uint32) if self.streams is None else self.streams


def next_rows(follower: Follower, history: Fold, n: int, some: bool) -> NextRows:
    """Up to `n` rows to hand out next; opens a generation if need be.

    Args:
        follower: the strategy, in step with the history.
        history: of the study.
        n: how many are wanted.
        some: whether the caller got trials already; a generation with pending results then stays open.

    Raises:
        SpaceExhausted: a finite search has no point left.
    """
    limit = follower.strategy.max_evaluations(follower.space)
    left = points_left(follower, history)
    if limit is not None and left is not None:
        n = min(n, left)
        if n <= 0 and not some:
            raise SpaceExhausted(exhausted(limit))
    if n <= 0:
        return _rows(follower, history, 0, 0)
    if history.handed < len(history.members):
        return _rows(follower, history, history.handed, min(n, len(history.members) - history.handed))
    # a generation with pending results is closed only for a caller who would get nothing otherwise
    if some and not follower.strategy.steady and not history.closing().told.all():
        return _rows(follower, history, 0, 0)
    units = follower.open(history)
    return _rows(follower, history, 0, min(n, len(units)))


def handed(table: TrialTable, event: events.Event) -> dict[int, int]:
    """The trials that an event hands out, to their attempts; nothing of other events."""
    if isinstance(event, events.Ask):
        return dict.fromkeys(range(event.id, event.id + len(event.units)), 0)
    if isinstance(event, events.Claim):
        return dict(zip(event.ids, table.attempt.array[event.ids].tolist()))
    return {}


def points_left(follower: Follower, history: Fold) -> int | None:
    """Points that a finite search has not handed out yet; None for an infinite one."""
    limit = follower.strategy.max_evaluations(follower.space)
    return None if limit is None else limit - int((history.table.generation.array >= 0).sum())


def _rows(follower: Follower, history: Fold, member: int, count: int) -> NextRows:
    """`count` rows of the strategy's generation from row `member` on."""
    first = history.table.size
    if not count:
        return NextRows(follower.generation, len(follower.units), member, first, follower.units[:0], None, 1.0)
    streams, usual = None, True
    if follower.fixes_keys:
        # ids of the generation's rows, had all of them been handed out in one go
        ids = np.arange(len(follower.units)) + (first - member)
        streams = follower.evaluation_ids(np.maximum(ids, 0))[member : member + count]
        usual = np.array_equal(streams, first + np.arange(count))
    return NextRows(
        generation=follower.generation - 1,
        rows=len(follower.units),
        member=member,
        id=first,
        units=follower.units[member : member + count],
        streams=None if usual else streams,  # a strategy may fix its members' randomness
        horizon=follower.request.horizon,
    )
