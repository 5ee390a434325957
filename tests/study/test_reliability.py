"""What must survive: short versions of the campaigns in benchmarks/reliability.py."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

import jhpo
from jhpo.errors import StorageError, TrialConflict
from jhpo.storage import reading
from jhpo.trial import TrialState
from tests.storage.references import GREEDY, whole
from tests.study.campaigns import SPACE, campaign, claims, lease_campaign, million, objective, tell_many
from tests.study.studies import assert_same, columns, database

# 1, 2: kill -9


def test_killed_runs_lose_nothing_and_end_as_the_uninterrupted_one(tmp_path):
    figures = campaign(tmp_path, kills=4, seed=11)
    assert figures["kills"] == 4
    assert figures["lost"] == 0 and figures["duplicates"] == 0 and figures["different"] == 0
    assert figures["slowest_open_s"] < 1.0


@pytest.mark.slow
def test_two_hundred_kills(tmp_path):
    figures = campaign(tmp_path, kills=200, seed=0)
    assert figures["lost"] == 0 and figures["duplicates"] == 0 and figures["different"] == 0
    assert figures["slowest_open_s"] < 1.0


@pytest.mark.slow
def test_eight_processes_tell_eight_thousand_trials(tmp_path):
    figures = tell_many(tmp_path / "a.db", processes=8, tells=1000)
    assert figures["trials"] == 8000 and figures["unique_contiguous"] and figures["complete"] == 8000


@pytest.mark.slow
def test_a_million_trials_reopen_within_five_seconds(tmp_path):
    assert million(tmp_path, 1_000_000)["ask_s"] < 5.0


# 3, 15, 16 (damaged and hostile files, formats) are in tests/storage/test_damage.py, 4 (rows dropped, doubled, swapped)
# in tests/storage/test_log.py


# 5: disk full and I/O errors at each write


def test_a_write_that_fails_leaves_the_earlier_state(tmp_path):
    path = tmp_path / "a.db"
    study = jhpo.Study(SPACE, GREEDY, path, seed=1)
    study.optimize(objective, budget=16)
    engine = database(study).engine
    budget, failing = {"left": 0}, {"on": False}

    @event.listens_for(engine, "before_cursor_execute")
    def fail(connection, cursor, statement, parameters, context, executemany):
        if failing["on"] and statement.startswith(("INSERT", "UPDATE", "DELETE")):
            budget["left"] -= 1
            if budget["left"] < 0:
                raise OperationalError(statement, {}, Exception("database or disk is full"))

    (trial,) = study.ask()
    for writes in range(12):
        before = columns(study)
        failing["on"], budget["left"] = True, writes
        try:
            study.tell(trial, 0.5)
            study.tell(study.ask()[0], 0.25)
            survived = True
        except StorageError as error:
            assert "disk is full" in str(error)
            survived = False
        failing["on"] = False
        study.refresh()
        if survived:
            break
        with jhpo.Study.load(path) as again:
            assert_same(again, study, len(study))
            assert len(again) == len(study) >= len(before["value"])
        if study[trial.id].status is TrialState.RUNNING:
            study.tell(trial, 0.5)
        study.requeue()
        (trial,) = study.ask()
    assert survived and writes > 2
    study.close()


def test_a_generation_that_could_not_be_stored_is_asked_for_again(tmp_path):
    study, reference = jhpo.Study(SPACE, GREEDY, tmp_path / "a.db", seed=1), jhpo.Study(SPACE, GREEDY, seed=1)
    failing = {"on": False}

    @event.listens_for(database(study).engine, "before_cursor_execute")
    def fail(connection, cursor, statement, parameters, context, executemany):
        if failing["on"] and statement.startswith("UPDATE"):
            raise OperationalError(statement, {}, Exception("database or disk is full"))

    for _ in range(4):
        failing["on"] = True
        for _ in range(2):
            with pytest.raises(StorageError, match="full"):
                study.ask(8)
        failing["on"] = False
        for one in (study, reference):
            for trial in one.ask(8):
                one.tell(trial, trial.params["x"] ** 2)
    assert_same(study, reference, 32)
    study.close()


def test_a_full_disk_is_a_clear_error_and_the_study_goes_on_when_there_is_room(tmp_path):
    path = tmp_path / "a.db"
    study = jhpo.Study(SPACE, GREEDY, path, seed=1)
    study.optimize(objective, budget=16)
    raw: Any = database(study).connection.connection.driver_connection
    (pages,) = raw.execute("PRAGMA page_count").fetchone()
    raw.execute(f"PRAGMA max_page_count={pages + 3}")
    with pytest.raises(StorageError, match="full"):
        study.optimize(objective, budget=40_000)
    done = study.evaluations
    raw.execute("PRAGMA max_page_count=1073741823")
    study.optimize(objective, budget=done + 160)
    assert 16 <= done < 40_000
    reference = whole(done + 160, seed=1)
    assert_same(study, reference)
    study.close()
    with jhpo.Study.load(path) as again:
        assert_same(again, reference)


# 6: a snapshot is a transaction like any other; see the kill campaign, which checkpoints at random points


# 7, 8: many writers


def test_many_processes_share_one_study(tmp_path):
    figures = tell_many(tmp_path / "a.db", processes=3, tells=20)
    assert figures["trials"] == 60 and figures["unique_contiguous"] and figures["complete"] == 60


def test_an_enqueued_trial_is_claimed_once(tmp_path):
    assert claims(tmp_path / "a.db", workers=8, rounds=5)["wrong"] == 0


# 9: leases


def test_a_killed_workers_trial_is_handed_on(tmp_path):
    figures = lease_campaign(tmp_path / "a.db", kills=2)
    assert figures == {"kills": 2, "handed_on": 2, "late_refused": 1}


# 10, 11 and 17 are in test_study.py, 13 in tests/evaluation/test_host.py, 14 in tests/cli/test_processes.py


# 12: one failed lane


def test_one_nan_member_of_many_changes_no_other():
    def clean(hp):
        return jnp.sin(20 * hp["x"]) * jnp.exp(hp["y"])

    reference = jhpo.Study(SPACE, jhpo.SobolSearch(1024))
    reference.optimize(clean, budget=1024)
    unit = reference[500].params["x"]

    def poisoned(hp):
        return jnp.where(jnp.abs(hp["x"] - unit) < 1e-6, jnp.nan, clean(hp))

    study = jhpo.Study(SPACE, jhpo.SobolSearch(1024))
    study.optimize(poisoned, budget=1024)
    a, b = reference.history.table.value.array, study.history.table.value.array
    lost = np.isnan(b)
    assert lost.sum() == 1 and lost[500]
    np.testing.assert_array_equal(a[~lost].view(np.uint64), b[~lost].view(np.uint64))


# 18 is in benchmarks/reliability.py


# 19: read-only folders, clocks


def test_a_clock_that_jumps_hurts_nobody(tmp_path, monkeypatch):
    study = jhpo.Study(SPACE, GREEDY, tmp_path / "a.db", seed=1, lease=3600.0)
    far = jhpo.Study.load(tmp_path / "a.db")
    far.ledger.worker = "elsewhere/1/1"
    now = time.time()
    (trial,) = far.ask()
    monkeypatch.setattr(time, "time", lambda: now - 86_400.0)
    other = study.ask()[0]
    assert other.id == 1
    monkeypatch.setattr(time, "time", lambda: now + 86_400.0)
    again = study.ask()[0]
    assert (again.id, again.attempt) == (trial.id, 1)  # a lease of an hour is over after a day
    with pytest.raises(TrialConflict):
        far.tell(trial, 0.5)
    study.tell(again, 0.5)
    study.close()
    far.close()


def test_whoever_reads_leaves_nothing_beside_the_file(tmp_path):
    path, names = tmp_path / "a.db", lambda: sorted(p.name for p in tmp_path.iterdir())
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=16)
    with jhpo.Study.load(path, read_only=True) as reader:
        assert reader.evaluations == 16 and names() == ["a.db"]
        with jhpo.Study.load(path) as writer:
            writer.note(a=1)
            reader.refresh()
            assert reader.notes == {"a": 1} and "a.db-wal" in names()
            writer.note(a=2)
        assert names() == ["a.db"]  # the reader keeps nothing open
        reader.refresh()
        assert reader.notes == {"a": 2} and names() == ["a.db"]
    assert names() == ["a.db"]


def test_what_is_written_while_somebody_reads_is_read_again(tmp_path, monkeypatch):
    path, writers = tmp_path / "a.db", list[object]()
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.ask(1)
    at_rest = reading.at_rest

    def look_and_write(file):
        found = at_rest(file)
        if len(writers) < 3:
            writers.append(found)
            with jhpo.Study.load(path) as other:  # its end changes the file under the reader
                other.note(count=len(writers), long="x" * 60_000)
        return found

    monkeypatch.setattr(reading, "at_rest", look_and_write)
    with jhpo.Study.load(path, read_only=True) as reader:
        assert reader.notes["count"] == 3 and len(reader) == 1


@pytest.mark.slow
def test_readers_see_whole_states_of_a_file_that_writers_open_and_leave(tmp_path):
    path = tmp_path / "a.db"
    jhpo.Study(SPACE, "random", path).close()
    script = f"""
import jhpo
for k in range(60):
    with jhpo.Study.load({str(path)!r}) as study:
        study.note(count=k)
        study.tell(study.ask()[0], float(k))
"""
    seen, writer = [], subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    with jhpo.Study.load(path, read_only=True) as reader:
        while writer.poll() is None:
            reader.refresh()
            seen.append((reader.notes.get("count", -1), reader.evaluations))
        reader.refresh()
        assert writer.returncode == 0 and reader.evaluations == 60 and reader.notes == {"count": 59}
    assert seen == sorted(seen) and len(set(seen)) > 3
    assert all(count in (done - 1, done) for count, done in seen)


def test_a_read_only_study_shows_and_refuses_to_change(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=16)
    before = path.read_bytes()
    with jhpo.Study.load(path, read_only=True) as study:
        assert study.evaluations == 16 and len(study.top(3)) == 3
        with pytest.raises(StorageError, match="read-only"):
            study.ask()
        with pytest.raises(StorageError, match="read-only"):
            study.optimize(objective, budget=32)
    assert path.read_bytes() == before


# threads and forks


def test_threads_share_a_study():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(16))

    def work():
        for _ in range(25):
            (trial,) = study.ask()
            study.tell(trial, float(trial.id))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(study.history.table.value.array, np.arange(100.0))


def test_a_process_killed_while_it_holds_the_lock_releases_it(tmp_path):
    path = tmp_path / "a.db"
    jhpo.Study(SPACE, "random", path).close()
    code = (
        f"import sqlite3, time; c = sqlite3.connect({str(path)!r}, isolation_level=None); c.execute('BEGIN IMMEDIATE')"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "; print('held', flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(sqlite3.OperationalError):
        sqlite3.connect(path, timeout=0.05).execute("BEGIN IMMEDIATE")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with jhpo.Study.load(path) as study:
        assert study.ask()[0].id == 0
