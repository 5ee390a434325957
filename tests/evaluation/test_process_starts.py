"""Worker processes that do not get to their first evaluation."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

TYPED = """
import functools, jhpo, os.path
def f(params, more=0): return params["x"]
class Called:
    def __call__(self, params): return params["x"]
for fn in (f, functools.partial(f, more=1), Called(), os.path.join):
    try:
        jhpo.host(fn, kind="process")
    except jhpo.InvalidArgument as error:
        print(str(error).partition(", got")[0])
    jhpo.host(fn)
"""
REFUSED = (
    "fn: expected one of a module: processes cannot import what was typed in (a notebook, an interpreter, python -c)"
)


@pytest.mark.parametrize(("arguments", "typed", "refused"), [(["-c", TYPED], "", 3), (["-"], TYPED, 4)])
def test_what_was_typed_in_is_refused_before_a_process_starts(arguments, typed, refused):
    """Each worker printed a traceback. Of a program from the standard input processes can import nothing at all."""
    done = subprocess.run([sys.executable, *arguments], input=typed, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [REFUSED] * refused


@pytest.mark.slow
def test_a_killed_program_leaves_no_traceback(tmp_path):
    late = "import time\nopen('begun', 'w').close()\ntime.sleep(1.0)\ndef f(params): return params['x']\n"
    (tmp_path / "late.py").write_text(late)
    program = """
        import os, signal, sys, threading, time, types, jhpo

        def kill():
            while not os.path.exists("begun"):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            late = types.ModuleType("late")  # as if it were imported
            exec("def f(params): return params['x']", late.__dict__)
            late.f.__module__, late.__file__ = "late", "late.py"
            sys.modules["late"] = late
            threading.Thread(target=kill, daemon=True).start()
            space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
            jhpo.minimize(jhpo.host(late.f, workers=2, kind="process"), space, "random", budget=4)
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    # the pipe is closed once the workers, too, have ended
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL and (tmp_path / "begun").exists()
    assert done.stderr == ""
