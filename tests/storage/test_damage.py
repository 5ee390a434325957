"""Damaged and hostile files are refused by a clear error; files of every released format open."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest

import jhpo
from jhpo.errors import JhpoError, StorageError
from jhpo.study.repair import repair
from tests.storage.references import GREEDY, whole
from tests.study.campaigns import SPACE, objective
from tests.study.studies import assert_same

# 3: truncated files, flipped bits


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "a.db"
    with jhpo.Study(SPACE, GREEDY, path, seed=1) as study:
        study.optimize(objective, budget=160)
    return path


def opened_as(path, reference):
    """How a perhaps damaged file opens: "refused", or "same" (as far as it goes it equals the reference)."""
    try:
        with jhpo.Study.load(path) as study:
            rows = len(study)
            assert_same(study, reference, rows)
            assert rows == len(reference), "results are missing without a word"
            study.ask(1)
        return "same"
    except StorageError:
        return "refused"


def test_flipped_bits_are_noticed_or_harmless(tmp_path, stored):
    reference, data = whole(160, seed=1), stored.read_bytes()
    random = np.random.default_rng(0)
    outcomes = []
    for k in range(60):
        path = tmp_path / f"{k}.db"
        changed = bytearray(data)
        at = int(random.integers(len(data)))
        changed[at] ^= 1 << int(random.integers(8))
        path.write_bytes(changed)
        outcomes.append(opened_as(path, reference))
    assert outcomes.count("refused") > 10
    assert set(outcomes) <= {"refused", "same"}


def test_truncated_files_are_refused(tmp_path, stored):
    reference, data = whole(160, seed=1), stored.read_bytes()
    for share in (0.0, 0.001, 0.1, 0.37, 0.5, 0.8, 0.95, 0.999):
        path = tmp_path / f"{share}.db"
        path.write_bytes(data[: int(len(data) * share)])
        assert opened_as(path, reference) == "refused", share
        with contextlib.suppress(StorageError):
            repair(path)
            with jhpo.Study.load(path) as study:
                there = np.isfinite(study.history.table.value.array)
                good = reference.history.table.value.array[: len(study)]
                np.testing.assert_array_equal(study.history.table.value.array[there], good[there])


def test_a_damaged_study_that_is_open_is_not_said_to_be_safe(tmp_path):
    path = tmp_path / "s.db"
    with jhpo.Study(SPACE, "random", path) as study:
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute("DROP TABLE jhpo_log")
        with pytest.raises(StorageError, match=r"is damaged .*try `jhpo repair`$"):
            study.ask()


def test_what_the_system_refuses_is_told_of_the_storage(tmp_path):
    (tmp_path / "gone.db").symlink_to("nowhere.db")
    (tmp_path / "loop.db").symlink_to("loop.db")
    words = {"gone.db": r"is a link to nowhere\.db", "loop.db": "cannot open .*loop", "x" * 300: "cannot open .*long"}
    for name, match in words.items():
        with pytest.raises(StorageError, match=match):
            jhpo.Study(SPACE, "random", tmp_path / name)
        with pytest.raises(StorageError, match=match):
            jhpo.Study.load(tmp_path / name, read_only=True)
    jhpo.Study(SPACE, "random", tmp_path / ("y" * 240)).close()  # what is beside it has short names as well


# 15: hostile files


def test_hostile_headers_are_refused_quickly(tmp_path):
    from jhpo.storage import open_log

    study = jhpo.Study(SPACE, "random", tmp_path / "good.db")
    header = dict(study.history.header)
    study.close()
    bad = {
        "pickle": {"space": "cos\nsystem\n(S'touch pwned'\ntR."},
        "deep": {"space": '{"version":1,"tree":' + "[" * 100_000},
        "no-tree": {"space": "{}"},
        "module": {"strategy": {"strategy": "../../evil:Strategy", "options": {}}},
        "dunder": {"strategy": {"strategy": "random", "options": {"__class__": "x"}}},
        "types": {"strategy": 3},
        "seed": {"seed": "../x"},
        "direction": {"direction": "sideways"},
        "huge": {"strategy": {"strategy": "random", "options": {"population": -(2**62)}}},
    }
    for name, change in bad.items():
        log = open_log(tmp_path / f"{name}.db", create=True)
        with log.write():
            log.append("study", header | change)
        log.close()
        start = time.monotonic()
        with pytest.raises(JhpoError):
            jhpo.Study.load(tmp_path / f"{name}.db")
        assert time.monotonic() - start < 1.0
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "events",
    [
        [("ask", {"generation": 0, "rows": 2**60, "member": 0, "id": 0})],
        [("ask", {"generation": 5, "rows": 4, "member": 0, "id": 0})],
        [("ask", {"generation": 0, "rows": 4, "member": 3, "id": 0})],
        [("ask", {"generation": 0, "rows": 4, "member": 0, "id": 7})],
        [("tell", {"ids": np.asarray([0]), "results": {"value": np.zeros(1), "reasons": {}}, "time": 0.0})],
        [("tell", {"ids": np.asarray([-1]), "results": {"value": np.zeros(1), "reasons": {}}, "time": 0.0})],
        [("claim", {"ids": [3], "worker": "w", "time": 0.0})],
        [("run", {"command": "true"})],
        [("study", {})],
        [("layout", {})],
    ],
    ids=["huge", "generation", "member", "id", "untold", "negative", "claim", "kind", "study", "layout"],
)
def test_contradicting_events_are_refused(tmp_path, events):
    path = tmp_path / "a.db"
    study = jhpo.Study(SPACE, "random", path)
    log = study.ledger.log
    with log.write():
        for kind, body in events:
            defaults = {"units": np.full((2, SPACE.dim), 0.5), "worker": "w", "time": 0.0}
            log.append(kind, {**defaults, **body} if kind == "ask" else body)
    study.close()
    with pytest.raises(StorageError, match="log row 1"):
        jhpo.Study.load(path)


# 16: formats


def test_a_study_of_every_released_format_opens(tmp_path):
    folder = Path(__file__).parent / "formats"
    files = sorted(folder.glob("format*.sqlite"))
    from jhpo.storage.schema import FORMAT

    assert [f.stem for f in files] == [f"format{k}" for k in range(1, FORMAT + 1)]
    for file in files:
        copy = tmp_path / file.name
        shutil.copy(file, copy)
        with jhpo.Study.load(copy) as study:
            assert len(study) == 24 and study.best.value < 1.0
            assert [t.id for t in study.failures] == [1]
            (trial,) = study.ask()
            study.tell(trial, 0.0)
            assert study.best.id == trial.id
