"""The log of a study that is not stored: the same transactions, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jhpo.storage.codec import Entry


class MemoryLog:
    """Keeps nothing but the count: what was appended is already with the one study that uses it."""

    url: str | None = None
    read_only = False
    persistent = False

    def __init__(self) -> None:
        self.seq = 0
        self.identity = object()  # no other log is this one

    @contextmanager
    def write(self) -> Iterator[MemoryLog]:
        """A transaction: exclusive until the end of the block."""
        yield self

    def read(self) -> list[Entry]:
        """Events that others appended since the last call: there are no others."""
        return []

    def append(self, kind: str, body: dict[str, Any]) -> Entry:
        """Add an event."""
        event = Entry(self.seq, kind, body)
        self.seq += 1
        return event

    def save_snapshot(self, generation: int, data: bytes) -> None:
        """Nothing to survive."""

    def load_snapshots(self) -> list[tuple[int, bytes]]:
        """Stored snapshots, newest first: none."""
        return []

    def rewind(self) -> None:
        """Nobody could read it again."""
        raise AssertionError("a log in memory keeps no entries")

    def announce(self, worker: str, period: float) -> None:
        """There is nobody to tell."""

    def beat(self, worker: str, period: float) -> None:
        """There is nobody to tell."""

    def withdraw(self, worker: str) -> None:
        """There is nobody to tell."""

    def pulses(self) -> dict[str, tuple[float, float]]:
        """Signs of life of other workers: there are none."""
        return {}

    def close(self) -> None:
        """Nothing to release."""
