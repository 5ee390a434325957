"""Events: stored as they were by earlier versions, read back whole, and a study of format 1 that goes on."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import jhpo
from jhpo.storage import open_log
from jhpo.storage.codec import Entry, pack, unpack
from jhpo.study import events
from jhpo.study.bodies import body_of, read_event
from tests.study.steps import first_steps, in_memory, later_steps
from tests.study.studies import columns

OLD = Path(__file__).parent / "data" / "format1.db"


@pytest.fixture
def old(tmp_path):
    """A study that was stored before events had classes; made by `steps.first_steps`."""
    return Path(shutil.copy(OLD, tmp_path / "old.db"))


def entries(path):
    log = open_log(path, create=False)
    try:
        return log.read()
    finally:
        log.close()


def test_every_stored_event_is_written_again_to_the_byte(old):
    found = entries(old)
    assert {e.kind for e in found} == set(events.KINDS) - {"repair", "rung", "thaw", "report", "note"}  # later ones
    for entry in found:
        again = body_of(read_event(entry))
        assert list(again) == list(entry.body) and pack(again) == pack(entry.body), entry.kind


@pytest.mark.parametrize("by", ["snapshot", "log"])
def test_a_study_of_format_1_goes_on_as_if_it_had_been_made_today(old, by):
    if by == "log":
        connection = sqlite3.connect(old)
        connection.execute("DELETE FROM jhpo_snapshot")
        connection.commit()
        connection.close()
    whole = in_memory()
    with jhpo.Study.load(old) as study:
        first_steps(whole, study[2].params["y"])
        assert_same_columns(study, whole)
        later_steps(study)
        later_steps(whole)
        assert_same_columns(study, whole)
        assert study.history.stops[-1] == whole.history.stops[-1] == "evaluations: 56 of 56 done"
        assert study.history.remarks == []  # the snapshot was of use
        assert [t.reason for t in study.failures] == [t.reason for t in whole.failures]


def assert_same_columns(a, b):
    """The same trials; values of JAX objectives may round differently on another processor, or in other programs."""
    for (name, x), y in zip(columns(a).items(), columns(b).values(), strict=True):
        compare = np.testing.assert_allclose if name == "value" else np.testing.assert_array_equal
        compare(x, y, err_msg=name, **({"rtol": 1e-5} if name == "value" else {}))


def test_what_is_usual_is_not_stored():
    units, results = np.zeros((1, 2)), events.Results(np.zeros(1), {})
    usual = events.Batch(0, 1, 0, 0, units, results, 1.0, 2.0)
    other = events.Batch(0, 1, 0, 0, units, results, 1.0, 2.0, streams=np.zeros(1, np.uint32), horizon=0.5)
    assert "streams" not in body_of(usual) and "horizon" not in body_of(usual)
    assert list(body_of(usual)["results"]) == ["value", "reasons"]
    body = unpack(pack(body_of(other)))
    again = read_event(Entry(0, "batch", body))
    assert isinstance(again, events.Batch) and again.horizon == 0.5 and again.streams.tolist() == [0]


def test_keys_of_later_versions_are_passed_over_and_missing_ones_refused():
    body = {"ids": [1], "lost": False, "time": 0.0}
    again = read_event(Entry(3, "requeue", body | {"colour": "red"}))
    assert isinstance(again, events.Requeue) and again.ids == [1]
    with pytest.raises(TypeError, match="lost"):
        read_event(Entry(3, "requeue", {"ids": [1], "time": 0.0}))


def test_results_of_one_trial_of_several():
    results = events.Results(np.asarray([1.0, np.nan]), {1: "broke"}, cost=np.asarray([3.0, 4.0]))
    first, second = results.row(0), results.row(1)
    assert (first.value.tolist(), first.reasons, first.cost.tolist()) == ([1.0], {}, [3.0])
    assert (second.reasons, second.grad) == ({0: "broke"}, None)
