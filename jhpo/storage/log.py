"""What a study needs of the place where its events are kept."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from jhpo.storage.codec import Entry


class EventLog(Protocol):
    """An append-only log with exclusive transactions, snapshots of states, and signs of life of its workers."""

    persistent: bool  # what is appended outlives the process
    read_only: bool
    seq: int  # entries read or appended so far: the place of the next one

    @property
    def url(self) -> str | None:
        """Where it is, for people; None in memory."""
        ...

    @property
    def identity(self) -> Hashable:
        """The same for every log of this process that writes to the same place."""
        ...

    def write(self) -> AbstractContextManager[object]:
        """A transaction: `read` what is new, `append`; all of it durable at the end of the block, or none."""
        ...

    def read(self) -> list[Entry]:
        """Verified entries that are new since the last call, oldest first."""
        ...

    def rewind(self) -> None:
        """Let the next `read` begin with the first entry again."""
        ...

    def append(self, kind: str, body: dict[str, Any]) -> Entry:
        """Add an entry to the running `write` transaction."""
        ...

    def save_snapshot(self, generation: int, data: bytes) -> None:
        """Keep the strategy's state at the start of `generation`."""
        ...

    def load_snapshots(self) -> list[tuple[int, bytes]]:
        """Whole snapshots as ``(generation, bytes)``, newest first."""
        ...

    def announce(self, worker: str, period: float) -> None:
        """In the running `write` transaction: `worker` is at work, and will `beat` every `period` seconds."""
        ...

    def beat(self, worker: str, period: float) -> None:
        """`worker` is still at work; may come from a thread of its own."""
        ...

    def withdraw(self, worker: str) -> None:
        """`worker` no longer works on anything."""
        ...

    def pulses(self) -> dict[str, tuple[float, float]]:
        """``(time of the last beat, period)`` of every worker that announced itself."""
        ...

    def close(self) -> None:
        """Release it."""
        ...
