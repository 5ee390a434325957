"""Generations in one program: the same search for every length of a block, and an end where the rules say so."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.evaluation.cost import is_cheap
from jhpo.search import blocks
from tests.selection import slow_except

BOX = jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "y": jhpo.Float(-1.0, 1.0)})
MIXED = jhpo.Space(
    {"x": jhpo.Float(1e-3, 1.0, log=True), "n": jhpo.Int(1, 9), "kind": jhpo.Choice(["a", "b", "c"])},
    constraints=[lambda hp: hp["n"].astype(jnp.float32) - 2.0],
)


def bowl(hp):
    return (hp["x"] - 0.3) ** 2 + (hp["y"] + 0.1) ** 2


def mixed(hp, key):
    return (
        hp["x"] * hp["n"].astype(hp["x"].dtype) + jnp.where(hp["kind"] == 1, 0.0, 1.0) + 0.01 * jax.random.normal(key)
    )


def fails(hp):
    return jnp.where(hp["x"] > 0.0, jnp.nan, jnp.where(hp["y"] > 0.5, jnp.inf, bowl(hp)))


SEARCHES = {
    "swarm": (BOX, bowl, jhpo.PSO(8), {}),
    "mixed": (MIXED, mixed, jhpo.DifferentialEvolution(8, horizon=150), {"replicates": 2}),
    "covariance": (BOX, fails, jhpo.CMAES(6), {}),
    "gradient": (BOX, bowl, jhpo.HyperGradient(4), {}),
    "phases": (BOX, bowl, jhpo.Chain(jhpo.RandomSearch(8), jhpo.PSO(6), evaluations=40), {}),
}


def assert_same(a: jhpo.Result, b: jhpo.Result) -> None:
    jax.tree.map(np.testing.assert_array_equal, a.history, b.history)
    jax.tree.map(np.testing.assert_array_equal, a.state, b.state)
    assert (a.best, a.value, a.stopped) == (b.best, b.value, b.stopped)


@pytest.mark.exact
@pytest.mark.parametrize("name", SEARCHES)
def test_every_length_gives_the_same_search(name, monkeypatch, tmp_path):
    space, objective, strategy, options = SEARCHES[name]
    long = jhpo.minimize(objective, space, strategy, budget=150, **options)
    study = jhpo.Study(space, strategy, tmp_path / "a.db", **options)
    study.optimize(objective, budget=61)
    study.close()
    monkeypatch.setattr(blocks, "BLOCK_SECONDS", 0.0)  # one generation a block
    assert_same(long, jhpo.minimize(objective, space, strategy, budget=150, **options))
    with jhpo.Study.load(tmp_path / "a.db", space=space) as study:  # goes on within a generation
        study.optimize(objective, budget=150)
        # the generation that was cut is evaluated in another program, which rounds in its own way
        np.testing.assert_allclose(study.history.table.value.array[:61], long.history.value[:61], rtol=1e-6)
        assert (
            study.evaluations == 150
            and study.history.table.generation.array.tolist() == long.history.generation.tolist()
        )


@pytest.mark.exact
@pytest.mark.parametrize("direction", slow_except({"minimize"}, ["minimize", "maximize"]))
@pytest.mark.parametrize(
    "rules", [{"target": 0.01}, {"patience": 3}, {"generations": 7}, {"tolerance": 0.1, "patience": 2}]
)
def test_a_rule_ends_the_search_with_its_generation(direction, rules, monkeypatch):
    sign = 1.0 if direction == "minimize" else -1.0
    search = jhpo.minimize if direction == "minimize" else jhpo.maximize
    if "target" in rules:
        rules = {"target": sign * rules["target"]}

    def objective(hp):
        return sign * bowl(hp)

    heard: tuple[list, list] = ([], [])
    long = search(objective, BOX, jhpo.PSO(8), budget=4000, callback=heard[0].append, **rules)
    monkeypatch.setattr(blocks, "BLOCK_SECONDS", 0.0)
    assert_same(long, search(objective, BOX, jhpo.PSO(8), budget=4000, callback=heard[1].append, **rules))
    assert len(long.history.value) < 4000 and len(long.history.value) == heard[0][-1].evaluations
    assert [u[:4] for u in heard[0]] == [u[:4] for u in heard[1]]


@pytest.mark.exact
def test_a_study_counts_and_reports_as_a_search_in_memory(tmp_path):
    heard: list = []
    swarm = jhpo.PSO(8, restart="none")  # a search in memory tells its budget to one that restarts
    result = jhpo.minimize(bowl, BOX, swarm, budget=2000, target=1e-4)
    with jhpo.Study(BOX, swarm, tmp_path / "a.db") as study:
        summary = study.optimize(bowl, budget=2000, target=1e-4, callback=heard.append)
    assert summary.stopped == result.stopped and heard[-1].best == result.value
    assert [u.evaluations for u in heard] == list(range(8, len(result.history.value) + 1, 8))
    with jhpo.Study.load(tmp_path / "a.db") as study:
        np.testing.assert_array_equal(study.history.table.value.array.astype(np.float32), result.history.value)
        assert study.evaluations == len(result.history.value) and study.best.value == result.value


@pytest.mark.exact
def test_what_is_kept():
    every = jhpo.minimize(bowl, BOX, jhpo.PSO(8), budget=197)
    values = jhpo.minimize(bowl, BOX, jhpo.PSO(8), budget=197, keep="values")
    best = jhpo.minimize(bowl, BOX, jhpo.PSO(8), budget=197, keep="best")
    for result in (values, best):
        assert (result.best, result.value) == (every.best, every.value)
        assert result.top(1) == every.top(1)
        with pytest.raises(jhpo.JhpoError, match="top\\(1\\)"):
            result.top(5)
    assert values.history.units is None
    np.testing.assert_array_equal(values.history.value, every.history.value)
    for g, number in enumerate(best.history.number):
        mine = every.history.generation == g
        assert every.history.value[number] == best.history.value[g] == every.history.value[mine].min()
        np.testing.assert_array_equal(best.history.units[g], every.history.units[number])
    with pytest.raises(jhpo.InvalidArgument, match="keep: expected one of 'all', 'values', 'best', got 'none'"):
        jhpo.minimize(bowl, BOX, keep="none")


def test_without_memory_for_a_block_the_search_goes_on(monkeypatch):
    expected = jhpo.minimize(bowl, BOX, jhpo.PSO(8), budget=80)
    calls = itertools.count()

    def short(*arguments, **options):
        if next(calls) < 2:
            return compiled(*arguments, **options)
        raise MemoryError

    compiled = blocks.block_program.compile
    monkeypatch.setattr(blocks.block_program, "compile", short)
    with pytest.warns(UserWarning, match="no memory for many generations"):
        found = jhpo.minimize(bowl, BOX, jhpo.PSO(8), budget=80)
    np.testing.assert_allclose(found.history.value, expected.history.value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "objective",
    [
        lambda hp: jax.lax.while_loop(lambda x: x < 1.0, lambda x: 2.0 * x + 0.1, hp["x"]),
        lambda hp: jax.pure_callback(
            lambda x: x, jax.ShapeDtypeStruct((), jnp.float32), hp["x"], vmap_method="expand_dims"
        ),
        lambda hp: jax.lax.fori_loop(0, 10**7, lambda _, x: x * 0.5, hp["x"]),
    ],
    ids=["unknown length", "callback", "long"],
)
def test_what_may_take_long_is_looked_at_after_every_generation(objective):
    population = jhpo.Population(objective, BOX)
    assert not is_cheap(population, 8, jax.random.key(0), jhpo.Request())
    assert is_cheap(jhpo.Population(bowl, BOX), 8, jax.random.key(0), jhpo.Request())
