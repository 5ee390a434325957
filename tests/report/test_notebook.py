"""What notebooks show of studies, results, spaces and trials."""

from __future__ import annotations

import re
import sys
import types
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import jhpo
from jhpo.search.meter import Update
from tests.report.studies import MIXED, absorbed, mixed


def test_spaces_studies_and_trials_are_tables():
    study = mixed()
    text = study._repr_html_()
    assert text.count("<tr>") == 6 and "random(" in text and f"<td>{study.best.id}</td>" in text
    assert "reverse_log" in MIXED._repr_html_() and "opt is adam" in MIXED._repr_html_()
    assert "COMPLETE" in study.best._repr_html_() and "<td>lr</td>" in study.best._repr_html_()
    assert "0 trials finished" in jhpo.Study(MIXED)._repr_html_()


def test_text_of_users_is_escaped():
    space = jhpo.Space({"<x>": jhpo.Choice(["<script>", "b"])})
    study = absorbed(space, lambda hp: 1.0, 8)
    trial = next(study[i] for i in range(8) if study[i].params["<x>"] == "<script>")
    for shown in (space, study, trial):
        assert "<script>" not in shown._repr_html_() and "&lt;script&gt;" in shown._repr_html_()


def test_a_result_is_a_table():
    result = jhpo.minimize(lambda hp: hp["x"], jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random", budget=8)
    assert f"<td>{result.value:.6g}</td>" in result._repr_html_() and "evaluations: 8" in result._repr_html_()
    (best,) = result.top(1)
    assert f"<td>{best.value:.6g}</td>" in best._repr_html_() and f"trial {best.id}" in best._repr_html_()


def test_printed_objects_are_short():
    """Data and trained weights are told by their shapes."""
    x = np.zeros((32, 3), np.float32)
    task = jhpo.supervised(
        (lambda key, x: {"w": jnp.zeros((3, 1))}, lambda p, x: (x @ p["w"])[:, 0]), lambda hp: optax.sgd(hp["lr"]),
        "regression", train=(x, x[:, 0]), valid=(x, x[:, 0]), steps=2,
    )  # fmt: skip
    result = jhpo.minimize(task, jhpo.Space({"lr": jhpo.Float(0.0, 1.0)}), "random", budget=4)
    assert "train=(float32[32, 3], float32[32])" in repr(task)
    assert "'w': float32[3, 1]" in repr(result.top(1)[0])
    for shown in (task, result, result.top(1)[0], result.ensemble(2)):
        assert len(repr(shown)) < 400, repr(shown)
    study = mixed()
    assert re.fullmatch(r"<Study in memory: random\(.*\), minimize, \d+ trials finished>", repr(study))
    study.close()
    assert "trials finished" in repr(study)


def updates(count: int):
    return [Update(k, k, 1.0 / k, k, 2.0 + k, 2.0, budget=count) for k in range(1, count + 1)]


def test_progress_moves_in_place_in_a_notebook(monkeypatch, capsys):
    """IPython is not needed to test it: what it displays is asked for as HTML and as text."""
    shown, handle = [], types.SimpleNamespace(update=lambda found: shown.append(found))

    def display(found, display_id):
        shown.append(found)
        return handle

    module: Any = types.ModuleType("IPython")
    module.display = types.SimpleNamespace(display=display)
    module.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", module)
    bar = jhpo.ProgressBar()
    for update in updates(1000):
        bar(update)
    assert 2 <= len(shown) < 50, "the first, the last, and a few in between"
    last = shown[-1]._repr_html_()
    assert '<progress max="1000" value="1000">' in last and "best 0.001" in repr(shown[-1])
    line = re.search(r'points="([^"]+)"', last)[1].split()
    assert 100 < len(line) <= 500 and capsys.readouterr().out == ""


def test_progress_is_lines_elsewhere(monkeypatch, capsys):
    import jhpo.search.progress as progress

    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    bar = jhpo.ProgressBar()
    for update in updates(3):
        bar(update)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 of 3 evaluations, best 1, 1 models/s, eta 2.0 s" and len(lines) == 3
    bar(Update(5, 5, float("nan"), 1, 1.0, 0.0))
    assert capsys.readouterr().out == "5 evaluations, best -, 5 models/s, eta ?\n"
