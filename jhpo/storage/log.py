"""The interface of an event log."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from jhpo.storage.codec import Entry


class EventLog(Protocol):
    """An append-only log with exclusive transactions, snapshots of states, and heartbeats of workers."""

    persistent: bool  # entries outlive the process
    read_only: bool
    seq: int  # entries read or appended so far: the position of the next one

    @property
    def url(self) -> str | None:
        """The location, for messages; None in memory."""
        ...

    @property
    def identity(self) -> Hashable:
        """Equal for all logs of this process that write to the same place."""
        ...

    def write(self) -> AbstractContextManager[object]:
        """A transaction in which to `read` and `append`: at the end of the block everything is durable, or nothing."""
        ...

    def read(self) -> list[Entry]:
        """Entries added since the last call, verified, oldest first."""
        ...

    def rewind(self) -> None:
        """Makes the next `read` start from the first entry."""
        ...

    def append(self, kind: str, body: dict[str, Any]) -> Entry:
        """Adds an entry within a `write` transaction."""
        ...

    def save_snapshot(self, generation: int, data: bytes) -> None:
        """Stores the strategy's state at the start of `generation`."""
        ...

    def load_snapshots(self) -> list[tuple[int, bytes]]:
        """Intact snapshots as ``(generation, bytes)``, newest first."""
        ...

    def announce(self, worker: str, period: float) -> None:
        """Registers a worker, which will `beat` every `period` seconds; within a `write` transaction."""
        ...

    def beat(self, worker: str, period: float) -> None:
        """Heartbeat of a worker; may come from another thread."""
        ...

    def withdraw(self, worker: str) -> None:
        """Unregisters a worker."""
        ...

    def pulses(self) -> dict[str, tuple[float, float]]:
        """``(time of the last heartbeat, period)`` of every registered worker."""
        ...

    def close(self) -> None:
        """Releases the log."""
        ...
