"""The benchmark of first answers: spaces that nobody has seen, and what it counts."""

from __future__ import annotations

import pytest

from benchmarks import first_answer


@pytest.mark.quick
@pytest.mark.parametrize("name", first_answer.SPACES)
def test_each_seed_has_a_space_of_its_own(name: str) -> None:
    spaces = [first_answer.space_of(name, seed) for seed in range(3)]
    assert spaces[0] == first_answer.space_of(name, 0) and spaces[0] != spaces[1] != spaces[2]
    for space in spaces:
        for key, (kind, low, high, *more) in space.items():
            whole = first_answer.SPACES[name][key]
            assert kind == whole[0] and (kind == "choice" or whole[1] == low < high <= whole[2]), (key, low, high, more)


@pytest.mark.quick
def test_trials_of_several_objectives_and_constraints_are_told_them_all() -> None:
    params = {"depth": 3, "kind": "gini", "share": 0.5}
    assert first_answer.results_of(0.2, params, 1, 0) == {"value": 0.2}
    found = first_answer.results_of(0.2, params, 3, 2)
    assert found == {"value0": 0.2, "value1": 3.0, "value2": 0.5, "constraint": [0.3, 0.04999999999999999]}


def test_the_objective_counts_for_itself() -> None:
    """Three trials of the peer's design, which need neither its model nor torch."""
    pytest.importorskip("optuna")
    found = first_answer.one("optuna", "svc", 0, 3, None)
    assert 0 <= found["imports"] <= found["seconds"] and found["cpu"] > 0 and 0 <= found["best"] <= 1
    row = first_answer.line("svc", "Optuna GP", found, found)
    assert [column.strip() for column in row.split("|")][1:3] == ["svc", "Optuna GP"] and "1.00 (1.00)" in row
