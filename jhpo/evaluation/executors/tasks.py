"""One evaluation on its way through a pool, and the call that turns whatever happens into an outcome."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

from jhpo.evaluation.outcome import Outcome, failure, judge

_LONGEST_REASON = 2000


class Task:
    """An evaluation that was submitted; `result` waits for its outcome."""

    def __init__(self, params: Any, seed: int) -> None:
        self.params, self.seed = params, seed
        self.started: float | None = None  # on the monotonic clock
        self._done = threading.Event()
        self._outcome: Outcome | None = None
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def done(self) -> bool:
        """The outcome is there."""
        return self._done.is_set()

    def finish(self, outcome: Outcome | None, error: Exception | None = None) -> bool:
        """Set the outcome (or the pool's own error) once; False if it was set before."""
        with self._lock:
            if self._done.is_set():
                return False
            self._outcome, self._error = outcome, error
            self._done.set()
            return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the outcome."""
        return self._done.wait(timeout)

    def result(self) -> Outcome:
        """The outcome; raises if the pool could not run anything at all."""
        # short waits: a wait without end would keep Ctrl-C from the main thread on some systems
        while not self._done.wait(0.2):
            continue
        if self._error is not None:
            raise self._error
        assert self._outcome is not None
        return self._outcome


def call(fn: Callable[..., Any], takes_seed: bool, params: Any, seed: int) -> Outcome:
    """Evaluate; an exception of any kind becomes a failure that names it and where it came from."""
    try:
        return judge(fn(params, seed) if takes_seed else fn(params))
    except SystemExit as error:
        return failure(f"the objective called sys.exit({error.code!r})")
    except MemoryError as error:
        return failure(f"out of memory: {error}")
    except BaseException as error:  # noqa: BLE001 one bad member must not end the study
        frames = traceback.extract_tb(error.__traceback__)
        where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if len(frames) > 1 else ""
        return failure(f"{type(error).__name__}: {error}{where}"[:_LONGEST_REASON])
