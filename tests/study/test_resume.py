"""Snapshots of strategies whose buffers grow: their size is stored, or found where earlier versions stored none."""

from __future__ import annotations

import sqlite3

import pytest
from flax import serialization

import jhpo
from jhpo.storage.codec import digest
from tests.search.test_driver import Memory
from tests.study.studies import assert_same_state

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(2,))})
TRIALS = 13  # of two a generation, so that the buffer of four has grown twice, and a generation is open


@pytest.fixture
def path(tmp_path):
    with jhpo.Study(SPACE, Memory(), tmp_path / "a.db") as study:
        go_on(study, TRIALS)
    return tmp_path / "a.db"


def go_on(study, trials):
    while len(study) < trials:
        for trial in study.ask(1):
            study.tell(trial, 1.0 + trial.id)


def change_snapshots(path, change):
    connection = sqlite3.connect(path)
    for generation, body in connection.execute("SELECT generation, body FROM jhpo_snapshot").fetchall():
        stored = serialization.msgpack_restore(body)
        data = serialization.msgpack_serialize(change(stored))
        mark = digest(generation, "snapshot", data)
        connection.execute(
            "UPDATE jhpo_snapshot SET body = ?, digest = ? WHERE generation = ?", (data, mark, generation)
        )
    connection.commit()
    connection.close()


def assert_goes_on(path, remarks):
    whole = jhpo.Study(SPACE, Memory())
    go_on(whole, TRIALS)
    with jhpo.Study.load(path, strategy=Memory()) as study:
        assert_same_state(study, whole)
        assert len(study.history.remarks) == remarks
        place = study.ledger.follower().mark().place
        assert place.growths == 2 and len(place.state.values) == 16
        go_on(study, 40)
        go_on(whole, 40)
        assert_same_state(study, whole)


def test_the_size_of_the_buffers_stands_in_the_snapshot(path):
    seen = []

    def look(stored):
        seen.append(stored["growths"])
        return stored

    change_snapshots(path, look)
    assert seen == [2]
    assert_goes_on(path, remarks=0)


def test_snapshots_of_earlier_versions_without_it_are_used(path):
    change_snapshots(path, lambda stored: {k: v for k, v in stored.items() if k != "growths"})
    assert_goes_on(path, remarks=0)


@pytest.mark.parametrize("growths", [0, 1, 3, -1, 10**9])
def test_a_wrong_size_leaves_the_log_to_rebuild_the_state(path, growths):
    change_snapshots(path, lambda stored: stored | {"growths": growths})
    assert_goes_on(path, remarks=1)


def test_a_strategy_that_does_not_grow_is_not_asked_to(tmp_path):
    with jhpo.Study(SPACE, "random", tmp_path / "a.db") as study:
        go_on(study, 70)
    change_snapshots(tmp_path / "a.db", lambda stored: stored | {"growths": 1})
    with jhpo.Study.load(tmp_path / "a.db") as study:
        study.ask(1)
        assert study.history.remarks == ["a snapshot has other buffers than this strategy's state"]
