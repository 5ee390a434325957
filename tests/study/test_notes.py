"""Notes of trials and studies: kept, resumed, shown and exported; bad input is refused by name."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import InvalidArgument, JhpoError, StorageError, Study, TrialConflict
from jhpo.storage import open_log
from jhpo.study.repair import repair
from jhpo.values.notes import MOST_BYTES

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
PLAIN = {"git:commit": "5f3a", "none": None, "yes": True, "n": 2**80, "r": 0.1, "text": "ä\ud800", "parts": [1, [{}]]}


def notes(params, trial):
    trial.note({"double": 2 * params["x"]}, seed=trial.seed)
    trial.note(double=3 * params["x"])
    if trial.id == 2:
        raise RuntimeError("no")
    return params["x"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


@pytest.mark.parametrize("storage", [None, "file"])
def test_values_come_back_as_they_were(storage, path) -> None:
    study = Study(SPACE, "random", path if storage else None)
    (trial,) = study.ask()
    trial.note(PLAIN)
    trial.note({"r": 0.25}, later=(1, 2))
    assert trial.notes == study[0].notes == PLAIN | {"r": 0.25, "later": [1, 2]}
    study[0].notes["parts"].append("mine")  # a copy
    study.note(trial=0, nan=math.nan)
    study.tell(trial, 1.0)
    study.note({"n": 1}, trial=study.best)
    study.note(owner="me")
    study.note({}, trial=0)
    if storage:
        study.close()
        study = Study.load(path, read_only=True)
        with pytest.raises(StorageError, match="read-only"):
            study.note(owner="you")
    found = study[0].notes
    assert math.isnan(found.pop("nan")) and study.notes == {"owner": "me"}
    assert found == PLAIN | {"r": 0.25, "later": [1, 2], "n": 1}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5), (np.int8(3), 3), (np.bool_(True), True), (jnp.arange(2), [0, 1]),
        (jnp.bfloat16(0.5), 0.5), (np.zeros((1, 2)), [[0.0, 0.0]]), ({"a": np.ones(1)}, {"a": [1.0]}),
    ],
)  # fmt: skip
def test_arrays_become_lists(value, expected) -> None:
    study = Study(SPACE, "random")
    study.note(value=value)
    assert study.notes == {"value": expected} and type(study.notes["value"]) is type(expected)


def deep() -> list:
    inner: list = []
    inner.append(inner)
    return inner


WRONG = {
    "set": {1}, "object": object(), "complex": 1j, "bytes": b"", "path": Path("a"), "key": {1: 2}, "inner": [{None: 1}],
    "circle": deep(), "texts": np.array("a"), "long": "x" * MOST_BYTES, "array": np.zeros(MOST_BYTES),
    "list": [0.1] * MOST_BYTES, "digits": 10**5000,
}  # fmt: skip


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_what_is_not_plain_is_refused_by_its_name(value) -> None:
    study = Study(SPACE, "random")
    (trial,) = study.ask()
    for note in (trial.note, study.note):
        with pytest.raises(InvalidArgument, match=r"^weights: expected") as error:
            note(weights=value, fine=1)
        assert len(str(error.value)) < 600
    assert study.notes == trial.notes == study[0].notes == {}


def test_wrong_arguments_and_moments() -> None:
    study = Study(SPACE, "random")
    with pytest.raises(InvalidArgument, match=r"^values: expected text as the names of notes, got 3"):
        study.note({3: 1})  # type: ignore[dict-item]
    with pytest.raises(InvalidArgument, match=r"^values: expected notes by name"):
        study.note("text")
    with pytest.raises(InvalidArgument, match=r"^trial: expected"):
        study.note(trial=0, a=1)
    (trial,) = study.ask()
    study.tell(trial, 0.0)
    with pytest.raises(TrialConflict, match=r"study.note\(..., trial=0\)"):
        trial.note(a=1)
    with pytest.raises(JhpoError, match=r"trial.note: .*record"):
        study[0].note(a=1)
    with pytest.raises(InvalidArgument, match=r"values: .* a trial goes by name: note\({...}, trial=0\)"):
        study.note(trial, a=1)
    assert trial.notes == {}


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_objectives_note_in_threads_and_processes(kind, path) -> None:
    study = Study(SPACE, "random", path)
    study.optimize(jhpo.host(notes, kind=kind, workers=2), budget=4)
    study.close()
    with Study.load(path) as study:
        for trial in study:
            assert trial.notes == {"double": 3 * trial.params["x"], "seed": trial.seed}
        assert [t.id for t in study.failures] == [2]


def test_a_search_in_memory_gives_them_with_the_best() -> None:
    result = jhpo.minimize(jhpo.host(notes), SPACE, "random", budget=6, replicates=2, start=[{"x": 0.0}])
    assert sorted(result.notes) == list(range(6))
    best = result.top(1)[0]
    assert best.id == 0 and best.notes["double"] == 0.0 and result.notes[0] == best.notes
    assert all(result.notes[t.id]["double"] == pytest.approx(3 * t.params["x"]) for t in result.top(6))


def test_an_attempt_that_begins_again_has_the_notes_of_the_last_one(path) -> None:
    script = f"""
import os, jhpo
from tests.study.test_notes import SPACE
def dies(params, trial):
    trial.note(checkpoint="step 3")
    os._exit(9)
jhpo.Study(SPACE, "random", {str(path)!r}).optimize(jhpo.host(dies), budget=1)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], env=os.environ, timeout=240)
    assert done.returncode == 9
    seen = []

    def goes_on(params, trial):
        seen.append(trial.notes)
        trial.note(checkpoint="step 9")
        return 0.0

    with Study.load(path) as study:
        study.optimize(jhpo.host(goes_on), budget=1)
        assert (
            seen == [{"checkpoint": "step 9"}] and study[0].notes == {"checkpoint": "step 9"} and study[0].attempt == 1
        )


def test_frames_pages_and_notebooks_show_them(tmp_path: Path) -> None:
    study = Study(SPACE, "random")
    study.optimize(jhpo.host(notes), budget=4)
    study.note({"tag": "<b>"}, trial=study.best)
    study.note(data="digits & co")
    frame = study.to_frame()
    assert frame["note_double"].tolist() == [3 * t.params["x"] for t in study]
    assert frame["note_tag"].tolist() == ["<b>" if t.id == study.best.id else None for t in study]
    page = study.report(tmp_path / "study.html").read_text()
    assert "note double" in page and "&lt;b&gt;" in page and "digits &amp; co" in page
    assert "note tag" in study.best._repr_html_()
    assert "note_double" not in Study(SPACE, "random").to_frame()


def test_notes_that_are_numbers_are_columns_of_numbers() -> None:
    study = Study(SPACE, "random")
    for k in range(3):
        (trial,) = study.ask()
        trial.note({"std": 0.5 * k, "rows": k, "big": 2**60 + k, "last": k == 2, "mixed": k or "none"})
        if k:
            trial.note(epochs=k)
        study.tell(trial, float(k))
    frame = study.to_frame()
    assert {n: str(frame[f"note_{n}"].dtype) for n in ("std", "rows", "epochs")} == {
        "std": "float64", "rows": "int64", "epochs": "float64",
    }  # fmt: skip
    assert frame["note_epochs"].mean() == 1.5 and np.isnan(frame["note_epochs"][0])
    assert frame["note_big"].tolist() == [2**60, 2**60 + 1, 2**60 + 2]  # float64 would round them
    assert all(frame[f"note_{n}"].dtype == object for n in ("last", "mixed"))


def test_repair_keeps_notes_behind_the_damage(path) -> None:
    with Study(SPACE, "random", path) as study:
        for k in range(4):
            (trial,) = study.ask()
            trial.note(k=k)
            study.tell(trial, float(k))
        study.note(owner="me")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM jhpo_log ORDER BY seq")]
        hole = [k for k, kind in enumerate(kinds) if kind == "note"][1]
        connection.execute("UPDATE jhpo_log SET body = x'00' WHERE seq = ?", (hole,))
        connection.commit()
    repair(path)
    with Study.load(path) as study:
        assert [t.notes for t in study] == [{"k": 0}, {}, {"k": 2}, {"k": 3}] and study.notes == {"owner": "me"}


@pytest.mark.parametrize(
    "body", [{"id": 5, "notes": {}}, {"id": 0, "notes": {"a": "{"}}, {"id": 0, "notes": {"a": "[" * 10**6}},
             {"id": 0, "notes": ["a"]}, {"id": 0, "notes": {"a": 1}}]
)  # fmt: skip
def test_notes_that_jhpo_did_not_write_are_an_error_of_the_storage(body, path) -> None:
    with Study(SPACE, "random", path) as study:
        study.ask()
    log = open_log(path, create=False)
    log.read()
    with log.write():
        log.read()
        log.append("note", body | {"time": 0.0})
    log.close()
    with pytest.raises(StorageError, match=r"\(note\): not as expected"):
        Study.load(path)


def test_exported_files_hold_them(path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from jhpo.cli.commands import app
    from jhpo.cli.stored import for_parquet

    with Study(SPACE, "random", path) as study:
        study.optimize(jhpo.host(notes), budget=3)
        study.note({"mixed": [1, "a", {}], "sum": "=1+1", "[/red]": "[red]"}, trial=0)
        study.note(owner="[/me]")
        cells = for_parquet(study.to_frame())["note_mixed"].tolist()
        assert not any(isinstance(c, str) for c in cells[1:]) and json.loads(cells[0]) == [1, "a", {}]
    runner = CliRunner()
    targets = {kind: tmp_path / f"t.{kind}" for kind in ("csv", "json")}
    done = runner.invoke(app, ["export", str(path), *(a for k, p in targets.items() for a in (f"--{k}", str(p)))])
    assert done.exit_code == 0, done.output
    rows = json.loads(targets["json"].read_text())
    assert (
        rows[0]["note_mixed"] == [1, "a", {}]
        and rows[1]["note_mixed"] is None
        and "'=1+1" in targets["csv"].read_text()
    )
    shown = runner.invoke(app, ["show", str(path), "--trial", "0"], env={"COLUMNS": "120"})
    assert shown.exit_code == 0 and "note mixed" in shown.output and "[red]" in shown.output, shown.output
    assert "failed" in runner.invoke(app, ["show", str(path), "--trial", "2"]).output
    assert "owner: [/me]" in runner.invoke(app, ["show", str(path)]).output
    beyond = runner.invoke(app, ["show", str(path), "--trial", "3"])
    assert isinstance(beyond.exception, InvalidArgument) and "--trial: expected" in str(beyond.exception)
