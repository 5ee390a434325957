"""The append-only log: transactions, digests, refusals; nothing is silently different."""

from __future__ import annotations

import sqlite3
from typing import Any

import numpy as np
import pytest

from jhpo.errors import InvalidArgument, StorageError
from jhpo.storage import open_log, sql, storage_url
from jhpo.storage.codec import pack, unpack

pytestmark = pytest.mark.quick


def filled(path, rows=5):
    log = open_log(path, create=True)
    for k in range(rows):
        with log.write():
            log.read()
            log.append("tell", {"k": k, "x": np.arange(k, dtype=np.float32)})
    log.close()
    return path


def change(path, *statements):
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(*statement)
    connection.commit()
    connection.close()


def read(path):
    log = open_log(path, create=False)
    try:
        return log.read()
    finally:
        log.close()


def test_values_and_arrays_come_back_as_they_were():
    body: dict[str, Any] = {
        "f4": np.float32([0.1, np.nan, np.inf]), "f8": np.zeros((0, 3)), "i8": np.arange(6).reshape(2, 3),
        "flag": np.array([True, False]), "text": "ä", "none": None,
        "nested": {"a": [1, 2.5, b"\0"]}, "n": np.float64(0.5),
    }  # fmt: skip
    back = unpack(pack(body))
    for name in ("f4", "f8", "i8", "flag"):
        assert back[name].dtype == body[name].dtype
        np.testing.assert_array_equal(back[name], body[name])
    assert {k: back[k] for k in ("text", "none", "nested", "n")} == {
        "text": "ä", "none": None, "nested": {"a": [1, 2.5, b"\0"]}, "n": 0.5,
    }  # fmt: skip


def test_objects_are_not_stored():
    with pytest.raises(TypeError, match="numbers, text"):
        pack({"x": object()})
    with pytest.raises(TypeError, match="arrays of"):
        pack({"x": np.array(["text"])})


def test_events_come_back_in_order_and_only_once(tmp_path):
    path = filled(tmp_path / "a.db")
    log = open_log(path, create=False)
    assert [(e.seq, e.body["k"]) for e in log.read()] == [(k, k) for k in range(5)]
    assert log.read() == []
    other = open_log(path, create=False)
    with other.write():
        other.read()
        other.append("tell", {"k": 5})
    assert [e.body["k"] for e in log.read()] == [5]
    log.close()
    other.close()


def test_a_failed_transaction_leaves_nothing(tmp_path):
    path = filled(tmp_path / "a.db")
    log = open_log(path, create=False)
    log.read()
    with pytest.raises(RuntimeError, match="on purpose"), log.write():
        log.append("tell", {"k": 99})
        raise RuntimeError("on purpose")
    with log.write():
        log.append("tell", {"k": 5})
    log.close()
    assert [e.body["k"] for e in read(path)] == list(range(6))


@pytest.mark.parametrize(
    "statements",
    [
        [("DELETE FROM jhpo_log WHERE seq = 2",)],
        [("DELETE FROM jhpo_log WHERE seq = 4",)],
        [("DELETE FROM jhpo_log",)],
        [("UPDATE jhpo_log SET kind = 'ask' WHERE seq = 1",)],
        [("UPDATE jhpo_log SET body = ? WHERE seq = 3", (pack({"k": 9}),))],
        [("UPDATE jhpo_log SET seq = 7 WHERE seq = 2",), ("UPDATE jhpo_log SET seq = 2 WHERE seq = 3",),
         ("UPDATE jhpo_log SET seq = 3 WHERE seq = 7",)],
        [("INSERT INTO jhpo_log SELECT 5, kind, body, digest, chain FROM jhpo_log WHERE seq = 4",)],
        [("UPDATE jhpo_meta SET value = '3:00' WHERE key = 'head'",)],
    ],
    ids=["dropped", "last-dropped", "all-dropped", "kind", "body", "swapped", "duplicated", "head"],
)  # fmt: skip
def test_every_change_of_a_row_is_noticed(tmp_path, statements):
    path = filled(tmp_path / "a.db")
    change(path, *statements)
    with pytest.raises(StorageError, match="repair"):
        read(path)


def test_a_newer_format_is_refused_unmodified(tmp_path):
    path = filled(tmp_path / "a.db")
    change(path, ("UPDATE jhpo_meta SET value = '2' WHERE key = 'format'",))
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"format 2; this jhpo reads 1 to 1.*upgrade"):
        open_log(path, create=True)
    assert path.read_bytes() == before


def test_what_is_no_study_is_refused_unmodified(tmp_path):
    text = tmp_path / "text.db"
    text.write_text("not a database, but long enough to be mistaken for one")
    empty = tmp_path / "empty.db"
    empty.touch()
    foreign = tmp_path / "foreign.db"
    change(foreign, ("CREATE TABLE trials (x)",))
    for path, words in ((text, "not a database"), (empty, "is empty"), (foreign, "not of jhpo"), (tmp_path, "folder")):
        before = path.read_bytes() if path.is_file() else b""
        for create in (True, False):
            with pytest.raises(StorageError, match=words):
                open_log(path, create=create)
        assert not path.is_file() or path.read_bytes() == before


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(StorageError, match=r"no study at .*none\.db"):
        open_log(tmp_path / "none.db", create=False)
    with pytest.raises(StorageError, match=r"folder .*away does not exist"):
        open_log(tmp_path / "away" / "a.db", create=True)
    with pytest.raises(StorageError, match="cannot open"):
        open_log("/proc/a.db", create=True)
    for url in ("nonsense://", "sqlite://", "://"):
        with pytest.raises(StorageError, match=r"storage|cannot open"):
            open_log(url, create=True)
    with pytest.raises(InvalidArgument, match="storage"):
        storage_url(3)


def test_read_only_logs_do_not_write(tmp_path):
    path = filled(tmp_path / "a.db")
    log = open_log(path, create=False, read_only=True)
    assert len(log.read()) == 5
    with pytest.raises(StorageError, match="read-only"), log.write():
        log.append("tell", {})
    log.close()


def test_a_log_that_may_only_be_read_says_how(tmp_path, monkeypatch):
    """The database's own words, "attempt to write a readonly database", were all of it."""
    path, real = filled(tmp_path / "a.db"), sql.make_engine
    # as in a folder that may only be read; the rights of a folder do not hold for root
    monkeypatch.setattr(sql, "make_engine", lambda url, path, *_: real(url, path, True))
    with pytest.raises(StorageError, match=r"may only be read \(attempt .* read_only=True\) writes nothing"):
        log = open_log(path, create=False)
        with log.write():
            log.append("tell", {})


@pytest.mark.parametrize(
    "hostile",
    [
        b"cos\nsystem\n(S'touch pwned'\ntR.",
        b"\x81\xa9__array__\xa3<f8",
        b"\x91" * 100_000 + b"\x00",
        b"\x81\xa1x\xc6\xff\xff\xff\xff",
        b"\x81\xa1x\xdd\xff\xff\xff\xff",
        b"\x81\xa1x\xd4\x05\x00",
        pack({"__array__": "<f8", "shape": [2**60], "data": b"\0" * 8}),
        pack({"__array__": "|O", "shape": [1], "data": b"\0" * 8}),
        pack({"__array__": "<f8", "shape": [-1], "data": b""}),
        b"\x01",
    ],
    ids=[
        "pickle",
        "cut",
        "deep",
        "huge-bytes",
        "huge-list",
        "extension",
        "huge-array",
        "objects",
        "negative",
        "number",
    ],
)
def test_hostile_bytes_are_an_error_and_nothing_else(hostile):
    with pytest.raises(StorageError):
        unpack(hostile)
