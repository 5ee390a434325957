"""Several processes and threads on one study: none begins it twice, none takes another's work, the budget is exact."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

import jhpo
from jhpo.errors import InvalidArgument, StorageError
from jhpo.study.watch import Watch
from tests.study.studies import GREEDY, SPACE, assert_same, objective

BEGIN = """
import sys, time, jhpo
space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
print("ready", flush=True)
sys.stdin.readline()
study = jhpo.Study(space, jhpo.RandomSearch(4), sys.argv[1], resume=True, lease=0.05)
"""
OPTIMIZE = """
study.optimize(jhpo.host(lambda hp: time.sleep(0.15) or hp["x"]), budget=10)
print(study.evaluations, len(study), len(study.failures), flush=True)
"""
ASK = """
while trials := study.ask(1, budget=10):
    time.sleep(0.15)
    study.tell(trials[0], trials[0].params["x"])
while study.evaluations < 10:
    time.sleep(0.02)
    study.refresh()
print(study.evaluations, len(study), len(study.failures), flush=True)
"""


@pytest.mark.parametrize("work", [OPTIMIZE, pytest.param(ASK, marks=pytest.mark.slow)], ids=["optimize", "ask"])
def test_processes_that_begin_one_study_together_fill_its_budget_exactly(tmp_path, work):
    command = [sys.executable, "-c", BEGIN + work, str(tmp_path / "race.db")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    workers = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in workers:
        out, err = worker.communicate(timeout=120)
        assert out.split() == ["10", "10", "0"], err
    assert all(path.name.startswith("race.db") for path in tmp_path.iterdir())


def test_threads_share_a_study_on_devices():
    study, alone = (jhpo.Study(SPACE, GREEDY, seed=1) for _ in range(2))
    _together(3, lambda: study.optimize(objective, budget=400))
    alone.optimize(objective, budget=400)
    assert len(study) == 400
    assert_same(study, alone)


@pytest.mark.parametrize("stored", [False, True])
def test_threads_share_the_budget_on_the_host(tmp_path, stored):
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4), tmp_path / "a.db" if stored else None, lease=0.01)

    def delayed(hp):
        time.sleep(0.03)
        return hp["x"]

    slow = jhpo.host(delayed, workers=2)
    _together(3, lambda: study.optimize(slow, budget=11))
    assert study.evaluations == len(study) == 11 and not study.failures


def _together(count, work):
    errors = []

    def one():
        try:
            work()
        except BaseException as error:  # noqa: BLE001 whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_asking_never_exceeds_a_budget(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, jhpo.RandomSearch(4), path) as a, jhpo.Study.load(path) as b:
        trials = a.ask(3, budget=5) + b.ask(3, budget=5)
        assert len(trials) == 5 and a.ask(1, budget=5) == b.ask(1, budget=5) == []
        a.tell(trials[0], 1.0)
        assert b.ask(1, budget=5) == [] and len(b.ask(1, budget=6)) == 1
        with pytest.raises(InvalidArgument, match="budget"):
            a.ask(1, budget=0)


def test_a_living_worker_keeps_its_trials_and_one_that_closed_does_not(tmp_path):
    path = tmp_path / "a.db"
    first = jhpo.Study(SPACE, jhpo.RandomSearch(4), path, lease=0.01)
    held = first.ask(3)
    with jhpo.Study.load(path, lease=0.01) as second:
        time.sleep(0.05)
        first.tell(held[0], 1.0)
        assert [t.id for t in first.ask(1) + second.ask(1)] == [3, 4]
        first.tell(held[1], 2.0)
        first.close()
        time.sleep(0.05)
        assert [t.id for t in second.ask(2)] == [2, 3] and not second.failures


def test_a_heartbeat_from_another_machine_renews_the_lease(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, jhpo.RandomSearch(4), path) as study:
        with monkeypatch.context() as m:
            for name in ("jhpo.study.hands.worker_name", "jhpo.study.ledger.worker_name"):
                m.setattr(name, lambda: "elsewhere/1/1")
            far = jhpo.Study.load(path, lease=0.8)
        (kept,) = far.ask()
        with jhpo.Study.load(path, lease=0.8) as near:
            time.sleep(1.3)
            assert near.ask()[0].id == 1
            far.close()
            time.sleep(0.9)
            assert near.ask()[0].id == kept.id
        assert study.ask()[0].id == 2


def test_a_file_of_an_earlier_version_gets_its_table_of_heartbeats(tmp_path):
    import sqlite3

    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.ask(1)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE jhpo_pulse")
    with jhpo.Study.load(path, lease=60.0) as a, jhpo.Study.load(path, read_only=True) as reader:
        assert a.ask(2, budget=3)[0].id == 1
        reader.refresh()
        assert len(reader) == 3


def test_no_message_ever_advises_to_delete(tmp_path):
    empty = tmp_path / "empty.db"
    empty.touch()
    for make in (lambda: jhpo.Study(SPACE, GREEDY, empty, resume=True), lambda: jhpo.Study.load(empty)):
        with pytest.raises(StorageError, match="is empty") as caught:
            make()
        assert not {"remove", "delete"} & set(str(caught.value).lower().split())
    assert empty.stat().st_size == 0


def test_what_a_file_left_behind_is_not_taken_for_part_of_a_new_one(tmp_path):
    path = tmp_path / "a.db"
    old = jhpo.Study(SPACE, GREEDY, path, seed=1)
    old.ask(3)
    path.rename(tmp_path / "b.db")
    with jhpo.Study(SPACE, GREEDY, path, seed=2) as new:
        assert len(new) == 0 and new.seed == 2
    (left,) = tmp_path.glob("a.db.left1-wal")
    left.rename(tmp_path / "b.db-wal")
    with jhpo.Study.load(tmp_path / "b.db") as found:
        assert len(found) == 3 and found.seed == 1


def test_waiting_for_others_ends_with_the_clock_and_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("jhpo.study.watch._PATIENT_SECONDS", 0.1)
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, jhpo.RandomSearch(4), path) as holder, jhpo.Study.load(path) as study:
        holder.ask(2)
        host = jhpo.host(lambda hp: hp["x"])
        with pytest.warns(UserWarning, match="waiting for 2 trials"):
            assert "seconds" in study.optimize(host, budget=5, seconds=0.5).stopped
        assert study.evaluations == 3
        study.requeue()
        assert study.optimize(host, budget=5).evaluations == 2 and len(study) == 5


def test_a_rest_of_the_budget_that_was_told_meanwhile_is_done_and_not_exhausted(tmp_path, monkeypatch):
    """A worker found the rest in the hands of another, which told it and closed the study before it looked again."""
    path = tmp_path / "a.db"
    other = jhpo.Study(SPACE, jhpo.RandomSearch(4), path)
    (trial,) = other.ask(1)

    def telling_first(look):
        def late(watch: Watch):
            if other.evaluations == 0:
                other.tell(trial, 0.5)
                other.close()
            return look(watch)

        return late

    for name in ("waits", "wait"):  # whichever looks first after nothing was to be had
        monkeypatch.setattr(Watch, name, telling_first(getattr(Watch, name)))
    with jhpo.Study.load(path) as study:
        assert study.optimize(jhpo.host(lambda hp: hp["x"]), budget=1).stopped == "evaluations: 1 of 1 done"


@pytest.mark.parametrize("read", ["frame", "curves", "newest", "top", "history"])
def test_a_thread_may_look_while_another_adds_trials(read):
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)}, constraints=[lambda hp: hp["x"] - 0.1])
    study, over = jhpo.Study(space, "random"), threading.Event()
    looks = {
        "frame": study.to_frame, "curves": lambda: study.to_frame(curves=True), "newest": lambda: study[len(study) - 1],
        "top": lambda: study.top(2), "history": lambda: study.figure("history").to_frame(),
    }  # fmt: skip

    def add() -> None:
        while not over.is_set():
            study.enqueue({"x": 0.5})
            for trial in study.ask(8):
                trial.report(1, 0.5)
                study.tell(trial, trial.params["x"])

    study.absorb([{"x": 0.5}], [0.5])
    interval, thread = sys.getswitchinterval(), threading.Thread(target=add)
    sys.setswitchinterval(1e-5)
    try:
        thread.start()
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            looks[read]()
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)
