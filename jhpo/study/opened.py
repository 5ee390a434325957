"""Opening a study, new or stored, and closing it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Self

import numpy as np

from jhpo.errors import StorageError, check_flag, warn_caller
from jhpo.keys import root_key, words_of
from jhpo.objectives import Directions, Objectives, Sign, read_directions
from jhpo.process.interrupts import interruptible
from jhpo.space.space import Space
from jhpo.storage import Entry, EventLog, MemoryLog, open_log
from jhpo.storage.codec import pack
from jhpo.storage.shared import opened_by_first
from jhpo.storage.spec import make_from_spec
from jhpo.strategies import for_objectives
from jhpo.strategies.base import Strategy
from jhpo.study import header
from jhpo.study.bodies import body_of
from jhpo.study.events import Begin
from jhpo.study.fold import Fold
from jhpo.study.follower import Follower
from jhpo.study.ledger import Ledger
from jhpo.words.advice import advised


def _read(log: EventLog) -> tuple[EventLog, list[Entry]]:
    try:
        return log, log.read()
    except BaseException:
        log.close()
        raise


def _opened(storage: str | os.PathLike[str] | None, begin: Begin, resume: bool) -> tuple[EventLog, list[Entry]]:
    """The log at ``storage`` and its entries, of which the first is ``begin`` if there were none."""
    log = open_log(storage, create=True)
    try:
        with log.write():
            entries = log.read()
            if entries and not resume:
                how = "continue it (resume=True, --resume), or name another file"
                raise StorageError(f"{log.url} holds a study already: {how}")
            return log, entries or [log.append(begin.kind, body_of(begin))]
    except BaseException:
        log.close()
        raise


class Opened:
    """A study that is open: its space, strategy and log; see `jhpo.Study` for the arguments."""

    @interruptible()
    @advised
    def __init__(
        self,
        space: Space,
        strategy: Strategy | str | None = None,
        storage: str | os.PathLike[str] | None = None,
        seed: int = 0,
        direction: str = "minimize",
        *,
        directions: Directions | None = None,
        replicates: int = 1,
        folds: int = 1,
        fold_by_fold: bool = False,
        resume: bool = False,
        lease: float | None = None,
        max_retry: int = 3,
        shared: bool = False,
    ) -> None:
        for name, flag in (("resume", resume), ("shared", shared)):
            check_flag(name, flag)
        objectives = read_directions(directions, direction)
        stored_one = strategy is None  # unless the study is new
        strategy = header.check_arguments(space, strategy, seed, direction, replicates, folds, objectives, fold_by_fold)
        begin = header.make(space, strategy, seed, direction, replicates, folds, objectives, fold_by_fold)
        # raises whatever an invalid study raises before a file is created
        rehearsal = MemoryLog()
        self._open(rehearsal, [rehearsal.append(begin.kind, body_of(begin))], space, strategy, lease, max_retry)
        pack(body_of(begin))
        log, entries = opened_by_first(lambda: _opened(storage, begin, resume), shared)
        try:
            stored = header.read_begin(entries[0])
            # equal texts are whole, also those of trees that JSON cannot give back
            header.restore(stored, space if stored.space == begin.space else None, strategy, True)
            if stored_one and stored.strategy != begin.strategy:
                strategy = for_objectives(make_from_spec(stored.strategy), objectives)
                begin = dataclasses.replace(begin, strategy=stored.strategy)
            header.check_same(stored, begin, space)
            self._open(log, entries, space, strategy, lease, max_retry)
            self.warn_of_precision()
        except BaseException:
            log.close()
            raise

    @classmethod
    @interruptible()
    @advised
    def load(
        cls,
        storage: str | os.PathLike[str],
        *,
        space: Space | None = None,
        strategy: Strategy | str | None = None,
        read_only: bool = False,
        shared: bool = False,
        lease: float | None = None,
        max_retry: int = 3,
    ) -> Self:
        """The study in `storage`; a space with constraints, or a strategy of your own, has to be given again.

        Args:
            storage: path of a SQLite file or a database URL.
            space: the stored space; needed if it has constraints.
            strategy: the stored strategy; needed if it is not one of jhpo.
            read_only: open without write access.
            shared: as of `jhpo.Study`.
            lease, max_retry: see `jhpo.Study`.

        Raises:
            StorageError: there is none, or it is damaged or too new.
            ChangedSpace: the given space is not the stored one.
            InvalidArgument: the given strategy is not the stored one.
        """
        for name, flag in (("read_only", read_only), ("shared", shared)):
            check_flag(name, flag)
        self = cls.__new__(cls)
        log, entries = opened_by_first(lambda: _read(open_log(storage, create=False, read_only=read_only)), shared)
        try:
            if not entries:
                raise StorageError(f"{log.url} holds no study")
            found = header.restore(header.read_begin(entries[0]), space, strategy, read_only)
            self._open(log, entries, *found, lease, max_retry)
        except BaseException:
            log.close()
            raise
        return self

    def _open(
        self,
        log: EventLog,
        entries: Sequence[Entry],
        space: Space,
        strategy: Strategy,
        lease: float | None,
        max_retry: int,
    ) -> None:
        begin = header.read_begin(entries[0])
        self.space, self.strategy = space, strategy
        self.seed, self.direction = begin.seed, begin.direction
        self.replicates, self.folds, self.fold_by_fold = begin.replicates, begin.folds, begin.fold_by_fold
        self.root = root_key(self.seed)
        words = words_of(self.root)
        assert words is not None  # the root key is of JAX's usual generator
        self._words = words
        self._objectives = header.objectives_of(begin)
        if self._objectives is None:
            self.signs: Sign = 1.0 if self.direction == "minimize" else -1.0
        else:
            self.signs = self._objectives.signs
        self.sign = float(np.ravel(self.signs)[0])  # of the first objective
        follower = Follower(strategy, space, self.root, sign=self.signs, x64=begin.x64, repeats=self.repeats)
        self._ledger = Ledger(log, entries, follower, lease, max_retry)
        self._warned = False

    def warn_of_precision(self) -> None:
        """Warn once if JAX would give objectives other numbers than in the process that began the study."""
        begun, here = self.history.header, header.settings()
        words = {True: "in float64 (jax_enable_x64 on)", False: "in float32 (jax_enable_x64 off)"}
        found = [("jax_enable_x64", words[begun["x64"]], words[header.float64()])]
        for name, was in begun.get("settings", {}).items():  # earlier versions stored none
            found.append((name, f"with {name}={was}", f"with {name}={here.get(name, was)}"))
        for name, before, now in [] if self._warned else found:
            if before != now:
                self._warned = True
                warn_caller(
                    f"the study began {before} and goes on {now}: JAX objectives give other numbers "
                    f"than before; set {name} as it was to continue the same search"
                )

    @property
    def repeats(self) -> int:
        """Values of which a trial's is the mean: replicates times folds."""
        return self.replicates * self.folds

    @property
    def objectives(self) -> Objectives | None:
        """The directions of several objectives, and their names once known; None if there is only one objective."""
        found = self.history.layouts.get("objectives")
        return self._objectives if self._objectives is None or found is None else self._objectives.named(found["names"])

    @property
    def directions(self) -> tuple[str, ...]:
        """The direction of each objective, "minimize" or "maximize"."""
        return (self.direction,) if self._objectives is None else self._objectives.directions

    @property
    def history(self) -> Fold:
        """The fold over the log: trial columns and generations; read only."""
        return self._ledger.history

    @property
    def ledger(self) -> Ledger:
        """Transactions on the log, for code that runs trials without `ask` and `tell`."""
        return self._ledger

    def checkpoint(self) -> None:
        """Store the strategy's state, so that the next start need not replay the log."""
        self._ledger.checkpoint()

    def refresh(self) -> None:
        """Apply what other processes appended since the last call."""
        self._ledger.refresh()

    def close(self) -> None:
        """Checkpoint and release the storage."""
        self._ledger.close()

    def __reduce__(self) -> str:
        """Refuses to be pickled: a connection and a lease belong to one process.

        Raises:
            TypeError: always; it says what to do instead.
        """
        where = "jhpo.Study(space, strategy, storage, resume=True) or jhpo.Study.load(storage)"
        raise TypeError(f"a Study cannot be copied or sent to another process; open it there: {where}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
