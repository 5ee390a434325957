"""Who works on a trial: a name for this process, and whether another's process is still there."""

from __future__ import annotations

import os
import pathlib
import socket


def worker_name() -> str:
    """``host/pid/start`` of this process."""
    return f"{socket.gethostname()}/{os.getpid()}/{_start(os.getpid())}"


def on_this_host(worker: str) -> bool:
    """True where `is_dead` can tell."""
    host, _, rest = worker.partition("/")
    return host == socket.gethostname() and rest.partition("/")[0].isdecimal()


def is_dead(worker: str) -> bool:
    """True only when the worker's process certainly ended: same host, and no such process any more."""
    if not on_this_host(worker):
        return False
    _, pid, start = worker.split("/", 2)
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return start != _start(int(pid))  # another user's: the worker itself, or a younger process of that pid
    return start != _start(int(pid))


def _start(pid: int) -> str:
    """When the process began, in clock ticks since the boot, so that a reused pid is another worker."""
    stat = pathlib.Path(f"/proc/{pid}/stat")
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return "?"  # no /proc on this system: the pid alone has to do
    # a zombie has ended, though its pid is still taken
    return "ended" if fields[0] == "Z" else fields[19]
