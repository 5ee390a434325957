"""Time spent tracing and compiling in this process, from JAX's monitoring events."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import jax
import numpy as np

from jhpo.kernels.internals import COMPILING

_seconds = 0.0
_spans: deque[tuple[float, float]] = deque(maxlen=4096)  # counted spans in order, none inside another
_lock = threading.Lock()


def compile_seconds() -> float:
    """Seconds spent tracing and compiling since the start of the process, in all threads."""
    return _seconds


def compile_spans() -> np.ndarray:
    """``float64[k, 2]``: when the last 4,096 of them began and ended, in seconds since the epoch."""
    with _lock:
        spans = np.asarray(_spans, np.float64).reshape(-1, 2)
    return spans + (time.time() - time.perf_counter())


def _count(event: str, duration_secs: float, **_: Any) -> None:
    """Adds a span that ends now; nested spans are reported first and counted once."""
    global _seconds
    if not event.startswith(COMPILING):
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
