"""A process that was forked from one that had used JAX says so instead of hanging."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

PROGRAM = """
    import multiprocessing, subprocess, sys, warnings

    warnings.simplefilter("ignore")  # JAX's own, at the fork
    import jax
    import jhpo

    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})

    def search():
        print(jhpo.minimize(jhpo.host(lambda params: params["x"]), space, "random", budget=3).best is not None)

    def refused():
        try:
            search()
        except jhpo.JhpoError as error:
            print(error)

    def child(function):
        process = multiprocessing.get_context("fork").Process(target=function)
        process.start()
        process.join(60)
        print(process.exitcode)

    if sys.argv[1] == "before":
        child(search)  # JAX had no device yet
    else:
        jax.devices()
        child(refused)
        child(lambda: print("no program of JAX"))
        subprocess.run([sys.executable, "-c", "print('another program')"], preexec_fn=lambda: None)
"""


def lines(when: str) -> list[str]:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), when]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=200, check=True)
    return done.stdout.split("\n")[:-1]


def test_a_search_in_a_fork_of_a_process_with_jax_is_an_error() -> None:
    first, *others = lines("after")
    assert first.startswith("this process was forked from one that had used JAX") and "spawn" in first
    assert others == ["0", "no program of JAX", "0", "another program"]


def test_a_fork_before_jax_was_used_searches() -> None:
    assert lines("before") == ["True", "0"]
