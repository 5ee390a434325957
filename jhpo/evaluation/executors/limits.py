"""Limits of time and memory for a process that evaluates, and repetition of what failed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jhpo.evaluation.outcome import Outcome

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_LOOK_SECONDS = 0.1  # between two looks at the memory of a process
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def resident_bytes(pid: int | None) -> int | None:
    """Memory that a process occupies; None where the system does not say (it has no /proc), or once it has ended.

    >>> (resident_bytes(os.getpid()) or 2**30) > 2**20
    True
    """
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return None


def descendants(pid: int | None) -> list[int]:
    """Processes that a process has started, and theirs; not those with a session of their own, nor without a /proc.

    >>> descendants(None)
    []
    """
    children: dict[int, list[int]] = {}
    sessions: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # pid (name) state parent group session ...; the name may hold brackets and spaces
            parent, _, session = map(int, path.read_text(errors="replace").rpartition(")")[2].split()[1:4])
            children.setdefault(parent, []).append(int(path.parent.name))
            sessions[int(path.parent.name)] = session
    if pid is None or pid not in sessions:
        return []
    found = [pid]
    for one in found:
        found += [child for child in children.get(one, []) if sessions[child] == sessions[pid]]
    return found[1:]


def overrun(pipe: Connection, pid: int | None, deadline: float, memory: int | None) -> str:
    """Wait for a message; why to wait no longer, or "" once it is there.

    Args:
        pipe: from the process.
        pid: of the process.
        deadline: on the monotonic clock, or infinity.
        memory: bytes that it may occupy.
    """
    while True:
        left = max(deadline - time.monotonic(), 0.0)
        step = left if memory is None else min(left, _LOOK_SECONDS)
        if pipe.poll(None if math.isinf(step) else step):
            return ""
        if step == left:
            return "timeout"
        used = resident_bytes(pid)
        if memory is not None and used is not None and used > memory:
            return f"memory: {used / 2**20:.0f} MiB in use, {memory / 2**20:.0f} allowed"


def repeated(outcome: Outcome, evaluate: Callable[[], Outcome], retries: int, ended: Callable[[], bool]) -> Outcome:
    """The outcome of the first evaluation that succeeds, or else of the last one.

    Args:
        outcome: of the first one.
        evaluate: once more.
        retries: further times.
        ended: whether nobody waits for the result any more.
    """
    tried = 1
    while outcome.reason and not outcome.pruned and tried <= retries and not ended():
        outcome, tried = evaluate(), tried + 1
    if outcome.reason and tried > 1:
        return dataclasses.replace(outcome, reason=f"{outcome.reason} (tried {tried} times)")
    return outcome
