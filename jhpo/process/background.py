"""Compilations in the background, and how a process ends meanwhile.

XLA cannot be interrupted while it compiles, and crashes where the interpreter is taken down meanwhile. So it waits
at its end, unless Ctrl-C ended the process: then the process ends at once, and nothing is taken down.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_running: set[threading.Thread] = set()
_code: int | None = None
_PATIENCE_SECONDS = 0.5


class Background:
    """A function that runs in a thread of its own.

    >>> found = []
    >>> Background("adding", lambda: found.append(1)).wait()
    >>> found
    [1]
    """

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        # no `join`: where Ctrl-C ends one, Python 3.11 and 3.12 take the thread for over and do not wait at their end
        self._over = threading.Event()

        def run() -> None:
            try:
                function()
            finally:
                self._over.set()
                _running.discard(thread)

        thread = threading.Thread(target=run, name=name)
        _running.add(thread)
        thread.start()

    @property
    def over(self) -> bool:
        """Whether the function has ended."""
        return self._over.is_set()

    def wait(self) -> None:
        """Until it has."""
        self._over.wait()


def process_ends() -> bool:
    """Whether the main thread is over, and the interpreter waits for the others."""
    return not threading.main_thread().is_alive()


def interrupted_with(code: int) -> None:
    """Says that this process was interrupted, although it ends with an exit code."""
    global _code
    _code = code


def _others() -> bool:
    """Whether threads of the user's run on, for which the interpreter waits; those that are about to end may do so."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    known = {threading.main_thread(), threading.current_thread(), *_running}
    others = [thread for thread in threading.enumerate() if not thread.daemon and thread not in known]
    for thread in others:
        thread.join(max(deadline - time.monotonic(), 0.0))
    return any(thread.is_alive() for thread in others)


def _end() -> None:
    """Ends a process that was interrupted while something runs here, after what is to be done at its exit.

    An uncaught Ctrl-C ends it by its signal, as Python does; ``python -i`` may remember an earlier one.
    """
    uncaught = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    if not (uncaught or _code is not None) or not any(thread.is_alive() for thread in _running) or _others():
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    getattr(atexit, "_run_exitfuncs", lambda: None)()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if _code is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    else:
        os._exit(_code)


# before the interpreter waits for threads; without it, as on systems without such signals, it does wait
if os.name == "posix" and hasattr(threading, "_register_atexit"):
    threading._register_atexit(_end)
