"""A process that Ctrl-C ends does not wait for what compiles in the background; every other one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a Ctrl-C ends a process by its signal")

BEGIN = """
    import atexit, signal, sys, threading, time
    from jhpo.process.background import Background, interrupted_with

    atexit.register(print, "at exit")

    def compiling():
        time.sleep(seconds)
        print("compiled")

    def interrupted(call):
        main = threading.main_thread().ident
        threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT]).start()
        call()
"""


def end(seconds: float, code: str) -> tuple[int, list[str], float]:
    """Exit code, lines and seconds of a process in which something compiles for `seconds`."""
    begin = time.monotonic()
    program = f"seconds = {seconds}\n" + textwrap.dedent(BEGIN) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout.splitlines(), time.monotonic() - begin


@pytest.mark.parametrize(
    "wait", ["background.wait", "lambda: time.sleep(90)"], ids=["while it waits for the program", "elsewhere"]
)
def test_an_interrupted_process_ends_at_once(wait: str) -> None:
    code, lines, seconds = end(90, f'background = Background("b", compiling)\ninterrupted({wait})')
    assert (code, lines) == (-signal.SIGINT, ["at exit"]) and seconds < 60


def test_the_command_line_keeps_its_exit_code() -> None:
    code, lines, seconds = end(90, 'Background("b", compiling)\ninterrupted_with(130)\nsys.exit(130)')
    assert (code, lines) == (130, ["at exit"]) and seconds < 60


@pytest.mark.parametrize(
    ("code", "wanted", "lines"),
    [
        ('Background("b", compiling)', 0, ["compiled", "at exit"]),
        ('Background("b", compiling)\nraise ValueError', 1, ["compiled", "at exit"]),
        # a thread of the user's is not cut off
        (
            'Background("b", compiling)\nthreading.Thread(target=lambda: (time.sleep(2), print("own"))).start()\n'
            "raise KeyboardInterrupt",
            -signal.SIGINT,
            ["compiled", "own", "at exit"],
        ),
        ('Background("b", compiling).wait()\nraise KeyboardInterrupt', -signal.SIGINT, ["compiled", "at exit"]),
    ],
    ids=["done", "an error", "a thread of the user's", "compiled before"],
)
def test_other_processes_wait(code: str, wanted: int, lines: list[str]) -> None:
    assert end(0.5, code)[:2] == (wanted, lines)
