"""`minimize`, `maximize` and a `Study` in memory are one search: the same trials, best, ranking, reason to stop."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument, JhpoError
from tests.selection import slow_except

BOX = jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "y": jhpo.Float(-1.0, 1.0)})
MIXED = jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "n": jhpo.Int(1, 3), "k": jhpo.Choice(["a", "b"])})
CELLS = jhpo.Space({"n": jhpo.Int(1, 2), "k": jhpo.Choice(["a", "b"])})
CORNER = jhpo.Space(
    {"x": jhpo.Float(-1.0, 1.0), "y": jhpo.Float(-1.0, 1.0)}, constraints=[lambda hp: hp["x"] + hp["y"] - 0.5]
)
NOWHERE = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}, constraints=[lambda hp: hp["x"] - 2.0])


def bowl(hp):
    return (hp["x"] - 0.3) ** 2 + (hp["y"] ** 2 if "y" in hp else 0.0)


def mixed(hp):
    return hp["x"] ** 2 + 0.1 * hp["n"].astype(hp["x"].dtype) + jnp.where(hp["k"] == 0, 1.0, 0.0)


def cells(hp):
    return jnp.where(hp["k"] == 0, 1.0, 0.0) + 0.1 * hp["n"].astype(jnp.result_type(float))


def fails(hp):
    return jnp.where(hp["x"] > 0.0, jnp.nan, jnp.where(hp["y"] > 0.5, jnp.inf, bowl(hp)))


def lost(hp):
    return jnp.nan * hp["x"]


def noisy(hp, key):
    return bowl(hp) + 0.1 * jax.random.normal(key)


def on_host(params):
    if params["x"] > 0.5:
        raise ValueError("too far")
    value = {"value": params["x"] ** 2 + params["y"]}
    return value | ({"constraint": [params["y"]]} if params["x"] > -0.5 else {})


SEARCHES = {
    "random": (BOX, bowl, jhpo.RandomSearch(8), {"budget": 20}, {}),
    "sobol": (MIXED, mixed, jhpo.SobolSearch(8), {"budget": 24}, {}),
    "greedy": (MIXED, mixed, jhpo.Greedy(8), {"budget": 50}, {}),
    "swarm": (BOX, bowl, jhpo.PSO(8), {"budget": 44}, {}),
    "evolution": (BOX, bowl, jhpo.DifferentialEvolution(8, horizon=40), {"budget": 40}, {}),
    "covariance": (BOX, bowl, jhpo.CMAES(8), {"budget": 30}, {}),
    "gradient": (BOX, bowl, jhpo.HyperGradient(4), {"budget": 16}, {}),
    "grid that ends": (BOX, bowl, jhpo.GridSearch(3), {"budget": 99}, {}),
    "few cells": (CELLS, cells, jhpo.RandomSearch(8), {"budget": 24}, {}),
    "constraint": (CORNER, bowl, jhpo.PSO(8), {"budget": 48}, {}),
    "nothing feasible": (NOWHERE, bowl, jhpo.PSO(8), {"budget": 16}, {}),
    "failures": (BOX, fails, jhpo.Greedy(8), {"budget": 40}, {}),
    "all failed": (BOX, lost, jhpo.RandomSearch(4), {"budget": 12}, {}),
    "replicates": (BOX, noisy, jhpo.PSO(8), {"budget": 24}, {"replicates": 3}),
    "target": (BOX, bowl, jhpo.PSO(8), {"budget": 400, "target": 0.05}, {}),
    "patience": (BOX, bowl, jhpo.RandomSearch(4), {"budget": 400, "patience": 2}, {}),
    "tolerance": (BOX, bowl, jhpo.RandomSearch(4), {"budget": 400, "tolerance": 0.5, "patience": 3}, {}),
    "generations": (BOX, bowl, jhpo.RandomSearch(4), {"budget": 400, "generations": 3}, {}),
    "chain": (BOX, bowl, jhpo.Chain(jhpo.SobolSearch(8), jhpo.HyperGradient(2), evaluations=16), {"budget": 26}, {}),
    "host function": (BOX, jhpo.host(on_host), jhpo.RandomSearch(4), {"budget": 14}, {}),
}


def turned(objective, direction):
    if direction == "minimize" or isinstance(objective, type(jhpo.host(on_host))):
        return objective
    return (lambda hp, key: -objective(hp, key)) if objective is noisy else (lambda hp: -objective(hp))


def both(name, direction, seed=3, start=None):
    space, objective, strategy, rules, options = SEARCHES[name]
    objective = turned(objective, direction)
    rules = dict(rules)
    if "target" in rules and direction == "maximize":
        rules["target"] = -rules["target"]
    heard: tuple[list, list] = ([], [])
    search = jhpo.minimize if direction == "minimize" else jhpo.maximize
    lost = name in ("all failed", "nothing feasible")
    with pytest.warns(UserWarning, match="there is no best") if lost else contextlib.nullcontext():
        result = search(
            objective, space, strategy, seed=seed, callback=heard[0].append, start=start, **rules, **options
        )
    study = jhpo.Study(space, strategy, seed=seed, direction=direction, **options)
    for point in start or ():
        study.enqueue(point)
    summary = study.optimize(objective, callback=heard[1].append, **rules)
    return result, study, summary, heard


def assert_one_search(result, study, summary):
    table, made = study.history.table, result.history
    np.testing.assert_array_equal(made.units, table.unit.array)
    np.testing.assert_array_equal(np.isnan(made.value), np.isnan(table.value.array))
    np.testing.assert_allclose(made.value, table.value.array, rtol=1e-6)
    np.testing.assert_array_equal(made.generation, table.generation.array)
    assert result.stopped == summary.stopped and len(made.value) == summary.evaluations
    tops = [(t.id, t.params) for t in result.top(5, states=False)]
    assert tops == [(t.id, t.params) for t in study.top(5)]
    assert len({str(params) for _, params in tops}) == len(tops)
    if tops:
        assert result.best == study.best.params and result.value == pytest.approx(study.best.value, rel=1e-6)
    else:
        assert result.best is None and np.isnan(result.value)
        with pytest.raises(JhpoError, match="no successful trial"):
            _ = study.best


CASES = [(name, direction) for direction in ("minimize", "maximize") for name in SEARCHES]
# others take the same paths; the sign is turned in one place, but in several for rules to stop and for gradients
OTHERS = {"sobol", "greedy", "evolution", "covariance", "nothing feasible", "tolerance", "generations"}
SHORT = {f"{name}-minimize" for name in SEARCHES if name not in OTHERS}
SHORT |= {f"{name}-maximize" for name in ("random", "gradient", "target", "failures")}


@pytest.mark.exact
@pytest.mark.parametrize(("name", "direction"), slow_except(SHORT, CASES, "-".join))
def test_a_search_in_memory_and_a_study_are_one(name, direction):
    result, study, summary, (mine, theirs) = both(name, direction)
    assert_one_search(result, study, summary)
    if name != "host function":  # a study tells of each batch of results as it comes
        for a, b in zip(mine, theirs, strict=True):
            assert (a.evaluations, a.new, a.generation) == (b.evaluations, b.new, b.generation)
            np.testing.assert_allclose(a.best, b.best, rtol=1e-6)
    for it in (result, summary):
        assert 0.0 <= it.compile_seconds <= it.seconds


def test_starting_points_are_the_trials_of_the_queue():
    start = [{"x": 0.25, "y": 0.5}, {"x": -0.5, "y": 0.0}]
    result, study, summary, _ = both("patience", "minimize", start=start)
    assert_one_search(result, study, summary)
    assert study.history.table.generation.array[:2].tolist() == [-1, -1]


@pytest.mark.parametrize("impl", ["rbg", "threefry2x32"])
def test_a_seed_is_one_search_whatever_the_default_generator(impl, tmp_path):
    wanted = jhpo.minimize(bowl, BOX, jhpo.PSO(4), budget=12, seed=7)
    with jax.default_prng_impl(impl):
        found, study, summary, _ = both("swarm", "minimize", seed=7)
        stored = jhpo.Study(BOX, jhpo.PSO(8), tmp_path / "a.db", seed=7)
        stored.optimize(bowl, budget=24)
        stored.close()
        with jhpo.Study.load(tmp_path / "a.db") as again:
            again.optimize(bowl, budget=44)
            np.testing.assert_array_equal(again.history.table.unit.array, study.history.table.unit.array)
        here = jhpo.minimize(bowl, BOX, jhpo.PSO(4), budget=12, seed=7)
    assert_one_search(found, study, summary)
    np.testing.assert_array_equal(here.history.units, wanted.history.units)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, True])
def test_bad_seeds_are_refused_by_all(seed):
    for search in (
        lambda: jhpo.minimize(bowl, BOX, budget=4, seed=seed),
        lambda: jhpo.maximize(bowl, BOX, budget=4, seed=seed),
        lambda: jhpo.Study(BOX, "random", seed=seed),
    ):
        with pytest.raises(InvalidArgument, match=r"seed: expected an integer in \[0, 4294967295\]"):
            search()


@pytest.mark.parametrize("key", [3, "a", jax.random.split(jax.random.key(0), 2)])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(InvalidArgument, match="key: expected a key"):
        jhpo.minimize(bowl, BOX, budget=4, key=key)


def test_both_forms_of_a_callback_are_told_in_both():
    def collect(run):
        heard: list = []
        run(lambda evaluations, best: heard.append((evaluations, best)))
        run(lambda update: heard.append((update.evaluations, update.best)))
        return heard

    mine = collect(lambda f: jhpo.minimize(bowl, BOX, jhpo.RandomSearch(8), budget=16, callback=f))
    theirs = collect(lambda f: jhpo.Study(BOX, jhpo.RandomSearch(8)).optimize(bowl, budget=16, callback=f))
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    assert [n for n, _ in mine] == [8, 16, 8, 16]
    for bad in (3, lambda: None, lambda a, b, c: None):
        for search in (jhpo.minimize, lambda f, s, **o: jhpo.Study(s, "random").optimize(f, **o)):
            with pytest.raises(InvalidArgument, match="callback: expected a function"):
                search(bowl, BOX, budget=4, callback=bad)
