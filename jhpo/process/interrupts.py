"""A Ctrl-C that Python drops is raised again."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

_SECONDS = 0.05  # until it is raised again: by then, what dropped it is over


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Context, and decorator, in which no Ctrl-C is lost; outside of the main thread nothing changes.

    Python prints an exception that is raised in a callback of the garbage collector or in a ``__del__``, and goes on.
    JAX has such a callback, and tracing and compiling collect garbage again and again: a Ctrl-C meanwhile is lost more
    often than not, as it is raised in the first line of Python that runs after it.

    >>> class Dropping:
    ...     def __del__(self):
    ...         raise KeyboardInterrupt
    >>> try:
    ...     with interruptible():
    ...         _ = Dropping()
    ...         del _
    ...         time.sleep(10.0)
    ... except KeyboardInterrupt:
    ...     print("stopped")
    stopped
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        # not `threading.Thread`: whatever was interrupted may hold the lock under which that one starts
        _thread.start_new_thread(_again, ())

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before


def _again() -> None:
    time.sleep(_SECONDS)
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill") and callable(signal.getsignal(signal.SIGINT)):
        signal.pthread_kill(main, signal.SIGINT)  # a signal, because it ends a wait of the main thread too
    else:
        _thread.interrupt_main()
