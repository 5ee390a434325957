"""Tables of the command line, printed and exported."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import jhpo
import jhpo.cli.commands as cli
import jhpo.programs.compilation
from jhpo.cli.stored import escaped


def test_names_of_hyperparameters_are_printed_whole(command, tmp_path, monkeypatch):
    """A table that is too wide lies on its side."""
    names = ["batch_size", "label_smoothing", "learning_rate", "momentum", "warmup_steps", "weight_decay_of_the_norms"]
    lines = ["import jhpo", f"space = jhpo.Space({{name: jhpo.Float(0.0, 1.0) for name in {names}}})"]
    (tmp_path / "many.py").write_text("\n".join([*lines, "objective = lambda hp: hp['momentum'] * 1.0", ""]))
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command("tune", "many.py", "--strategy", "random", "--budget", 8)
    assert code == 0 and "…" not in out
    best, top = re.split(r"top \d", out)
    assert all(name in best and name in top for name in names) and "a wider terminal shows all" in top
    assert max(map(len, out.splitlines())) <= 80


def test_compare_lays_studies_side_by_side(command, two):
    code, out, _ = command("compare", "a.db", "b.db", "--plot", "history")
    assert code == 0 and "random()" in out and (two / "compare.html").stat().st_size > 1000
    best = [jhpo.Study.load(n, read_only=True).best.value for n in ("a.db", "b.db")]
    assert all(f"{value:.6g}" in out for value in best)
    code, out, _ = command("compare", "a.db", "c.db")
    assert code == 0 and "another space" in out
    code, _, errors = command("compare", "a.db")
    assert code == cli.USAGE and "two studies" in errors


@pytest.mark.parametrize(("second", "volumes"), [(math.nan, ["-", "-"]), (1.0, ["0", "0.01"])])
def test_compare_studies_of_several_objectives_without_a_success(command, second, volumes):
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    for name, value in (("a.db", math.nan), ("b.db", second)):
        with jhpo.Study(space, "random", name, directions=["minimize", "maximize"]) as study:
            study.tell(study.ask(1)[0], [value, 1.0])
    code, out, _ = command("compare", "a.db", "b.db")
    (line,) = [line.split() for line in out.splitlines() if "hypervolume" in line]
    assert code == 0 and [line[3], line[5]] == volumes


def test_compare_takes_objectives_for_one_another_only_if_they_have_one_name(command):
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    for name, names in (("a.db", "uv"), ("b.db", "vu"), ("c.db", "uv")):
        with jhpo.Study(space, "random", name, directions=dict.fromkeys(names, "minimize")) as study:
            study.tell(study.ask(1)[0], {"u": 1.0, "v": 100.0})
    assert command("compare", "a.db", "c.db")[0] == 0
    code, _, errors = command("compare", "a.db", "b.db")
    assert code == cli.USAGE and "the same objectives in the same order, got [['u', 'v'], ['v', 'u']]" in errors


def test_export_writes_tables_that_no_spreadsheet_runs(command, two):
    import pandas as pd

    code, out, _ = command("export", "a.db", "--csv", "a.csv", "--json", "a.json")
    assert code == 0 and "12 trials written to a.csv" in out
    found, whole = pd.read_csv("a.csv"), jhpo.Study.load("a.db", read_only=True).to_frame()
    np.testing.assert_allclose(found["param_=x"], whole["param_=x"])
    assert set(found["param_opt"]) <= {"'=SUM(A1)", "adam"}
    rows = json.loads(Path("a.json").read_text())
    assert [row["param_opt"] for row in rows] == whole["param_opt"].tolist()
    assert [row["param_=x"] for row in rows] == whole["param_=x"].tolist(), "every digit"
    assert [escaped(t) for t in ("+1", "-1", "@x", "\tx", "\rx", "a\r\nb", "x", 1.0)] == [
        "'+1",
        "'-1",
        "'@x",
        "'\tx",
        "'\nx",
        "a\nb",
        "x",
        1.0,
    ]
    code, out, _ = command("export", "a.db", "--json", "-")  # nothing but the table
    assert code == 0 and json.loads(out) == rows
    assert command("export", "a.db", "--csv", "-")[1] == Path("a.csv").read_text() and not Path("-").exists()
    code, _, errors = command("export", "a.db")
    assert code == cli.USAGE and "--csv FILE" in errors
    code, _, errors = command("export", "a.db", "--csv", "away/a.csv")
    assert code == cli.STORAGE and "cannot write" in errors


def test_exported_arrays_keep_every_number(command, tmp_path, monkeypatch):
    """Also those of more than a thousand numbers, of several axes, and of parameters that are not always active."""
    import pandas as pd

    from jhpo.cli.stored import for_parquet

    monkeypatch.chdir(tmp_path)
    space = jhpo.Space(
        {
            "kind": jhpo.Choice(["a", "b"]),
            "rates": jhpo.Float(0.0, 1.0, shape=(1100,), when={"kind": "a"}),
            "weights": jhpo.Float(0.0, 1.0, shape=(2, 2)),
            "names": jhpo.Choice(["=x", None], shape=(2,)),
            "lr": jhpo.Float(1e-5, 1e-1, log=True),
        }
    )
    with jhpo.Study(space, "random", "arrays.db") as study:
        study.enqueue({"kind": "a", "lr": 0.01})
        study.enqueue({"kind": "b"})
        for trial in study.ask(2):
            study.tell(trial, 0.0)
        params, frame = [t.params for t in study], study.to_frame()
    assert frame["param_lr"][0] == 0.01, "as it was given"
    assert command("export", "arrays.db", "--csv", "arrays.csv")[0] == 0
    found = pd.read_csv("arrays.csv")
    assert json.loads(found["param_rates"][0]) == params[0]["rates"].tolist() and pd.isna(found["param_rates"][1])
    assert [json.loads(cell) for cell in found["param_weights"]] == [p["weights"].tolist() for p in params]
    assert [json.loads(cell) for cell in found["param_names"]] == [p["names"] for p in params]
    table = for_parquet(frame)
    assert table["param_rates"].tolist() == [params[0]["rates"].tolist(), None]
    assert json.loads(table["param_weights"][1]) == params[1]["weights"].tolist()


def test_line_breaks_and_control_characters_of_users_break_no_line_and_move_no_cursor(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    choices = ["p\x1b[31mq\r\nr", "[bold]s"]
    space = jhpo.Space({"a\nb": jhpo.Float(0.0, 1.0), "c": jhpo.Choice(choices)})

    def objective(params, trial):
        trial.note({"n\ro": "v\nw"})
        if trial.id % 2:
            raise ValueError("first\n\t[red]second\x1b[2Jthird")
        return {"u\nv": params["a\nb"], "w": -params["a\nb"]}

    ways = {"u\nv": "minimize", "w": "minimize"}
    with jhpo.Study(space, "random", "odd.db", directions=ways) as study:
        for k in range(4):
            study.enqueue({"a\nb": 0.25, "c": choices[k // 2]})
        study.optimize(jhpo.host(objective), 9, stop=lambda now: "[blue]it\nends" if now.evaluations == 4 else None)
    code, out, _ = command("show", "odd.db")
    assert code == 0 and "\x1b" not in out and "│ [bold]s" in out and "│ p\\x1b[31mq r " in out
    assert "\n  2 x ValueError: first [red]second\\x1b[2Jthird (line " in out
    assert "(minimize u v, minimize w)" in out and "(u v 0.25, w -0.25)" in out and "last stop: [blue]it ends\n" in out
    code, out, _ = command("show", "odd.db", "--trial", "1")
    rows = [[cell.strip() for cell in text.split("│")[1:3]] for text in out.splitlines() if "│" in text]
    assert code == 0 and ["note n o", "v w"] in rows and ["a b", "0.25"] in rows and "\x1b" not in out
    assert rows[1:2] == [["reason", "ValueError: first"]] and rows[2][1].startswith("[red]second\\x1b[2Jthird (line ")
    assert "\x1b" not in command("compare", "odd.db", "odd.db")[1]
    assert command("export", "odd.db", "--csv", "odd.csv")[0] == 0
    with open("odd.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len({len(row) for row in rows}) == 1 and "note_n\no" in rows[0]
