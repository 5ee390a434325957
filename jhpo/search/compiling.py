"""How long this process has been tracing and compiling, by JAX's own account."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import jax

_EVENTS = ("/jax/core/compile/", "/jax/compilation_cache/cache_retrieval_time_sec")
_seconds = 0.0
_spans: deque[tuple[float, float]] = deque(maxlen=256)  # counted ones, in order, none inside another
_lock = threading.Lock()


def compile_seconds() -> float:
    """Seconds of tracing and compiling since the start of the process, in every thread."""
    return _seconds


def _count(event: str, duration_secs: float, **_: Any) -> None:
    """Add a span that ends now; a function traced inside another one is told of first, and counts once."""
    global _seconds
    if not event.startswith(_EVENTS):
        return
    with _lock:
        end = time.perf_counter()
        begin = end - duration_secs
        while _spans and _spans[-1][1] > begin:
            inner = _spans.pop()
            begin = min(begin, inner[0])
            _seconds -= inner[1] - inner[0]
        _spans.append((begin, end))
        _seconds += end - begin


jax.monitoring.register_event_duration_secs_listener(_count)
