"""Ctrl-C and SIGTERM on the command line: what is finished is kept, and the way back is printed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

INTERRUPTED = 130  # exit code
# How long to wait after Ctrl-C for a compiled program that is still running.
PATIENCE_SECONDS = 4.0


def farewell(evaluations: int | None, storage: str | None, again: str) -> str:
    """What an interrupted search prints last.

    Args:
        evaluations: stored ones; None where nobody can count them any more.
        storage: where they are; None if nowhere.
        again: the command that continues the study.
    """
    if storage is None:
        return "stopped. Nothing was stored: give --storage study.db next time to be able to resume"
    from jhpo.words.markup import counted

    kept = "every finished generation" if evaluations is None else counted(evaluations, "evaluation")
    return f"stopped; {kept} {'is' if evaluations in (None, 1) else 'are'} stored. Continue with:\n  {again}"


@contextlib.contextmanager
def signals(again: str, storage: str | None) -> Iterator[None]:
    """Context in which SIGTERM acts like Ctrl-C, and the process exits even if an XLA program keeps running.

    Who is stopped before a search counts its results sees the way back from here.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def terminate(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def watch() -> None:
        # the byte arrives even while the main thread is inside a compiled program and cannot handle signals; others,
        # of a timer or a scheduler, are for the handlers that the file has set
        while (number := os.read(reader, 1)) and number[0] not in (signal.SIGINT, signal.SIGTERM):
            pass
        if number and not over.wait(PATIENCE_SECONDS):
            sys.stdout.write("\n" + farewell(None, storage, again) + "\n")
            sys.stdout.flush()
            os._exit(INTERRUPTED)

    over = threading.Event()
    before = signal.signal(signal.SIGTERM, terminate)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="jhpo-signals", daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.write(farewell(None, storage, again) + "\n")
        sys.exit(INTERRUPTED)
    finally:
        over.set()
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, before)
        os.close(writer)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Context for imports, in which Ctrl-C and SIGTERM wait for its end.

    Importing JAX is most of the time before a search: cut short, it may crash the process, or go on as if nothing was.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    # a job in the background of a shell ignores Ctrl-C
    heard = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = [signal.signal(number, lambda number, frame: asked.append(number)) for number in heard]
    try:
        yield
    finally:
        for number, handler in zip(heard, before, strict=True):
            signal.signal(number, handler)
    if asked:
        raise KeyboardInterrupt


def leave() -> NoReturn:
    """Ends the process after a Ctrl-C before which there was nothing to keep."""
    sys.stderr.write("stopped\n")
    sys.exit(INTERRUPTED)


def ignore_signals() -> None:
    """Ignores further Ctrl-C, which would cut off the last lines of output, or the end of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
