"""The event log of a study in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jhpo.storage.codec import Entry


class MemoryLog:
    """Counts entries without keeping them: the only study that uses the log has them already."""

    url: str | None = None
    read_only = False
    persistent = False

    def __init__(self) -> None:
        self.seq = 0
        self.identity = object()  # different from every other log's

    @contextmanager
    def write(self) -> Iterator[MemoryLog]:
        """A transaction; nothing to do in memory."""
        yield self

    def read(self) -> list[Entry]:
        """Entries by others: none."""
        return []

    def append(self, kind: str, body: dict[str, Any]) -> Entry:
        """Adds an entry."""
        event = Entry(self.seq, kind, body)
        self.seq += 1
        return event

    def save_snapshot(self, generation: int, data: bytes) -> None:
        """Does nothing: there is nothing to resume from."""

    def load_snapshots(self) -> list[tuple[int, bytes]]:
        """Stored snapshots: none."""
        return []

    def rewind(self) -> None:
        """Not possible: entries are not kept."""
        raise AssertionError("a log in memory keeps no entries")

    def announce(self, worker: str, period: float) -> None:
        """Does nothing: there are no other workers."""

    def beat(self, worker: str, period: float) -> None:
        """Does nothing: there are no other workers."""

    def withdraw(self, worker: str) -> None:
        """Does nothing: there are no other workers."""

    def pulses(self) -> dict[str, tuple[float, float]]:
        """Heartbeats of other workers: none."""
        return {}

    def close(self) -> None:
        """Does nothing."""
