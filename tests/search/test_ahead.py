"""What compiles in the background is left out where nobody will run it."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def test_a_process_that_ends_compiles_nothing_more() -> None:
    """The main thread is over while a program is traced, which the thread that traces it outlives."""
    code = """
        import contextlib, threading, time
        from jhpo.search import ahead, turns

        class Program:
            def compile_unless(self, dropped, *arguments):
                print("traced", dropped(), flush=True)
                while threading.main_thread().is_alive():
                    time.sleep(0.01)
                print("over", dropped(), flush=True)

        turns.turn_program = Program()
        ahead.Ahead(contextlib.nullcontext).compile(1.0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["traced", "False", "over", "True"], done.stderr
