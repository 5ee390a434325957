"""Repair keeps what is whole, names what is lost, and leaves the damaged file beside it."""

from __future__ import annotations

import re
import sqlite3

import numpy as np
import pytest

import jhpo
from jhpo.errors import StorageError
from jhpo.study.repair import LOST, repair

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
