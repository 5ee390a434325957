"""Repair of damaged studies: every row has its own digest, so intact rows can be recovered."""

from __future__ import annotations

import os
import sqlite3
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
from jhpo.study.events import Ask, Attach, Batch, Begin, Enqueue, Event, Note, Repair, Results, Tell
from jhpo.study.fold import Fold
from jhpo.study.header import read_begin, restore
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
    become finished trials; trials without intact rows keep their numbers and become FAILED. The damaged file is kept
    next to the repaired one.

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
            saved, lost = _rest(history, entries[len(prefix) :], log)
            text = f"kept {counted(len(prefix), 'log row')} and {counted(saved, 'later result')}; "
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
    """Units and results of the trials after the gap."""

    def __init__(self, entries: list[Entry]) -> None:
        self.units: dict[int, np.ndarray] = {}
        self.horizons: dict[int, float] = {}
        self.results: dict[int, Results] = {}
        self.notes: list[Note] = []
        for entry in entries:
            event = read_event(entry)
            if isinstance(event, (Ask, Batch, Enqueue, Attach)):
                ids = range(event.id, event.id + len(event.units))
                self.units.update(zip(ids, event.units))
                self.horizons.update(dict.fromkeys(ids, event.horizon))
                if isinstance(event, (Batch, Attach)):
                    self.results.update((i, event.results.row(k)) for k, i in enumerate(ids))
            elif isinstance(event, Note):
                self.notes.append(event)
            elif isinstance(event, Tell):
                self.results.update((int(i), event.results.row(k)) for k, i in enumerate(event.ids))

    def trial(self, trial_id: int, dim: int) -> tuple[Attach, bool]:
        """A trial as a finished one, and whether it is intact."""
        whole = trial_id in self.units and trial_id in self.results
        unit = np.asarray(self.units.get(trial_id, np.full(dim, 0.5)))[None]
        results = self.results[trial_id] if whole else Results(np.asarray([np.nan]), {0: LOST})
        horizon = self.horizons.get(trial_id, 1.0)
        return Attach(trial_id, unit, results, 0.0, "repair", horizon=horizon), whole


def _rest(history: Fold, entries: list[Entry], log: SqlLog) -> tuple[int, int]:
    """Logs the results after the gap as absorbed ones; returns ``(saved, lost)``."""
    found = _Found(entries)
    known, saved, lost = history.table.size, 0, 0
    for trial_id in sorted(i for i in found.results if i < known):
        if history.table.state.array[trial_id] < TrialState.COMPLETE:
            _append(log, Tell(np.asarray([trial_id]), found.results[trial_id], 0.0))
            saved += 1
    for trial_id in range(known, max([known - 1, *found.units, *found.results]) + 1):
        attach, whole = found.trial(trial_id, history.dim)
        _append(log, attach)
        saved, lost = saved + whole, lost + (not whole)
        known = trial_id + 1
    for note in found.notes:
        if note.id < known:
            _append(log, note)
    return saved, lost


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
