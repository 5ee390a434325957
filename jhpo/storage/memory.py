"""The log of a study that is not stored: the same transactions, in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jhpo.storage.codec import Event


class MemoryLog:
    """Keeps nothing but the count: what was appended is already with the one study that uses it."""

    url = None
    read_only = False
    persistent = False

    def __init__(self) -> None:
        self.seq = 0
        self.identity = object()  # no other log is this one

    @contextmanager
    def write(self) -> Iterator[MemoryLog]:
        """A transaction: exclusive until the end of the block."""
        yield self

    def read(self) -> list[Event]:
        """Events that others appended since the last call: there are no others."""
        return []

    def append(self, kind: str, body: dict) -> Event:
        """Add an event."""
        event = Event(self.seq, kind, body)
        self.seq += 1
        return event

    def save_snapshot(self, generation: int, data: bytes) -> None:
        """Nothing to survive."""

    def load_snapshots(self) -> list[tuple[int, bytes]]:
        """Stored snapshots, newest first: none."""
        return []

    def close(self) -> None:
        """Nothing to release."""
