"""Repair keeps what is whole, names what is lost, and leaves the damaged file beside it."""

from __future__ import annotations

import re
import sqlite3

import numpy as np
import pytest

import jhpo
from jhpo.errors import StorageError
from jhpo.study.repair import LOST, repair
from jhpo.trial import TrialState

SPACE = jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "k": jhpo.Choice(["a", "b"])})


def objective(hp):
    return hp["x"] ** 2


def made(path, generations=6):
    with jhpo.Study(SPACE, jhpo.RandomSearch(4), path, seed=1) as study:
        study.optimize(objective, generations=generations)
        return study.history.table.value.array.copy()


def test_a_whole_study_is_left_alone(tmp_path):
    path = tmp_path / "a.db"
    made(path)
    before = path.read_bytes()
    assert "nothing to repair" in repair(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["body", "gone"])
def test_a_lost_row_costs_its_trials_and_no_others(tmp_path, damage):
    path = tmp_path / "a.db"
    values = made(path)
    connection = sqlite3.connect(path)
    rows = [r for r, kind in connection.execute("SELECT seq, kind FROM jhpo_log") if kind == "batch"]
    if damage == "body":
        connection.execute("UPDATE jhpo_log SET body = x'00' WHERE seq = ?", (rows[2],))
    else:
        connection.execute("DELETE FROM jhpo_log WHERE seq = ?", (rows[2],))
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="repair"):
        jhpo.Study.load(path)
    assert "4 trials were lost" in repair(path)
    assert (tmp_path / "a.db.damaged1").exists()
    with jhpo.Study.load(path) as study:
        np.testing.assert_array_equal(study.history.table.value.array[:8], values[:8])
        np.testing.assert_array_equal(study.history.table.value.array[12:], values[12:])
        assert [t.id for t in study.failures] == [8, 9, 10, 11]
        assert {t.reason for t in study.failures} == {LOST}
        study.optimize(objective, budget=40)
        assert len(study) == 40 and np.isfinite(study.best.value)


def test_a_file_cut_off_keeps_its_first_rows_or_is_refused(tmp_path):
    path = tmp_path / "a.db"
    values = made(path, generations=60)
    size = path.stat().st_size
    whole = path.read_bytes()
    kept = []
    for share in (0.9, 0.6, 0.3, 0.02):
        cut = tmp_path / f"cut{share}.db"
        cut.write_bytes(whole[: int(size * share)])
        with pytest.raises(StorageError):
            jhpo.Study.load(cut)
        try:
            said = repair(cut)
        except StorageError as error:
            assert "beyond repair" in str(error) and "copy" in str(error)
            continue
        with jhpo.Study.load(cut) as study:
            found = study.history.table.value.array
            there = np.isfinite(found)
            np.testing.assert_array_equal(found[there], values[: len(found)][there])
            kept.append(int(there.sum()))
            assert re.search(r"and what the last \d+ log rows? said", said), "trials that leave no trace are lost too"
    assert kept and max(kept) > 100


def test_a_study_without_its_first_row_is_beyond_repair(tmp_path):
    path = tmp_path / "a.db"
    made(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE jhpo_log SET body = x'00' WHERE seq = 0")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="beyond repair"):
        repair(path)
    with pytest.raises(StorageError, match="no study"):
        repair(tmp_path / "none.db")


class Task:
    steps = 8

    def init(self, hp, key):
        return hp["x"]

    def step(self, hp, w, t):
        return 0.9 * w

    def evaluate(self, hp, w):
        return w**2


def damage(path, seq):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE jhpo_log SET body = x'00' WHERE seq = ?", (seq,))
    connection.commit()
    connection.close()


def test_results_keep_the_names_of_their_objectives(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, "random", path, directions=["minimize", "maximize"]) as study:
        study.ask(1)
        for trial in study.ask(2):
            study.tell(trial, {"loss": 1.0, "score": 2.0})
    damage(path, 1)
    repair(path)
    with jhpo.Study.load(path) as study:
        study.tell(study.ask(1)[0], {"score": 3.0, "loss": 0.5})
        assert [trial.values for trial in study][1:] == [(1.0, 2.0), (1.0, 2.0), (0.5, 3.0)]
        assert study.objectives is not None and study.objectives.names == ("loss", "score")


@pytest.mark.parametrize(
    ("strategy", "kind", "place", "lost"),
    [
        (jhpo.SuccessiveHalving(4, eta=2, min_steps=2), "rung", 0, 0),
        (jhpo.FreezeThaw(batch=2, interval=2), "thaw", 1, 2),
    ],
    ids=["rungs", "thaws"],
)
def test_members_that_were_trained_on_have_their_last_values(tmp_path, strategy, kind, place, lost):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, strategy, path) as study:
        study.optimize(Task(), budget=8, generations=6)
        before = {t.id: (t.value, t.horizon) for t in study}
    with sqlite3.connect(path) as connection:
        rows = [seq for (seq,) in connection.execute("SELECT seq FROM jhpo_log WHERE kind = ? ORDER BY seq", (kind,))]
    connection.close()
    damage(path, rows[place])
    assert f"{lost} trials were lost" in repair(path)
    with jhpo.Study.load(path, read_only=True) as study:
        after = {t.id: (t.value, t.horizon) for t in study if t.status is TrialState.COMPLETE}
        assert len(study) == 8 and all(after[i] == before[i] for i in range(4, 8))
        assert max(horizon for _, horizon in after.values()) > 0.25


def test_what_waits_goes_on_waiting_and_reports_are_kept(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, "random", path) as study:
        study.ask(1)
        (trial,) = study.ask(1)
        trial.report(1, 0.5)
        trial.report(2, 0.4)
        study.tell(trial, pruned=True)
        waits = study.enqueue({"x": 0.1, "k": "b"})
        told = study.ask(1)[0].id, study[1].curve
    damage(path, 1)
    assert "1 later result; 1 trial waits to be evaluated; 1 trial was lost" in repair(path)
    with jhpo.Study.load(path) as study:
        assert (study[1].status, study[1].curve) == (TrialState.PRUNED, told[1])
        assert [(t.id, t.params) for t in study.ask(1)] == [(waits, {"x": 0.1, "k": "b"})] and told[0] == waits
        assert study.to_frame().asked.min().year > 2000
