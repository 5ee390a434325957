"""Repair of damaged studies: every row has its own digest, so intact rows can be recovered."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jhpo.errors import StorageError
from jhpo.storage import storage_url
from jhpo.storage.codec import Entry, digest, unpack
from jhpo.storage.database import sqlite_path
from jhpo.storage.schema import FORMAT
from jhpo.storage.sql import SqlLog
from jhpo.study.bodies import body_of, read_event
from jhpo.study.events import (
    KINDS,
    Ask,
    Attach,
    Batch,
    Begin,
    Enqueue,
    Event,
    Layout,
    Note,
    Repair,
    Report,
    Requeue,
    Results,
    Rung,
    Tell,
    Thaw,
)
from jhpo.study.fold import Fold
from jhpo.study.header import read_begin, restore
from jhpo.study.results import with_curves
from jhpo.trial import TrialState
from jhpo.words.markup import counted

LOST = "lost: its row in the storage was damaged"
# Largest gap of unreadable rows after which further rows are searched.
_GAP = 1000


class _Salvage(NamedTuple):
    """Contents of a damaged file."""

    entries: list[Entry]  # intact entries, in order
    expected: int  # number of rows that the log should have


def repair(storage: str | os.PathLike[str]) -> str:
    """Rewrites a damaged SQLite study from its intact rows; returns a report.

    Rows before the first damaged one are unchanged, so that the search can continue from there. Later intact results
    become finished trials; those whose point is intact, but no result, wait to be evaluated; trials without intact rows
    keep their numbers and become FAILED. The damaged file is kept next to the repaired one.

    Raises:
        StorageError: not a SQLite file, not readable, or without its first row, which describes the study.
    """
    path = sqlite_path(storage_url(storage))
    if path is None:
        raise StorageError("only SQLite files can be repaired; a database server has backups of its own")
    if not path.is_file():
        raise StorageError(f"there is no study at {path}")
    salvage = _read(path)
    entries = salvage.entries
    if not entries or entries[0].seq != 0 or entries[0].kind != Begin.kind:
        raise StorageError(f"{path} is beyond repair: the description of the study is gone; only a copy brings it back")
    prefix, history = _whole_prefix(entries)
    if len(prefix) == salvage.expected:
        return f"{path} is whole: {counted(len(prefix), 'log row')}, nothing to repair"
    fresh = path.with_name(path.name + ".repairing")
    for leftover in (fresh, Path(f"{fresh}-wal"), Path(f"{fresh}-shm")):
        leftover.unlink(missing_ok=True)
    log = SqlLog(storage_url(fresh), create=True)
    try:
        with log.write():
            for entry in prefix:
                log.append(entry.kind, entry.body)
            saved, waiting, lost = _rest(history, entries[len(prefix) :], log)
            text = f"kept {counted(len(prefix), 'log row')} and {counted(saved, 'later result')}; "
            if waiting:  # their points are there, and no result
                text += f"{counted(waiting, 'trial')} {'waits' if waiting == 1 else 'wait'} to be evaluated; "
            text += f"{counted(lost, 'trial')} {'was' if lost == 1 else 'were'} lost"
            if gone := salvage.expected - entries[-1].seq - 1:  # their trials leave no trace
                text += f", and what the last {counted(gone, 'log row')} said"
            _append(log, Repair(text))
    finally:
        log.close()
    kept = _set_aside(path)
    fresh.rename(path)
    return f"{path}: {text}. The damaged file is {kept}"


def _read(path: Path) -> _Salvage:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # lets SQLite open a truncated file: reading its missing pages fails individually
        connection.execute("PRAGMA writable_schema=ON")
        try:
            meta = dict(connection.execute("SELECT key, value FROM jhpo_meta"))
        except (sqlite3.DatabaseError, ValueError):
            meta = {}
        if meta.get("format", "").isdecimal() and int(meta["format"]) > FORMAT:
            raise StorageError(f"{path} has the newer storage format {meta['format']}: upgrade jhpo to repair it")
        expected = int(meta["head"].split(":")[0]) if meta.get("head", "").split(":")[0].isdecimal() else 0
        rows, last = _rows(connection, expected)
    except sqlite3.DatabaseError as error:
        raise StorageError(f"{path} is beyond repair: {error}") from error
    finally:
        connection.close()
    entries = []
    for seq, kind, body, mark in rows:
        if isinstance(kind, str) and isinstance(body, bytes) and digest(seq, kind, body) == mark:
            entries.append(Entry(seq, kind, unpack(body, f"log row {seq}")))
    return _Salvage(entries, max(expected, last + 1))


def _rows(connection: sqlite3.Connection, expected: int) -> tuple[list[tuple[Any, ...]], int]:
    """All readable rows, read one by one if reading them at once fails; and the number of the last."""
    query = "SELECT seq, kind, body, digest FROM jhpo_log"
    try:
        rows = connection.execute(f"{query} ORDER BY seq").fetchall()
        if len(rows) >= expected:
            return rows, max((r[0] for r in rows), default=-1)
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        rows = []
    rows, seq, missing = [], 0, 0
    while seq < expected or missing < _GAP:
        try:
            row = connection.execute(f"{query} WHERE seq = ?", (seq,)).fetchone()
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            row = None
        missing = 0 if row is not None else missing + 1
        rows += [row] if row is not None else []
        seq += 1
    return rows, max((r[0] for r in rows), default=-1)


def _whole_prefix(entries: list[Entry]) -> tuple[list[Entry], Fold]:
    """The rows before the first gap, and their fold."""
    space, _ = restore(read_begin(entries[0]), None, None, True)
    history, prefix = Fold(space.dim), list[Entry]()
    for entry in entries:
        if entry.seq != len(prefix):
            break
        history.apply(entry)
        prefix.append(entry)
    return prefix, history


class _Found:
    """What the rows after the gap say of trials; the members that were trained on are as they were at last."""

    def __init__(self, entries: list[Entry]) -> None:
        self.units: dict[int, np.ndarray] = {}
        self.exact: dict[int, dict[str, Any]] = {}
        self.horizons: dict[int, float] = {}
        self.times: dict[int, float] = {}
        self.results: dict[int, Results] = {}
        self.reports: dict[int, list[Report]] = {}
        self.others: list[Layout | Note] = []
        for entry in entries:
            if entry.kind not in KINDS:
                raise StorageError(f"log row {entry.seq}: unknown kind {entry.kind!r}; upgrade jhpo to repair it")
            self._see(read_event(entry))

    def _see(self, event: Event) -> None:
        if isinstance(event, (Ask, Batch, Enqueue, Attach)):
            ids = range(event.id, event.id + len(event.units))
            self.units.update(zip(ids, event.units))
            if isinstance(event, (Enqueue, Attach)):
                self.exact.update(zip(ids, event.exact))
            self.horizons.update(dict.fromkeys(ids, event.horizon))
            if isinstance(event, (Batch, Attach)):
                self._end(ids, event.results, event.end if isinstance(event, Batch) else event.time)
        elif isinstance(event, Tell):
            self._end(event.ids, event.results, event.time)
        elif isinstance(event, Rung):
            if event.units is not None:
                self.units.update(zip(np.asarray(event.ids).tolist(), event.units))
            self.horizons.update(dict.fromkeys(np.asarray(event.ids).tolist(), event.horizon))
            self._end(event.ids, event.results, event.end)
        elif isinstance(event, Thaw):
            self.units.update(zip(range(event.id, event.id + len(event.units)), event.units))
            trained = np.asarray(event.ids)[np.asarray(event.ids) >= 0]
            self.horizons.update(zip(trained.tolist(), (np.asarray(event.steps) / event.length).tolist()))
            self._end(trained, event.results, event.end)
        elif isinstance(event, Report):
            known = self.reports.setdefault(event.id, [])
            if known and event.step <= known[-1].step:  # it began anew
                known.clear()
            known.append(event)
        elif isinstance(event, Requeue):
            for trial_id in event.ids:
                self.reports.pop(trial_id, None)
        elif isinstance(event, (Layout, Note)):
            self.others.append(event)

    def _end(self, ids: Sequence[int] | np.ndarray, results: Results, time: float) -> None:
        for k, trial_id in enumerate(np.asarray(ids).tolist()):
            self.results[trial_id], self.times[trial_id] = results.row(k), time

    def trial(self, trial_id: int, dim: int) -> Attach | Enqueue:
        """A trial as a finished one, or as one that waits where only its point is known."""
        unit, horizon = self.units.get(trial_id, np.full(dim, 0.5))[None], self.horizons.get(trial_id, 1.0)
        exact = [self.exact.get(trial_id, {})]
        if trial_id in self.units and trial_id not in self.results:
            return Enqueue(trial_id, unit, time.time(), exact, horizon)
        if trial_id not in self.units:
            return Attach(trial_id, unit, Results(np.asarray([np.nan]), {0: LOST}), time.time(), "repair")
        results, curve = self.results[trial_id], {r.step: r.value for r in self.reports.get(trial_id, ())}
        if curve and results.steps is None:
            results = with_curves(results, [curve])
        return Attach(trial_id, unit, results, self.times[trial_id], "repair", exact, horizon)


class _Counts(NamedTuple):
    """Trials after the gap."""

    saved: int
    waiting: int  # to be evaluated again
    lost: int


def _rest(history: Fold, entries: list[Entry], log: SqlLog) -> _Counts:
    """Logs the results after the gap as absorbed ones."""
    found = _Found(entries)
    known, saved, waiting, lost = history.table.size, 0, 0, 0
    for event in found.others:
        if isinstance(event, Layout):
            _append(log, event)
    for trial_id in sorted(i for i in found.results if i < known):
        if history.table.state.array[trial_id] < TrialState.COMPLETE:
            last = max(history.table.curve_of(trial_id), default=-1)
            for report in found.reports.get(trial_id, ()):
                if trial_id in history.running and report.step > last:
                    _append(log, report)
            _append(log, Tell(np.asarray([trial_id]), found.results[trial_id], found.times[trial_id]))
            saved += 1
    for trial_id in range(known, max([known - 1, *found.units, *found.results]) + 1):
        made = found.trial(trial_id, history.dim)
        _append(log, made)
        waits = isinstance(made, Enqueue)
        gone = trial_id not in found.units
        saved, waiting, lost = saved + (not waits and not gone), waiting + waits, lost + gone
        known = trial_id + 1
    for event in found.others:
        if isinstance(event, Note) and event.id < known:
            _append(log, event)
    return _Counts(saved, waiting, lost)


def _append(log: SqlLog, event: Event) -> None:
    log.append(event.kind, body_of(event))


def _set_aside(path: Path) -> Path:
    """Renames the damaged file and SQLite's files next to it; returns the new path."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged{number}")).exists():
        number += 1
    path.rename(kept)
    for end in ("-wal", "-shm"):
        beside = Path(f"{path}{end}")
        if beside.exists():
            beside.rename(f"{kept}{end}")
    return kept
