"""Names of workers, and whether a worker's process is still alive."""

from __future__ import annotations

import os
import pathlib
import socket


def worker_name() -> str:
    """``host/pid/start`` of this process."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start(os.getpid())}"


def on_this_host(worker: str) -> bool:
    """Whether the worker is on this host, so that `is_dead` can tell."""
    host, _, rest = worker.partition("/")
    return host == socket.gethostname() and rest.partition("/")[0].isdecimal()


def is_dead(worker: str) -> bool:
    """Whether the worker's process has certainly ended: it is on this host, and the process does not exist."""
    if not on_this_host(worker):
        return False
    _, pid, start = worker.split("/", 2)
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return start != _start(int(pid))  # another user's process: the worker, or a later process with the same pid
    return start != _start(int(pid))


def _start(pid: int) -> str:
    """Start time of a process in clock ticks since boot, which distinguishes processes with the same pid."""
    stat = pathlib.Path(f"/proc/{pid}/stat")
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return "?"  # without /proc the pid alone has to do
    # a zombie has ended, although its pid is still in use
    return "ended" if fields[0] == "Z" else fields[19]
