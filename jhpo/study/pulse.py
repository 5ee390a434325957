"""The heartbeat of a process that works on trials, which keeps its lease valid."""

from __future__ import annotations

import threading
import warnings
import weakref
from typing import Any

from jhpo.errors import StorageError
from jhpo.storage import EventLog

_SHORTEST = 0.1  # least seconds between heartbeats, each of which is a write that waits for the disk
MISSED = 3  # heartbeats that may be missed before a worker counts as silent


def beat_seconds(lease: float | None) -> float:
    """Seconds between heartbeats, a quarter of the lease; 0 without one."""
    return 0.0 if lease is None else max(lease / 4, _SHORTEST)


class Pulse:
    """A thread that renews the lease of this process as long as `owner` lives and holds trials.

    Args:
        owner: has `holding()`; only a weak reference is kept.
        log: for the heartbeats, which use a separate connection.
        worker: name of this process.
        seconds: between heartbeats.
    """

    def __init__(self, owner: Any, log: EventLog, worker: str, seconds: float) -> None:
        self._owner, self._log, self._worker, self._seconds = weakref.ref(owner), log, worker, seconds
        self._end = threading.Event()
        weakref.finalize(owner, self._end.set)
        threading.Thread(target=self._run, name="jhpo-pulse", daemon=True).start()

    def stop(self) -> None:
        """Stops the heartbeat."""
        self._end.set()

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            owner = self._owner()
            if owner is None:
                return
            holding = owner.holding()
            del owner
            if holding:
                try:
                    self._log.beat(self._worker, self._seconds)
                except StorageError as error:
                    if not self._end.is_set():
                        warnings.warn(f"the lease of this process's trials was not renewed: {error}", stacklevel=1)
