"""Where the time of a study went, and how its failures are counted."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import numpy as np
import pytest

import jhpo
from jhpo.report.figures.running import reasons
from jhpo.report.spent import compiled_meanwhile, where_time_went
from jhpo.report.trials import Call
from jhpo.trial import TrialState, TrialTable

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})


def table(*spans: tuple[float, float]) -> TrialTable:
    """Trials that ran from one time to another; NaN for those that still do."""
    found = TrialTable(SPACE.dim)
    found.add(len(spans))
    found.asked.array[:], found.told.array[:] = np.asarray(spans).T
    found.state.array[:] = TrialState.COMPLETE
    return found


def slow(params: dict[str, float]) -> float:
    """Takes a twentieth of a second."""
    time.sleep(0.05)
    return params["x"]


def test_compiling_counts_once_and_only_what_was_compiled_while_trials_ran_is_evaluation():
    ran = table((0.0, 4.0), (2.0, 6.0), (8.0, 9.0), (9.0, np.nan), (-9.0, -8.0))
    compiled = np.array([[-1.0, 1.0], [5.0, 7.0], [8.5, 8.75], [20.0, 30.0]])
    assert compiled_meanwhile(ran, compiled, 0.0, 10.0) == pytest.approx(1.0 + 1.0 + 0.25)
    assert compiled_meanwhile(ran, np.empty((0, 2)), 0.0, 10.0) == 0.0
    trials = dataclasses.replace(jhpo.Study(SPACE, "random").trials, table=ran, calls=[Call(3, 10.0, 3.25, 10.0, 2.25)])
    spent = where_time_went(trials)
    assert spent == pytest.approx({"compiling": 3.25, "evaluating": 7.0 - 2.25, "suggesting and storing": 2.0})
    stored = where_time_went(dataclasses.replace(trials, calls=[Call(3, 10.0, 3.25, 10.0, 2.25, 1.5, 0.5)]))
    parts = {"compiling": 3.25, "evaluating": 7.0 - 2.25 - 0.5, "storing": 1.5, "suggesting": 1.0}
    assert stored == pytest.approx(parts)
    old = where_time_went(dataclasses.replace(trials, calls=[Call(3, 10.0, 3.25, 10.0)]))
    assert old == {"compiling": 3.25, "everything else": 6.75}


def test_the_time_of_host_functions_is_not_taken_for_that_of_compiling_a_strategy(tmp_path):
    study = jhpo.Study(SPACE, jhpo.PSO(3), tmp_path / "s.db")
    study.optimize(jhpo.host(slow), budget=6)
    study.close()
    with jhpo.Study.load(tmp_path / "s.db", read_only=True) as stored:
        spent = where_time_went(stored.trials)
    assert spent["evaluating"] >= 0.29 and set(spent) == {"compiling", "evaluating", "storing", "suggesting"}
    assert spent["storing"] > 0


def test_waiting_for_the_storage_is_storing(tmp_path, monkeypatch):
    """A log whose transactions take a tenth of a second each, three of them in a call of one trial."""
    study = jhpo.Study(SPACE, "random", tmp_path / "s.db")
    write = study.ledger.log.write

    @contextlib.contextmanager
    def slowly():
        with write() as log:
            yield log
            time.sleep(0.1)

    monkeypatch.setattr(study.ledger.log, "write", slowly)
    study.optimize(jhpo.host(slow), budget=1)
    spent = where_time_went(study.trials)
    assert 0.045 <= spent["evaluating"] < 0.2 <= spent["storing"]
    assert sum(spent.values()) == pytest.approx(study.trials.calls[0].seconds)


def test_reasons_that_differ_in_numbers_are_one():
    study = jhpo.Study(SPACE, "random")
    places = "line 7 of a2.py", "line 7 of a2.py", "line 8 of a2.py"
    texts = [f"loss {v} ({place})" for v, place in zip((1e9, -2.5, 1), places)]
    for text in (*texts, "out of memory", "out of memory", "out of memory"):
        study.tell(study.ask(1), [None], error=text)
    assert list(reasons(study.trials).items()) == [
        ("out of memory", 3), (f"{texts[0]} (and other numbers)", 2), (texts[2], 1)
    ]  # fmt: skip
