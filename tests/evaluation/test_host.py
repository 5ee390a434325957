"""Host objectives: whatever happens in one evaluation stays in that one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import threading
import time

import jax
import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument
from jhpo.trial import TrialState

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "k": jhpo.Choice(["a", "b"])})


def square(params):
    return params["x"] ** 2


def seeded(params, seed):
    return float(np.random.default_rng(seed).normal() + params["x"])


def trouble(params):
    """A different disaster in every part of the interval."""
    part = int(params["x"] * 8)
    if part == 1:
        raise ValueError("no such model")
    if part == 2:
        sys.exit(3)
    if part == 3:
        raise MemoryError("4 TiB")
    if part == 4:
        return "text"
    if part == 5:
        raise KeyboardInterrupt
    return params["x"]


def hangs(params):
    if params["x"] > 0.5:
        time.sleep(60)
    return params["x"]


def crashes(params):
    if params["x"] > 0.75:
        os._exit(7)
    if params["x"] > 0.5:
        os.kill(os.getpid(), 9)
    return params["x"]


def values(study):
    return study.history.table.value.array.copy()


@pytest.mark.parametrize("workers", [1, 4])
def test_the_study_of_a_host_function_does_not_depend_on_the_workers(workers):
    study = jhpo.Study(SPACE, jhpo.Greedy(8), seed=1)
    summary = study.optimize(jhpo.host(seeded, workers=workers), budget=40)
    assert summary.evaluations == 40
    by_hand = jhpo.Study(SPACE, jhpo.Greedy(8), seed=1)
    for _ in range(40):
        (trial,) = by_hand.ask()
        by_hand.tell(trial, seeded(trial.params, trial.seed))
    np.testing.assert_array_equal(values(study), values(by_hand))


def test_every_disaster_is_a_failure_with_its_reason():
    study = jhpo.Study(SPACE, jhpo.SobolSearch(64))
    study.optimize(jhpo.host(trouble, workers=3), budget=64)
    reasons = {int(t.params["x"] * 8): t.reason for t in study.failures}
    assert reasons[1].startswith("ValueError: no such model (line ") and "test_host.py" in reasons[1]
    assert reasons[2] == "the objective called sys.exit(3)"
    assert reasons[3] == "out of memory: 4 TiB"
    assert "'text'" in reasons[4] and "KeyboardInterrupt" in reasons[5]
    assert len(study.failures) == 40 and len(study.top(64)) == 24


def test_a_thread_that_hangs_is_left_behind():
    study = jhpo.Study(SPACE, jhpo.SobolSearch(8))
    start = time.monotonic()
    study.optimize(jhpo.host(hangs, workers=4, timeout=1.0), budget=8)
    assert time.monotonic() - start < 10
    assert len(study.top(8)) == 4 and all("timeout: no result within 1 s" in t.reason for t in study.failures)


def test_processes_survive_hangs_crashes_and_kills():
    slow = jhpo.Study(SPACE, jhpo.SobolSearch(4))
    slow.optimize(jhpo.host(hangs, workers=2, kind="process", timeout=2.0), budget=4)
    assert (
        sorted(t.status for t in map(slow.__getitem__, range(4))) == [TrialState.COMPLETE] * 2 + [TrialState.FAILED] * 2
    )
    assert all("its process was killed" in t.reason for t in slow.failures)
    study = jhpo.Study(SPACE, jhpo.SobolSearch(4))
    study.optimize(jhpo.host(crashes, workers=2, kind="process"), budget=4)
    reasons = sorted(t.reason for t in study.failures)
    assert len(reasons) == 2 and "exit code 7" in reasons[0] and "SIGKILL" in reasons[1]


def test_an_exit_code_that_another_thread_collects_first_is_waited_for(monkeypatch):
    collected, waitpid = [], os.waitpid

    def late(pid, flag):
        collected.append(pid)
        if len(collected) < 20:
            raise ChildProcessError  # reaped by another thread, which has not noted the code yet
        return waitpid(pid, flag)

    pool = jhpo.host(crashes, kind="process").pool()
    try:
        assert pool.submit({"x": 0.1}, 0).result().value == 0.1
        monkeypatch.setattr(os, "waitpid", late)
        assert "exit code 7" in pool.submit({"x": 0.9}, 0).result().reason
    finally:
        monkeypatch.undo()
        pool.close()


def test_threads_and_processes_agree():
    by_thread, by_process = (jhpo.Study(SPACE, jhpo.RandomSearch(4)) for _ in range(2))
    by_thread.optimize(jhpo.host(seeded, workers=2), budget=6)
    by_process.optimize(jhpo.host(seeded, workers=2, kind="process"), budget=6)
    np.testing.assert_array_equal(values(by_thread), values(by_process))


def test_minimize_takes_host_functions():
    result = jhpo.minimize(jhpo.host(square, workers=2), SPACE, jhpo.Greedy(8), budget=64)
    assert result.value < 1e-2 and result.best["k"] in ("a", "b")


def test_replicates_of_a_host_function_have_seeds_of_their_own():
    evaluator = jhpo.host(seeded).evaluator(SPACE, replicates=3)
    units, ids = np.full((2, 2), 0.5), np.arange(2)
    root = jax.random.key(0)
    result = evaluator.evaluate(units, ids, root, jhpo.Request())
    keys = [[jax.random.fold_in(jax.random.fold_in(root, i), r) for r in range(3)] for i in range(2)]
    seeds = [[int(high) << 32 | int(low) for high, low in map(jax.random.key_data, row)] for row in keys]
    expected = np.asarray([[seeded({"x": 0.5}, s) for s in row] for row in seeds])
    np.testing.assert_allclose(result.value, expected.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(result.variance, expected.var(axis=1, ddof=1) / 3, rtol=1e-12)


def test_time_runs_out_also_while_nothing_finishes():
    study, release = jhpo.Study(SPACE, jhpo.RandomSearch(8)), threading.Event()
    start = time.monotonic()
    summary = study.optimize(jhpo.host(lambda params: release.wait(60)), budget=100, seconds=0.2)
    assert time.monotonic() - start < 30 and summary.stopped.startswith("seconds")
    release.set()
    assert summary.evaluations == 0 and study.history.waiting == [0]


def test_what_was_cut_off_is_queued_again():
    started = threading.Event()

    def slow(params):
        started.set()
        time.sleep(0.5 if params["x"] > 0.5 else 0.0)
        return params["x"]

    study = jhpo.Study(SPACE, jhpo.RandomSearch(8), seed=2)
    study.optimize(jhpo.host(slow, workers=8), budget=100, seconds=0.05)
    assert started.is_set() and not study.history.running
    waiting = list(study.history.waiting)
    assert waiting
    study.optimize(jhpo.host(square), budget=100)
    assert len(study) == 100 and all(study[i].status is TrialState.COMPLETE for i in waiting)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"fn": 3}, "fn"), ({"workers": 0}, "workers"), ({"kind": "fibre"}, "kind"), ({"timeout": 0}, "timeout"),
        ({"timeout": "1"}, "timeout"), ({"fn": lambda: 0.0}, "fn"), ({"fn": lambda a, b, c: 0.0}, "fn"),
        ({"fn": lambda p: 0.0, "kind": "process"}, "top level"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(bad, words):
    with pytest.raises(InvalidArgument, match=words):
        jhpo.host(**({"fn": square} | bad))


def test_strategies_that_need_gradients_are_refused():
    @jhpo.strategy
    class Needy(jhpo.RandomSearch):
        needs_grad = True

    with pytest.raises(InvalidArgument, match="gradients"):
        jhpo.Study(SPACE, Needy(4)).optimize(jhpo.host(square), budget=4)


def test_a_function_that_no_process_can_import_is_named(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        textwrap.dedent(
            """
            import importlib.util, sys
            spec = importlib.util.spec_from_file_location("gone", sys.argv[1])
            module = importlib.util.module_from_spec(spec)
            sys.modules["gone"] = module
            spec.loader.exec_module(module)
            import jhpo, os
            os.remove(sys.argv[1])
            if __name__ == "__main__":
                try:
                    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
                    jhpo.Study(space).optimize(jhpo.host(module.f, kind="process"), budget=2)
                except jhpo.InvalidArgument as error:
                    print("caught", error)
            """
        )
    )
    module = tmp_path / "gone.py"
    module.write_text("def f(params):\n    return params['x']\n")
    command = [sys.executable, str(script), str(module)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=paths)
    assert "caught fn: expected a function that a worker process can import" in done.stdout, done.stderr


def greedy(params):
    """Takes 400 MiB where x is large."""
    block = np.ones(int(50 * 2**20 * (params["x"] > 0.5)) + 1)
    time.sleep(1.0 if params["x"] > 0.5 else 0.0)
    return params["x"] + 0.0 * float(block[0])


def resident(params):
    """Bytes of the process that evaluates."""
    from jhpo.evaluation.executors.limits import resident_bytes

    return float(resident_bytes(os.getpid()))


def test_a_process_that_takes_too_much_memory_costs_its_own_trial():
    worker = jhpo.Study(SPACE, "random")
    worker.optimize(jhpo.host(resident, kind="process"), budget=1)
    allowed = int(worker.best.value) + 200 * 2**20
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4), seed=1)
    study.optimize(jhpo.host(greedy, workers=2, kind="process", memory=allowed), budget=6)
    large = [t for t in (study[i] for i in range(6)) if t.params["x"] > 0.5]
    assert large and [t.id for t in study.failures] == [t.id for t in large]
    assert all(re.match(r"memory: \d+ MiB in use, \d+ allowed \(its process was killed\)", t.reason) for t in large)


def test_what_fails_is_repeated():
    calls: dict[int, int] = {}

    def flaky(params, seed):
        calls[seed] = calls.get(seed, 0) + 1
        if params["x"] > 0.5 and (calls[seed] < 3 or params["k"] == "a"):
            raise OSError("the network")
        return params["x"]

    study = jhpo.Study(SPACE, jhpo.RandomSearch(8), seed=1)
    study.optimize(jhpo.host(flaky, workers=2, retries=2), budget=16)
    for trial in (study[i] for i in range(16)):
        assert calls[trial.seed] == (3 if trial.params["x"] > 0.5 else 1)
        assert trial.reason.endswith("(tried 3 times)") == (trial.params["x"] > 0.5 and trial.params["k"] == "a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 2**30}, "memory: expected None but with kind='process'"),
        ({"memory": 0, "kind": "process"}, "memory: expected an integer >= 1 of bytes, got 0"),
        ({"retries": -1}, "retries: expected an integer >= 0"),
        ({"resources": {"num_cpus": 1}}, "resources: expected None but with kind='ray'"),
    ],
)
def test_limits_that_are_refused(options, message):
    with pytest.raises(InvalidArgument, match=message):
        jhpo.host(square, **options)
    with pytest.raises(InvalidArgument, match="retries: expected 0 for a function that reports"):
        jhpo.host(lambda params, trial: 0.0, retries=1)


@pytest.mark.quick
def test_a_search_in_memory_ends_its_workers() -> None:
    before = set(threading.enumerate())
    result = jhpo.minimize(jhpo.host(square, workers=3), SPACE, jhpo.RandomSearch(4), budget=4)
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before and result.value >= 0
