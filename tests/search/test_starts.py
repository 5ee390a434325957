"""Starting points: evaluated first and as they are, the rest chosen by the strategy, and learned from."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument, InvalidParameters

SPACE = jhpo.Space({
    "lr": jhpo.Float(1e-5, 1.0, log=True), "opt": jhpo.Choice(["a", "b"]), "w": jhpo.Float(0.0, 1.0, when={"opt": "b"}),
    "n": jhpo.Int(1, 9),
})  # fmt: skip
BOX = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})


def objective(hp):
    return (
        (jnp.log10(hp["lr"]) + 2.0) ** 2
        + jnp.where(hp["opt"] == 0, 1.0, 0.0)
        + hp["w"]
        + jnp.where(hp["n"] == 3, 0.0, 0.5)
    )


def peak(hp):
    """A narrow hole that no search of few evaluations finds."""
    return 1.0 - jnp.exp(-1e4 * ((hp["x"] - 0.123) ** 2 + (hp["y"] - 0.456) ** 2)) + 0.0 * hp["x"]


def test_minimize_and_maximize_begin_with_the_points_given():
    start = [{"lr": 0.01, "opt": "b", "w": 0.5, "n": 3}, {"lr": 0.1}, {"w": 0.25}, {"n": 7, "opt": "a"}]
    up = jhpo.maximize(lambda hp: -objective(hp), SPACE, jhpo.RandomSearch(2), budget=9, start=start)
    for result in (jhpo.minimize(objective, SPACE, jhpo.PSO(4), budget=9, start=start), up):
        assert len(result.history.value) == 9
        tops = {t.id: t.params for t in result.top(9, states=False)}
        assert tops[0] == start[0]
        assert tops[1]["lr"] == 0.1 and (tops[2]["opt"], tops[2]["w"]) == ("b", 0.25)
        assert tops[3]["opt"] == "a" and tops[3]["n"] == 7 and "w" not in tops[3]
        assert tops[1]["n"] != tops[2]["n"] or tops[1]["lr"] != tops[2]["lr"]
        np.testing.assert_array_equal(result.history.generation[:5], [-1, -1, -1, -1, 0])


@pytest.mark.parametrize("strategy", [jhpo.Greedy(8), jhpo.CMAES(8)], ids=lambda s: type(s).__name__)
def test_strategies_learn_from_them(strategy):
    start = {"x": 0.12, "y": 0.45}
    assert jhpo.minimize(peak, BOX, strategy, budget=240, start=start).value < 0.3
    without = [jhpo.minimize(peak, BOX, strategy, budget=240, seed=seed).value for seed in range(3)]
    assert np.median(without) > 0.9, without  # one may have luck


def test_studies_and_run_learn_from_them():
    start = {"x": 0.12, "y": 0.45}
    found: Any = jhpo.run(jhpo.Greedy(8), peak, BOX, 30, jax.random.key(0), start=[start])[1]
    given, trace = found
    assert given.value.shape == (1, 1) and trace.value.shape == (30, 8) and trace.value.min() < 0.3
    study = jhpo.Study(BOX, jhpo.Greedy(8))
    study.enqueue(start)
    study.optimize(peak, budget=240)
    assert study.best.value < 0.3


def test_run_chooses_the_rest_and_keys_by_trial():
    def noisy(hp, key):
        return jax.random.uniform(key) + 0.0 * hp["x"]

    search = jax.vmap(lambda k: jhpo.run(jhpo.RandomSearch(4), noisy, BOX, 2, k, start=[{"x": 0.25}, {"y": 0.5}])[1])
    found: Any = search(jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32)))
    given, trace = found
    assert given.units.shape == (3, 1, 2, 2)
    np.testing.assert_array_equal(given.units[:, 0, 0, 0], 0.25)
    np.testing.assert_array_equal(given.units[:, 0, 1, 1], 0.5)
    assert len(np.unique(given.units[:, 0, 0, 1])) == 3
    values = np.concatenate([given.value.reshape(3, -1), trace.value.reshape(3, -1)], axis=1)
    assert len(np.unique(values)) == values.size  # each trial has a key of its own
    mine = jhpo.minimize(noisy, BOX, jhpo.RandomSearch(4), budget=10, start=[{"x": 0.25}, {"y": 0.5}])
    np.testing.assert_allclose(mine.history.value, values[0], rtol=1e-6)


def test_starting_points_alone_and_bad_ones():
    result = jhpo.minimize(objective, SPACE, budget=1, start={"lr": 0.01, "opt": "b", "w": 0.0, "n": 3})
    assert result.best == {"lr": 0.01, "opt": "b", "w": 0.0, "n": 3} and result.value < 1e-6
    assert result.stopped.startswith("evaluations: 1 of 1") and result.state is not None
    grid = jhpo.minimize(peak, BOX, jhpo.GridSearch(3), budget=99, start=[{"x": 0.3}])
    assert len(grid.history.value) == 10 and "exhausted" in grid.stopped
    for start, word in (
        (3, "start"),
        ([{"x": 0.0}] * 3, "start"),
        ([{"z": 0.0}], "z"),
        ([{"x": 2.0}], "x"),
        ("x", "start"),
    ):
        for search in (
            lambda s: jhpo.minimize(peak, BOX, budget=2, start=s),
            lambda s: jhpo.maximize(peak, BOX, budget=2, start=s),
        ):
            with pytest.raises(InvalidArgument, match=word):
                search(start)
    with pytest.raises(InvalidParameters, match="w: expected no value"):
        jhpo.minimize(objective, SPACE, start=[{"opt": "a", "w": 0.5}])
    with pytest.raises(InvalidArgument, match="x"):
        jhpo.run(jhpo.PSO(4), peak, BOX, 2, jax.random.key(0), start=[{"x": -1.0}])


@pytest.mark.parametrize("strategy", [jhpo.PSO(8), jhpo.SobolSearch(1)], ids=lambda s: type(s).__name__)
def test_a_study_lets_the_strategy_choose_what_is_missing(tmp_path, strategy):
    with jhpo.Study(SPACE, strategy, tmp_path / "a.db", seed=4) as study:
        for _ in range(3):
            study.enqueue({"n": 5})
        study.enqueue({"w": 0.25})
        first = study.ask(4)
        assert [t.params["n"] for t in first[:3]] == [5] * 3 and len({t.params["lr"] for t in first}) == 4
        assert first[3].params["opt"] == "b" and first[3].params["w"] == 0.25
        for trial in first:
            study.tell(trial, trial.params["lr"])
        again = study.ask(2)
        assert study.enqueue({"lr": 0.2, "n": 5}) == len(study) - 1 and study.ask(1)[0].params["lr"] == 0.2
    # what was left to the strategy changes nothing of what it proposes then
    other = jhpo.Study(SPACE, strategy, seed=4)
    for trial in first:
        other.enqueue(trial.params)
    for trial in other.ask(4):
        other.tell(trial, trial.params["lr"])
    for a, b in zip(other.ask(2), again):
        np.testing.assert_allclose(a.unit, b.unit, atol=1e-6)


@pytest.mark.parametrize("strategy", ["random", "sobol", "pso(population=4)", "bayes"])
def test_what_is_missing_repeats_neither_what_the_strategy_asks_for_nor_itself(strategy):
    study = jhpo.Study(BOX, strategy)
    for _ in range(4):
        study.enqueue({"x": 0.25})
        (trial,) = study.ask(1)
        assert trial.params["x"] == 0.25
        study.tell(trial, (trial.params["y"] - 0.3) ** 2)
        for trial in study.ask(3):
            study.tell(trial, (trial.params["y"] - 0.3) ** 2)
    given = [trial.params["y"] for trial in study if trial.generation < 0]
    asked = [trial.params["y"] for trial in study if trial.generation >= 0]
    apart = np.abs(np.subtract.outer(given, [*given, *asked]))
    assert len(given) == 4 and (apart > 1e-5).sum() == 4 * 16 - 4


def test_completions_are_feasible():
    space = jhpo.Space(
        {"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)}, constraints=[lambda hp: 0.5 - hp["x"] - hp["y"]]
    )
    study = jhpo.Study(space, jhpo.SobolSearch(4))
    for x in (0.0, 0.25, 0.4):
        study.enqueue({"x": x})
    assert all(t.params["x"] + t.params["y"] <= 0.5 for t in study.ask(3))
    with pytest.raises(InvalidParameters, match="feasible"):
        study.enqueue({"x": 0.9})


@jhpo.strategy
class Counted(jhpo.RandomSearch):
    """Counts how often it is asked while a program is traced."""

    asked: ClassVar[int] = 0
    sizes: ClassVar[tuple[int, ...]] = ()

    def prepare(self, evaluations: int) -> Counted:
        Counted.sizes = (*Counted.sizes, evaluations)
        return self

    def ask(self, state: Any, key: jax.Array) -> Any:
        Counted.asked += 1
        return jhpo.RandomSearch.ask(self, state, key)


def test_run_asks_for_what_is_missing_alone():
    points = [{"x": x, "y": 0.5} for x in np.linspace(0.0, 1.0, 30).tolist()]
    counts = []
    for start in (None, points, [*points, {"x": 0.5}]):
        Counted.asked = 0
        traces: Any = jhpo.run(Counted(1), peak, BOX, 3, jax.random.key(0), start=start)[1]
        counts.append(Counted.asked)
        assert Counted.sizes[-1] == 3 + len(start or [])
    assert counts[1] == counts[0] and counts[2] == counts[0] + 1
    np.testing.assert_allclose(traces[0].units[0, :30, 0], np.linspace(0.0, 1.0, 30), atol=1e-6)
    assert not np.isnan(traces[0].units).any()


@pytest.mark.parametrize("strategy", [jhpo.PSO(3), jhpo.BayesOpt()], ids=lambda s: type(s).__name__)
def test_the_program_of_run_does_not_grow_with_the_points(strategy: jhpo.Strategy) -> None:
    """It would compile for minutes."""
    sizes = []
    for n in (6, 120):
        start = [{"x": x} | ({"y": 0.5} if k < n // 2 else {}) for k, x in enumerate(np.linspace(0.0, 1.0, n).tolist())]
        run = lambda key, start=start: jhpo.run(strategy, peak, BOX, 2, key, start=start)  # noqa: E731
        sizes.append(str(jax.make_jaxpr(run)(jax.random.key(0))).count(" = "))
    assert sizes[1] < 1.5 * sizes[0]  # restarts and buffers grow
