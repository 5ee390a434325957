"""Trials are equal by their content, arrays and failures too, and hashable; results are equal to themselves."""

from __future__ import annotations

import copy

import jax

import jhpo

SPACE = jhpo.Space({"w": jhpo.Float(0.0, 1.0, shape=2), "c": jhpo.Choice(["a", "b"], shape=2), "x": jhpo.Int(1, 3)})


def one_fails(params):
    return 1 / 0 if params["x"] == 2 else float(params["w"].sum())


def test_trials():
    study, other = (jhpo.Study(SPACE, "random", seed=seed) for seed in (0, 1))
    for each in (study, other):
        each.optimize(jhpo.host(one_fails), budget=12)
    study.note(trial=3, curve=[1.0, 2.0])
    assert study.failures
    again = list(study)
    for i, trial in enumerate(study):
        assert trial == again[i] == copy.deepcopy(trial)
        assert hash(trial) == hash(again[i])
        assert trial != other[i] and trial != study[(i + 1) % 12] and trial != i
    assert study.best in again and again.index(study.best) == study.best.id
    assert set(study.top(3)) <= set(again) and len(set(again)) == 12
    before = study[3]
    study.note(trial=3, more=1)
    assert before != study[3]


def test_results_and_diagnostics():
    def search():
        return jhpo.minimize(lambda hp: hp["w"].sum(), SPACE, jhpo.RandomSearch(4), budget=4)

    one, two = search(), search()
    assert one == one and one != two and copy.deepcopy(one) != one and {one: 1, two: 2}[one] == 1
    found = [jhpo.hypergrad(lambda hp: hp["x"] ** 2, {"x": 1.0}, jax.random.key(0)).diagnostics for _ in range(2)]
    assert found[0] == found[0] and len(set(found)) == 2
