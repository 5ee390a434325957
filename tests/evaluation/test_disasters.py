"""What a host function does that no one would think of: errors without text, text that is not UTF-8."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jhpo
from jhpo import InvalidArgument

pytestmark = pytest.mark.quick

SPACE = jhpo.Space({"part": jhpo.Int(0, 3)})


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def odd(params):
    """The errors that ended a search, or the thread of a worker, which the search then waited for."""
    if params["part"] == 1:
        raise NoText
    if params["part"] == 2:
        raise FileNotFoundError(2, "No such file", "\udcff.csv")  # the name of a file that is not UTF-8
    return 0.5 if params["part"] else "\ud800"


@pytest.mark.parametrize(("kind", "workers"), [("thread", 1), ("thread", 2), ("process", 1)])
def test_every_error_is_a_reason_that_can_be_stored(kind, workers, tmp_path):
    with jhpo.Study(SPACE, "grid", tmp_path / "odd.db") as study:
        study.optimize(jhpo.host(odd, workers=workers, kind=kind), budget=4)
    with jhpo.Study.load(tmp_path / "odd.db") as study:
        reasons = {t.params["part"]: t.reason for t in study}
        assert reasons[3] == "" and "\\ud800" in reasons[0]
        assert reasons[1].startswith("NoText: (its text cannot be made: RuntimeError) (line ")
        assert "No such file: '\\udcff.csv'" in reasons[2]


def test_text_that_is_not_utf8_is_told_noted_and_shown(tmp_path):
    pytest.importorskip("plotly")
    name = "\udcff.csv"
    study = jhpo.Study(SPACE, "random", tmp_path / "names.db")
    first, second, third = study.ask(3)
    study.tell(first, error=f"no {name}")
    study.tell(second, error=NoText())
    study.tell(third, 1.0)
    study.note(file=name, trial=third)
    assert study[0].reason == "no \\udcff.csv" and study[2].notes == {"file": name}
    assert "\\udcff" in study.report(tmp_path / "names.html").read_text(encoding="utf-8")
    for wrong in (lambda: study.note({name: 1}), lambda: study.absorb([{"part": 1}], [1.0], source=name)):
        with pytest.raises(InvalidArgument, match="expected text"):
            wrong()


def with_children(params):
    """A pool in a worker, as data loaders and joblib have it: "daemonic processes are not allowed to have children"."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(abs, [-params["part"]])


def waits_for_a_child(params):
    code = f"import os, time; open({os.environ['CHILD_PID']!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=True)
    return 0.0


def alive(pid):
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_worker_may_start_processes_which_end_with_it(tmp_path, monkeypatch):
    study = jhpo.Study(SPACE, "grid")
    study.optimize(jhpo.host(with_children, kind="process"), budget=1)
    assert not study.failures, study.failures[0].reason
    path = tmp_path / "child"
    monkeypatch.setenv("CHILD_PID", str(path))
    late = jhpo.Study(SPACE, "grid")
    late.optimize(jhpo.host(waits_for_a_child, kind="process", timeout=4.0), budget=1)
    assert late.failures[0].reason.startswith("timeout: ")
    deadline = time.monotonic() + 10.0
    while alive(path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(path.read_text())


def first(params: dict[str, Any]) -> float:
    return float(params["x"])


def test_a_value_that_no_process_can_be_sent_ends_the_search_with_its_name() -> None:
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "lock": jhpo.Choice([threading.Lock(), None])})
    with pytest.raises(InvalidArgument, match="values that a process can be sent"):
        jhpo.minimize(jhpo.host(first, kind="process"), space, "random", budget=8)


def test_an_error_of_a_pool_reaches_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    pool = jhpo.host(first, kind="process").pool()
    try:
        monkeypatch.setattr("jhpo.evaluation.executors.processes.overrun", broken)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.submit({"x": 0.1}, 0).result()
        monkeypatch.undo()
        assert pool.submit({"x": 0.1}, 0).result().value == 0.1  # another process has taken its place
    finally:
        pool.close()


def settings_of(params: dict[str, Any]) -> float:
    """Which of three settings of JAX hold where a function is called."""
    config: Any = jax.config  # its stubs lack the settings
    wide, precise = jnp.asarray(0.5 * params["part"]).dtype == jnp.float64, config.jax_default_matmul_precision
    return wide + 10.0 * (precise == "highest") + 100.0 * config.jax_debug_nans


@pytest.mark.parametrize("kind", ["thread", "process", pytest.param("ray", marks=pytest.mark.slow)])
def test_workers_have_the_settings_of_the_thread_that_searches(kind: str) -> None:
    if kind == "ray":
        pytest.importorskip("ray")
    study, objective = jhpo.Study(SPACE, "grid"), jhpo.host(settings_of, kind=kind)
    with jax.enable_x64(True), jax.default_matmul_precision("highest"), jax.debug_nans(True):
        study.optimize(objective, budget=2)
    with jax.enable_x64(False), jax.debug_nans(True):
        study.optimize(objective, budget=4)
    assert [t.value for t in study] == [111.0, 111.0, 100.0, 100.0]


def forks(params: dict[str, Any]) -> float:
    """A child that returns, ends or fails as a program of its own does; the code that it ends with."""
    child = os.fork()
    if child:
        return float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if params["part"] == 1:
        sys.exit(7)
    if params["part"] == 2:
        raise RuntimeError("in a child")
    return 9.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_a_function_forks_ends_with_its_call() -> None:
    """It answered for its parent, and evaluated the next trials in its place."""
    study = jhpo.Study(SPACE, "grid")
    study.optimize(jhpo.host(forks, kind="process", timeout=60.0), budget=4)
    assert {t.params["part"]: t.value for t in study} == {0: 0.0, 1: 7.0, 2: 1.0, 3: 0.0}
