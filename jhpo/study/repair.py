"""Save what is whole of a damaged study: each row has its own digest, so the loss of some does not cost the rest."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jhpo.errors import StorageError
from jhpo.storage import storage_url
from jhpo.storage.codec import Event, digest, unpack
from jhpo.storage.schema import FORMAT
from jhpo.storage.sql import SqlLog, sqlite_path
from jhpo.study.header import restore
from jhpo.study.history import History
from jhpo.trial import TrialState

LOST = "lost: its row in the storage was damaged"
# Rows beyond the last readable one are looked for this far; what is further apart is beyond repair.
_GAP = 1000


class _Salvage(NamedTuple):
    """What the damaged file still holds."""

    events: list[Event]  # whole ones, in order
    expected: int  # rows the log should have


def repair(storage: str | os.PathLike[str]) -> str:
    """Rewrite a damaged SQLite study from its whole rows; returns a report.

    Rows up to the first damaged one stay as they are, so the search can go on from there. Later results that are
    whole are kept as finished trials; trials whose rows are gone keep their numbers and become FAILED. The
    damaged file is kept beside the repaired one.

    Raises:
        StorageError: not a SQLite file, nothing readable in it, or its first row (what is searched) is gone.
    """
    path = sqlite_path(storage_url(storage))
    if path is None:
        raise StorageError("only SQLite files can be repaired; a database server has backups of its own")
    if not path.is_file():
        raise StorageError(f"there is no study at {path}")
    salvage = _read(path)
    events = salvage.events
    if not events or events[0].seq != 0 or events[0].kind != "study":
        raise StorageError(f"{path} is beyond repair: the description of the study is gone")
    prefix, history = _whole_prefix(events)
    if len(prefix) == salvage.expected:
        return f"{path} is whole: {len(prefix)} log rows, nothing to repair"
    fresh = path.with_name(path.name + ".repairing")
    for leftover in (fresh, Path(f"{fresh}-wal"), Path(f"{fresh}-shm")):
        leftover.unlink(missing_ok=True)
    log = SqlLog(storage_url(fresh), create=True)
    try:
        with log.write():
            for event in prefix:
                log.append(event.kind, event.body)
            saved, lost = _rest(history, events[len(prefix) :], log)
            text = f"kept {len(prefix)} log rows and {saved} later results; {lost} trials were lost"
            log.append("repair", {"text": text})
    finally:
        log.close()
    kept = _set_aside(path)
    fresh.rename(path)
    return f"{path}: {text}. The damaged file is {kept}"


def _read(path: Path) -> _Salvage:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # lets SQLite open a file that was cut off: its missing pages fail one by one
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
    events = []
    for seq, kind, body, mark in rows:
        if isinstance(kind, str) and isinstance(body, bytes) and digest(seq, kind, body) == mark:
            events.append(Event(seq, kind, unpack(body, f"log row {seq}")))
    return _Salvage(events, max(expected, last + 1))


def _rows(connection: sqlite3.Connection, expected: int) -> tuple[list[tuple[Any, ...]], int]:
    """Every row that can be read, one by one where reading them in a go fails."""
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


def _whole_prefix(events: list[Event]) -> tuple[list[Event], History]:
    """The rows before the first gap, and their fold."""
    space, _ = restore(events[0], None, None, True)
    history, prefix = History(space.dim), list[Event]()
    for event in events:
        if event.seq != len(prefix):
            break
        history.apply(event)
        prefix.append(event)
    return prefix, history


def _rest(history: History, events: list[Event], log: SqlLog) -> tuple[int, int]:
    """Log the results behind the gap as foreign ones; ``(saved, lost)``."""
    units: dict[int, np.ndarray] = {}
    results: dict[int, tuple[dict[str, Any], int]] = {}
    horizons: dict[int, float] = {}
    for event in events:
        body = event.body
        if event.kind in ("ask", "batch", "enqueue", "attach"):
            units.update({body["id"] + k: row for k, row in enumerate(body["units"])})
            horizons.update(dict.fromkeys(range(body["id"], body["id"] + len(body["units"])), body.get("horizon", 1.0)))
        if event.kind in ("batch", "attach"):
            results.update({body["id"] + k: (body["results"], k) for k in range(len(body["units"]))})
        if event.kind == "tell":
            results.update({int(i): (body["results"], k) for k, i in enumerate(body["ids"])})
    known, saved = history.table.size, 0
    for trial_id in sorted(i for i in results if i < known):
        if history.table.state.array[trial_id] < TrialState.COMPLETE:
            log.append("tell", {"ids": np.asarray([trial_id]), "results": _one(*results[trial_id]), "time": 0.0})
            saved += 1
    lost = 0
    for trial_id in range(known, max([known - 1, *units, *results]) + 1):
        whole = trial_id in units and trial_id in results
        unit = units.get(trial_id, np.full(history.dim, 0.5))
        result = _one(*results[trial_id]) if whole else {"value": np.asarray([np.nan]), "reasons": {0: LOST}}
        body = {"id": trial_id, "units": np.asarray(unit)[None], "results": result, "time": 0.0, "source": "repair"}
        if horizons.get(trial_id, 1.0) != 1.0:
            body["horizon"] = horizons[trial_id]
        log.append("attach", body)
        saved, lost = saved + whole, lost + (not whole)
    return saved, lost


def _one(results: dict[str, Any], place: int) -> dict[str, Any]:
    """The results of one trial of several."""
    reasons = {int(k): v for k, v in results["reasons"].items()}
    out: dict[str, Any] = {"reasons": {0: reasons[place]} if place in reasons else {}}
    return out | {k: np.asarray(v)[place : place + 1] for k, v in results.items() if k != "reasons"}


def _set_aside(path: Path) -> Path:
    """Move the damaged file, and what SQLite keeps beside it, out of the way."""
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged{number}")).exists():
        number += 1
    path.rename(kept)
    for end in ("-wal", "-shm"):
        beside = Path(f"{path}{end}")
        if beside.exists():
            beside.rename(f"{kept}{end}")
    return kept
