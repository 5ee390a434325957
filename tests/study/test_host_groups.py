"""Quick host evaluations are handed out and stored in groups, which changes nothing that a user can see."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import jhpo
from jhpo.storage import open_log
from jhpo.strategies.blind import learns
from tests.study.studies import SPACE, assert_same, on_host


def groups(path, kind="ask"):
    """Sizes of the groups in which trials were handed out, or told."""
    with contextlib.closing(open_log(path, create=False)) as log:
        field = {"ask": "units", "tell": "ids"}[kind]
        return [len(entry.body[field]) for entry in log.read() if entry.kind == kind]


@pytest.mark.parametrize("strategy", [jhpo.RandomSearch(24), jhpo.SobolSearch(24), jhpo.GridSearch(20)], ids=repr)
@pytest.mark.parametrize("workers", [1, 3])
def test_groups_are_the_trials_one_by_one(tmp_path, strategy, workers):
    by_hand = jhpo.Study(SPACE, strategy, seed=3)
    for _ in range(200):
        (trial,) = by_hand.ask()
        by_hand.tell(trial, on_host(trial.params) + trial.seed % 7)
    further = by_hand.ask(3)
    for budgets in ([200], [61, 200]):
        path = tmp_path / f"{len(budgets)}.db"
        for budget in budgets:
            with jhpo.Study(SPACE, strategy, path, seed=3, resume=True) as study:
                study.optimize(jhpo.host(lambda params, seed: on_host(params) + seed % 7, workers=workers), budget)
                assert len(study) == study.evaluations == budget
        with jhpo.Study.load(path) as study:
            assert_same(study, by_hand, 200)
            assert [t.params for t in study.ask(3)] == [t.params for t in further]
    assert max(groups(tmp_path / "1.db")) > 8 and max(groups(tmp_path / "1.db", "tell")) > 8


@jhpo.strategy
class Learner(jhpo.RandomSearch):
    """A strategy of one's own on top of one that learns nothing."""

    def tell(self, state, units, result):
        return state


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        (jhpo.RandomSearch(64), {"target": -1.0}),
        (jhpo.RandomSearch(64), {"patience": 50}),
        (jhpo.RandomSearch(64), {"generations": 9}),
        (jhpo.RandomSearch(64), {"stop": lambda progress: None}),
        (jhpo.RandomSearch(64), {"callback": lambda update: None}),
        (Learner(64), {}),
    ],
    ids=["target", "patience", "generations", "stop", "callback", "learner"],
)
def test_whoever_looks_at_results_gets_them_one_by_one(tmp_path, strategy, options):
    with jhpo.Study(SPACE, strategy, tmp_path / "a.db") as study:
        study.optimize(jhpo.host(on_host), budget=40, **options)
    assert groups(tmp_path / "a.db") == [1] * 40


def test_functions_that_report_are_handed_out_one_by_one(tmp_path):
    def reports(params, trial):
        trial.report(1, params["x"])
        return params["x"]

    for number, strategy in enumerate((jhpo.RandomSearch(64), jhpo.ASHA(min_steps=1, eta=2))):
        with jhpo.Study(SPACE, strategy, tmp_path / f"{number}.db") as study:
            study.optimize(jhpo.host(reports), budget=30)
        assert set(groups(tmp_path / f"{number}.db")) == {1}


@pytest.fixture
def interruptible():
    """Ctrl-C arrives, also where the shell that began the tests ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_what_waits_for_a_worker_returns_to_the_queue(tmp_path, interruptible):
    """Ctrl-C during one of many quick evaluations: all that were handed out are there again, in a file or not."""
    for path in (None, tmp_path / "a.db"):
        goes_on, calls = threading.Event(), list[object]()

        def some(params, goes_on=goes_on, calls=calls):
            calls.append(params)
            if len(calls) == 150:
                _thread.interrupt_main()
                goes_on.wait(30.0)
            return params["x"]

        study = jhpo.Study(SPACE, jhpo.RandomSearch(64), path, seed=1)
        with pytest.raises(KeyboardInterrupt):
            study.optimize(jhpo.host(some), budget=1000)
        goes_on.set()
        done, waiting = study.evaluations, list(study.history.waiting)
        assert done <= 149 and not study.history.running
        assert waiting == list(range(done, len(study))) and len(waiting) > 1
        study.optimize(jhpo.host(on_host), budget=len(study) + 20)
        assert study.history.table.done().all() and set(study.history.table.lost.array.tolist()) == {0}
        study.close()
    sizes = [len(e.body["ids"]) for e in entries(tmp_path / "a.db") if e.kind == "claim"]
    assert sizes == [1] * len(waiting)  # one of them may have been the end of its worker


@pytest.mark.parametrize("stored", [False, True])
def test_what_was_handed_out_when_ctrl_c_came_returns_to_the_queue(stored, tmp_path, monkeypatch):
    study = jhpo.Study(SPACE, jhpo.RandomSearch(64), tmp_path / "a.db" if stored else None, seed=1)
    take, calls = study.take_plain, list[int]()

    def interrupted(*arguments):
        found = take(*arguments)
        calls.append(len(found))
        if len(calls) == 3:
            raise KeyboardInterrupt  # stored, and nobody was told
        return found

    monkeypatch.setattr(study, "take_plain", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.optimize(jhpo.host(on_host), budget=1000)
    assert calls[2] > 0 and not study.history.running
    assert study.evaluations + len(study.history.waiting) == len(study) == sum(calls)


KILLED = """
import sys, jhpo
from tests.study.studies import SPACE, on_host
study = jhpo.Study(SPACE, jhpo.RandomSearch(64), sys.argv[1], seed=5, resume=True)
study.optimize(jhpo.host(on_host), budget=study.evaluations + 40)
print("ready", flush=True)
study.optimize(jhpo.host(on_host), budget=10**6)
"""


@pytest.mark.slow
def test_groups_of_a_process_that_is_killed_are_handed_on(tmp_path):
    root = Path(__file__).parents[2]
    for kill in range(12):  # three at least, and until one comes while something runs
        command = [sys.executable, "-c", KILLED, str(tmp_path / "a.db")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(0.2 + 0.1 * kill)
        child.kill()
        child.wait()
        with jhpo.Study.load(tmp_path / "a.db", read_only=True) as study:
            left = bool(study.history.running or study.history.waiting)
        if left and kill >= 2:
            break
    with jhpo.Study.load(tmp_path / "a.db") as study:
        assert study.history.running or study.history.waiting
        end = len(study) + 50
        study.optimize(jhpo.host(on_host), budget=end)
        alone = jhpo.Study(SPACE, jhpo.RandomSearch(64), seed=5)
        alone.optimize(jhpo.host(on_host), budget=end)
        assert_same(study, alone)
        assert not study.failures and study.history.table.lost.array.max() <= kill + 1
    told = np.concatenate([e.body["ids"] for e in entries(tmp_path / "a.db") if e.kind == "tell"])
    assert np.array_equal(np.sort(told), np.arange(end))  # each once


def entries(path):
    with contextlib.closing(open_log(path, create=False)) as log:
        return log.read()


def test_slow_evaluations_are_not_held_in_advance():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(64))
    most = []

    def slow(params):
        time.sleep(0.05)
        most.append(len(study.history.running))
        return params["x"]

    study.optimize(jhpo.host(slow, workers=2), budget=12)
    assert max(most) <= 2


def test_a_budget_shared_by_threads_is_exact(tmp_path):
    study = jhpo.Study(SPACE, jhpo.RandomSearch(16), tmp_path / "a.db")
    threads = [
        threading.Thread(target=lambda: study.optimize(jhpo.host(on_host, workers=2), budget=301)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert study.evaluations == len(study) == 301 and not study.failures
    study.close()


def test_decoded_together_or_one_by_one():
    space = jhpo.Space({
        "log": jhpo.Float(1e-6, 3.0, log=True), "near": jhpo.Float(0.5, 0.9999, scale="reverse_log"),
        "odds": jhpo.Float(1e-3, 0.999, scale="logit"), "line": jhpo.Float(-3.0, 7.1),
        "n": jhpo.Int(1, 10**6, log=True),
        "v": jhpo.Float(-1.0, 1.0, shape=(2,)), "k": jhpo.Choice([(1, 2), "b", None, {"c": [1]}]),
        "deep": [jhpo.Float(0.0, 1.0, when={"k": "b"}), (jhpo.Ordinal([1, 2, 4]),)],
    })  # fmt: skip
    units = np.random.default_rng(0).random((500, space.dim))
    for rows in (units, units.astype(np.float32)):
        together, alone = space.decode_rows(rows), [space.decode(row) for row in rows]
        assert repr(together) == repr(alone)
    nested = [p["k"] for p in together if isinstance(p["k"], dict)]
    nested[0]["c"].append(2)
    assert nested[1] == {"c": [1]} and repr(space.decode_rows(rows)) == repr(alone)  # the space's own is as it was


def test_who_learns():
    quiet = {jhpo.RandomSearch, jhpo.SobolSearch, jhpo.GridSearch}
    assert all(not learns(cls()) for cls in quiet)
    assert all(learns(s) for s in (jhpo.PSO(), jhpo.BayesOpt(), jhpo.ASHA(), Learner(4)))


@pytest.mark.parametrize("workers", [1, 3])
def test_patience_counts_generations_however_many_workers(workers):
    """With several workers there is always one that runs; it was taken for a generation that never ends."""

    def flat(params):
        time.sleep(0.01 + 0.01 * params["x"])
        return 1.0

    study = jhpo.Study(SPACE, jhpo.BayesOpt(initial=32), seed=1)
    summary = study.optimize(jhpo.host(flat, workers=workers), budget=24, patience=4)
    assert summary.stopped.startswith("patience") and 5 <= study.evaluations <= 5 + 2 * workers
