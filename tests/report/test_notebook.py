"""What notebooks show of studies, results, spaces and trials."""

from __future__ import annotations

import jhpo
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
