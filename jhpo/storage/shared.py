"""The log of a study that several processes of `jax.distributed` run together: process 0 alone reads and writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jhpo.errors import StorageError
from jhpo.programs.devices import from_first
from jhpo.storage.codec import Entry, pack, unpack
from jhpo.storage.log import EventLog
from jhpo.storage.memory import MemoryLog


class FollowingLog(MemoryLog):
    """The log of a process that does not write: what process 0 read at first, then what happens here."""

    def __init__(self, entries: list[Entry]) -> None:
        super().__init__()
        self.seq = len(entries)


def opened_by_first(opens: Callable[[], tuple[EventLog, list[Entry]]], shared: bool) -> tuple[EventLog, list[Entry]]:
    """A log and its entries, which process 0 opens; the other processes get the same entries.

    Args:
      opens: opens the log and reads it.
      shared: whether the processes of `jax.distributed` run the study together; otherwise each opens it for itself.

    Raises:
      StorageError: process 0 could not open it, in all processes; whatever ``opens`` raises.
    """
    if not shared or jax.process_count() == 1:
        return opens()
    if jax.process_index():
        sent = unpack(from_first(None))
        if sent["error"]:
            raise StorageError(f"process 0 could not open the study: {sent['error']}")
        entries = [Entry(int(seq), str(kind), body) for seq, kind, body in sent["entries"]]
        return FollowingLog(entries), entries
    try:
        log, entries = opens()
    except BaseException as error:
        from_first(pack({"error": repr(error), "entries": []}))  # the others would wait forever
        raise
    body: dict[str, Any] = {"error": "", "entries": [[e.seq, e.kind, e.body] for e in entries]}
    from_first(pack(body))
    return log, entries
