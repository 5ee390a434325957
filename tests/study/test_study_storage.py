"""Stored studies: resume bit for bit, snapshots, changed spaces, several workers."""

from __future__ import annotations

import enum
import os
import sqlite3
import time
import warnings

import jax
import numpy as np
import pytest

import jhpo
from jhpo.errors import (
    ChangedSpace,
    InvalidArgument,
    StorageError,
    TrialConflict,
)
from jhpo.storage.worker import is_dead, worker_name
from jhpo.trial import TrialState
from tests.study.studies import GREEDY, SPACE, assert_same, assert_same_state, noisy, objective, on_host


@pytest.mark.parametrize("name", ["random", "greedy", "pso"])
def test_a_resumed_study_is_the_one_that_never_stopped(tmp_path, name):
    strategy = jhpo.make_strategy(name, {"population": 8})
    whole = jhpo.Study(SPACE, strategy, seed=5)
    whole.optimize(noisy, budget=80)
    path = tmp_path / "a.db"
    for budget in (20, 24, 57, 80):
        with jhpo.Study(SPACE, strategy, path, seed=5, resume=True) as part:
            part.optimize(noisy, budget=budget)
    with jhpo.Study.load(path) as loaded:
        assert_same(whole, loaded)
        assert_same_state(whole, loaded)


def test_a_process_may_go_to_another_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    for storage in ("study.db", "sqlite:///url.db"):
        monkeypatch.chdir(tmp_path)
        with jhpo.Study(SPACE, "random", storage) as study, jhpo.Study.load(storage, read_only=True) as reader:
            (trial,) = study.ask(1)
            monkeypatch.chdir(tmp_path / "elsewhere")
            study.tell(trial, 0.5)
            study.optimize(jhpo.host(on_host), 4)
            reader.refresh()
            assert reader.evaluations == 4
    assert not list((tmp_path / "elsewhere").iterdir())


def test_folding_the_log_and_a_snapshot_give_the_same_state(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=64)
    with jhpo.Study.load(path) as by_snapshot:
        assert by_snapshot.ledger.log.load_snapshots()
        by_snapshot.ledger.follower()
        connection = sqlite3.connect(tmp_path / "copy.db")
        sqlite3.connect(path).backup(connection)
        connection.execute("DELETE FROM jhpo_snapshot")
        connection.commit()
        connection.close()
        with jhpo.Study.load(tmp_path / "copy.db") as by_fold:
            assert by_fold.ledger.log.load_snapshots() == []
            assert_same_state(by_snapshot, by_fold)


def test_a_damaged_snapshot_is_ignored(tmp_path):
    path = tmp_path / "a.db"
    whole = jhpo.Study(SPACE, GREEDY)
    whole.optimize(objective, budget=80)
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=64)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE jhpo_snapshot SET body = x'00ff'")
    connection.commit()
    connection.close()
    with jhpo.Study.load(path) as study:
        study.optimize(objective, budget=80)
        assert_same(whole, study)


def test_ask_and_tell_resumes_with_what_was_pending(tmp_path):
    path = tmp_path / "a.db"
    whole = jhpo.Study(SPACE, GREEDY, seed=2)
    for _ in range(40):
        (trial,) = whole.ask()
        whole.tell(trial, on_host(trial.params))
    for stop in range(40):
        with jhpo.Study(SPACE, GREEDY, path, seed=2, resume=True) as study:
            (trial,) = study.ask()
            assert trial.id == stop
            if stop % 3 == 0:
                study.requeue()  # as if this process had died here
                (trial,) = study.ask()
                assert trial.id == stop and trial.attempt == 1
            study.tell(trial, on_host(trial.params))
    with jhpo.Study.load(path) as study:
        assert_same(whole, study)


def test_late_results_and_foreign_ones_fold_to_the_same_state(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path, seed=4) as study:
        study.absorb([{"x": 0.2, "y": 0.1, "k": "b"}], [0.01])
        pending = []
        for _ in range(6):
            trials = study.ask(8)
            pending.append(trials[0])
            study.tell(trials[1:], [on_host(t.params) for t in trials[1:]])
            if len(pending) > 2:
                late = pending.pop(0)
                study.tell(late, on_host(late.params))
        study.ask(1)
        study.refresh()
        with jhpo.Study.load(path) as folded:
            assert_same(study, folded)
            assert_same_state(study, folded)


def test_the_measured_layout_is_stored_and_used_again(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=16, chunk=4)
        assert study.history.layouts["population"]["chunk"] == 4
    with jhpo.Study.load(path) as study:
        study.optimize(objective, budget=32)
        assert study.history.layouts["population"]["chunk"] == 4


def test_a_study_is_not_overwritten_by_accident(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path, seed=1) as study:
        study.optimize(objective, budget=16)
    with pytest.raises(StorageError, match="resume"):
        jhpo.Study(SPACE, GREEDY, path, seed=1)
    for change, words in (
        ({"strategy": jhpo.Greedy(16)}, "population: was 8, now 16"),
        ({"seed": 2}, "seed"),
        ({"direction": "maximize"}, "direction"),
    ):
        arguments = {"strategy": GREEDY, "seed": 1} | change
        with pytest.raises(InvalidArgument, match=words):
            jhpo.Study(SPACE, arguments.pop("strategy"), path, resume=True, **arguments)


def test_a_changed_space_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "a.db"
    jhpo.Study(SPACE, GREEDY, path).close()
    other = jhpo.Space({"x": jhpo.Float(-1.0, 2.0), "z": jhpo.Float(-1.0, 1.0), "k": jhpo.Choice(["a", "b"])})
    with pytest.raises(ChangedSpace) as info:
        jhpo.Study(other, GREEDY, path, resume=True)
    for words in ("x: high was 1.0, now 2.0", "y: removed", "z: added", "new.absorb(old), or new.absorb([trial for"):
        assert words in str(info.value)
    with pytest.raises(ChangedSpace):
        jhpo.Study.load(path, space=other)


def test_a_space_with_constraints_has_to_be_given_again(tmp_path):
    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}, constraints=[positive])
    with jhpo.Study(space, "random", tmp_path / "a.db") as study:
        study.optimize(lambda hp: hp["x"], budget=8)
    with pytest.raises(StorageError, match="space="):
        jhpo.Study.load(tmp_path / "a.db")
    with jhpo.Study.load(tmp_path / "a.db", space=space) as study:
        assert study.best.params["x"] >= 0
    with jhpo.Study.load(tmp_path / "a.db", read_only=True) as study:
        assert len(study) == 8


def positive(hp):
    return hp["x"]


def test_two_studies_on_one_storage_share_the_work(tmp_path):
    path = tmp_path / "a.db"
    a = jhpo.Study(SPACE, jhpo.RandomSearch(4), path)
    b = jhpo.Study.load(path)
    ids = [study.ask()[0].id for study in (a, b, b, a, a)]
    assert ids == list(range(5))
    b.tell(0, 0.5)
    with pytest.raises(TrialConflict):
        a.tell(0, 0.6)
    a.tell(1, 0.25)
    b.refresh()
    assert b.best.id == 1
    alone = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    assert [t.params for t in alone.ask(5)] == [a[i].params for i in range(5)]
    a.close()
    b.close()


def test_a_lease_that_ran_out_is_handed_on_and_given_up_in_the_end(tmp_path):
    path = tmp_path / "a.db"
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4), path, lease=1e-3, max_retry=2)
    silent = jhpo.Study.load(path)
    silent.ledger.worker = "elsewhere/1/1"
    (first,) = silent.ask()
    for attempt in (1, 3):  # given back by hand in between
        time.sleep(2e-3)
        (again,) = study.ask()
        assert (again.id, again.attempt, again.params) == (0, attempt, first.params)
        with pytest.raises(TrialConflict, match="another worker"):
            silent.tell(first, 0.5)
        study.requeue()
        (first,) = silent.ask()
    time.sleep(2e-3)
    (other,) = study.ask()
    assert other.id == 1
    assert study[0].status is TrialState.FAILED and "lost 3 times" in study[0].reason
    with pytest.raises(TrialConflict, match="lost 3 times"):
        silent.tell(first, 0.5)


def test_workers_are_known_by_more_than_their_pid():
    me = worker_name()
    host, pid, start = me.split("/")
    assert int(pid) == os.getpid() and not is_dead(me)
    assert is_dead(f"{host}/{pid}/1")  # the pid was taken by a younger process
    assert is_dead(f"{host}/{2**22 + 1}/{start}")
    assert is_dead(f"{host}/{os.getppid()}/1")
    assert not is_dead(f"elsewhere/{pid}/{start}")


def test_precision_of_the_first_process_is_kept(tmp_path, x64):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=24)
        assert study.ledger.follower().units.dtype == np.float64
    with jax.enable_x64(False), jhpo.Study.load(path) as study:
        study.ask(1)
        assert study.ledger.follower().units.dtype == np.float64


@pytest.mark.parametrize("begun", [False, True])
def test_another_precision_is_said_once_and_stored(tmp_path, begun):
    path = tmp_path / "a.db"
    with jax.enable_x64(begun), jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=8)
        assert "x64" not in study.history.layouts["population"]
    with jax.enable_x64(not begun):
        with pytest.warns(UserWarning, match="jax_enable_x64"):
            study = jhpo.Study(SPACE, GREEDY, path, resume=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            study.optimize(objective, budget=16)
        assert study.history.layouts["population"]["x64"] is not begun
        study.close()
        with jhpo.Study.load(path) as study, pytest.warns(UserWarning, match="float32 .* float64|float64 .* float32"):
            study.optimize(objective, budget=24)
    with jax.enable_x64(begun), jhpo.Study.load(path) as study, warnings.catch_warnings():
        warnings.simplefilter("error")
        study.optimize(jhpo.host(on_host), budget=26)


@pytest.mark.parametrize(
    ("setting", "name", "old", "new"),
    [
        (jax.threefry_partitionable, "jax_threefry_partitionable", True, False),
        (jax.default_matmul_precision, "jax_default_matmul_precision", None, "highest"),
    ],
)
def test_other_settings_of_jax_than_before_are_said(tmp_path, setting, name, old, new):
    """Keys and products give other numbers, which was not said."""
    path = tmp_path / "a.db"
    with setting(old), jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=8)
    words = f"began with {name}={old} and goes on with {name}={new}: "
    with setting(new), jhpo.Study.load(path) as study, pytest.warns(UserWarning, match=words):
        study.optimize(objective, budget=16)
    with setting(old), jhpo.Study.load(path) as study, warnings.catch_warnings():
        warnings.simplefilter("error")
        study.optimize(objective, budget=24)


class Near(enum.Enum):
    EASY = 1
    HARD = 2


def test_conditions_on_choices_that_json_cannot_hold(tmp_path):
    """Objects, enumerations, functions: two of one name are still two."""
    one, two = Plain(), Plain()
    parameters = {
        "model": jhpo.Choice([one, two, (abs, 1)]),
        "level": jhpo.Choice(list(Near)),
        "a": jhpo.Float(0.0, 1.0, when={"model": two}),
        "b": jhpo.Int(0, 9, when={"model": [one, (abs, 1)], "level": Near.HARD}),
        "c": jhpo.Int(0, 9, when={"b": [0, 1, 2, 3]}),
    }
    space = jhpo.Space(parameters)
    path = tmp_path / "a.db"
    with jhpo.Study(space, "random", path) as study:
        for trial in study.ask(24):
            study.tell(trial, 1.0)
        given = [study[i].params for i in range(24)]
    for params in given:
        assert ("a" in params) == (params["model"] is two)
        assert ("b" in params) == (params["model"] is not two and params["level"] is Near.HARD)
    with jhpo.Study.load(path, read_only=True) as study:
        assert [set(study[i].params) for i in range(24)] == [set(p) for p in given]
    with jhpo.Study(space, "random", path, resume=True) as study:
        assert [study[i].params for i in range(24)] == given
    parameters["a"] = jhpo.Float(0.0, 1.0, when={"model": one})
    elsewhere = jhpo.Space(parameters)
    with pytest.raises(ChangedSpace, match="a: when was"):
        jhpo.Study(elsewhere, "random", path, resume=True)


class Plain:
    """A choice without a name of its own."""
