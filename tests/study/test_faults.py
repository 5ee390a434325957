"""Odd values, odd paths and discrete spaces: what a study keeps is what it was given."""

from __future__ import annotations

import decimal
import os
from typing import Any

import jax
import numpy as np
import pytest

import jhpo
from jhpo import Choice, Float, Int, InvalidArgument, Space, StorageError, Study
from jhpo.evaluation.outcome import judge

pytestmark = pytest.mark.quick

LINE = Space({"x": Float(0.0, 1.0)})


@pytest.mark.parametrize(
    "name", ["a?b=1.db", "100%25.db", "a#b.db", "sp ace.db", "a&b;c.db", "ä.db", "file:x.db", "-x.db"]
)
def test_a_path_is_a_path(tmp_path, name, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (name, tmp_path / f"2{name}"):
        with Study(LINE, "random", storage=path) as study:
            study.tell(study.ask()[0], 1.0)
        assert os.path.exists(path), os.listdir()
        assert Study.load(path, read_only=True).best.value == 1.0
    assert sorted(os.listdir()) == sorted([name, f"2{name}"])


@pytest.mark.parametrize(
    "change",
    [{"lease": -1}, {"max_retry": -1}, {"seed": -1}, {"direction": "up"}, {"replicates": 0}, {"strategy": "no"}],
)
def test_a_refused_study_leaves_no_file(tmp_path, change) -> None:
    with pytest.raises(InvalidArgument):
        Study(**{"space": LINE, "strategy": "random", "storage": tmp_path / "s.db"} | change)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("how", ["delete", "move", "replace", "empty"])
def test_a_file_that_went_away_acknowledges_nothing(tmp_path, how) -> None:
    path = tmp_path / "s.db"
    study = Study(LINE, "random", storage=path)
    trial, other = study.ask(2)
    study.tell(trial, 0.5)
    if how == "delete":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.rename(tmp_path / "moved.db")
        if how == "replace":
            Study(LINE, "random", storage=path).close()
    with pytest.raises(StorageError, match="deleted, moved or replaced"):
        study.tell(other, 0.25)
    if how == "move":
        (tmp_path / "moved.db").rename(path)
        study.tell(other, 0.25)
        assert study.best.value == 0.25


@pytest.mark.parametrize(
    "value", [np.ma.masked, np.ma.array(1.0, mask=True), np.ma.array([0.5], mask=[True]), {"value": np.ma.masked}]
)
def test_a_masked_value_is_a_failure(value) -> None:
    study = Study(LINE, "random")
    (trial,) = study.ask()
    study.tell(trial, value)
    assert study[0].status.name == "FAILED" and np.isnan(study[0].value)


class Tensor:
    """A number that NumPy cannot read, as a tensor of another library that has a gradient or lies on a GPU."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise RuntimeError("use tensor.detach().numpy() instead")

    def __float__(self) -> float:
        return 0.5


class Tracked(Tensor):
    """A tensor with a gradient, which PyTorch warns to take for a number."""

    def detach(self) -> Tensor:
        return Tensor()

    def __float__(self) -> float:
        raise AssertionError("taken for a number")


def test_values_below_a_mask_are_none() -> None:
    masked, study = (
        np.ma.array([0.25, 0.75], mask=[True, False]),
        Study(Space({"v": Float(0.0, 1.0, shape=2)}), "random"),
    )
    for wrong in (
        lambda: study.enqueue({"v": masked}),
        lambda: study.note(v=masked),
        lambda: jhpo.metrics.measure("mse", masked, np.zeros(2)),
    ):
        with pytest.raises(InvalidArgument, match="masked"):
            wrong()
    assert not len(study) and not study.notes
    study.enqueue({"v": np.ma.array([0.25, 0.75])})


def test_numbers_in_disguise() -> None:
    assert judge(np.ma.array(0.5)).value == judge(decimal.Decimal("0.5")).value == judge(Tensor()).value == 0.5
    assert judge(Tracked()).value == 0.5
    assert "got np.True_" in judge(np.True_).reason or "got True" in judge(np.True_).reason
    assert judge({"value": 1.0, "constraint": np.ma.array([1.0, 2.0], mask=[False, True])}).constraint[0] == 1.0
    assert judge({"value": 1.0, "constraint": np.ma.array([1.0, 2.0], mask=[False, True])}).constraint[1] == -np.inf
    assert judge({"value": 1.0, "constraint": ["1"]}).reason
    assert judge({"value": 1.0, "cost": np.ma.masked}).reason


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_constant_gives_importance_to_nothing(value) -> None:
    study = Study(Space({"a": Float(0.0, 1.0), "b": Choice(["x", "y"])}), jhpo.RandomSearch(64), seed=1)
    study.optimize(lambda hp: hp["a"] * 0.0 + value, budget=64)
    assert study.importance() == {"a": 0.0, "b": 0.0}


def test_importance_sees_ties_as_ties() -> None:
    study = Study(Space({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)}), jhpo.RandomSearch(256), seed=1)
    study.optimize(lambda hp: (hp["a"] > 0.3).astype(float), budget=256)
    shares = study.importance()
    assert shares["a"] > 0.9


@pytest.mark.parametrize("low", [1e-5, 0.0])
def test_numbers_come_back_as_they_were_given(tmp_path, low) -> None:
    space = Space({"lr": Float(low, 1.0, log=low > 0), "v": Float(low, 1.0, log=low > 0, shape=(2,)), "n": Int(1, 9)})
    given = [{"lr": v, "v": [v, 0.3], "n": 3} for v in (0.01, 0.1, 1 / 3, 0.007, 0.9999999999)]
    with Study(space, "random", storage=tmp_path / "s.db") as study:
        for params in given:
            study.enqueue(params)
        study.absorb(given, [1.0] * len(given))
        asked = [t.params for t in study.ask(len(given))]
    loaded = Study.load(tmp_path / "s.db", read_only=True)
    for rows in (asked, [loaded[i].params for i in range(5)], [loaded[i].params for i in range(5, 10)]):
        assert [r["lr"] for r in rows] == [g["lr"] for g in given]
        assert [list(r["v"]) for r in rows] == [g["v"] for g in given]


@pytest.mark.parametrize("devices", [2, "cpu", 1.5, [], [0]])
def test_devices_are_named_where_they_are_none(devices) -> None:
    with pytest.raises(InvalidArgument, match="devices: expected distinct JAX devices"):
        jhpo.minimize(lambda hp: hp["x"], LINE, jhpo.RandomSearch(4), budget=4, devices=devices)


def test_one_device_needs_no_list() -> None:
    assert jhpo.minimize(lambda hp: hp["x"], LINE, jhpo.RandomSearch(4), budget=4, devices=jax.devices()[0]).value >= 0


SPACES = [
    (Space({"k": Choice(["a", "b"])}), 2),
    (Space({"n": Int(1, 3), "k": Choice(["a", "b"]), "m": Int(1, 2, when={"k": "a"})}), 9),
    (Space({"v": Float(0.0, 1.0, shape=(1500,))}), 100),
]


@pytest.mark.parametrize(("space", "there"), SPACES, ids=["two", "conditional", "long"])
@pytest.mark.parametrize("which", ["study", "minimize"])
def test_top_gives_as_many_points_as_there_are(space, there, which) -> None:
    objective = lambda hp: sum(x.astype(float).sum() for x in jax.tree.leaves(hp))  # noqa: E731
    budget = 100 if there == 100 else 1100
    if which == "study":
        study = Study(space, jhpo.RandomSearch(100), seed=0)
        study.optimize(objective, budget=budget)
        top: Any = study.top(100)
        best = study.best
    else:
        result = jhpo.minimize(objective, space, jhpo.RandomSearch(100), budget=budget)
        top, best = result.top(100), None
    assert len(top) == there
    points = {repr({k: np.asarray(v).tolist() for k, v in space.flat(t.params).items()}) for t in top}
    assert len(points) == there
    values = [t.value for t in top]
    assert values == sorted(values) and (best is None or best.id == top[0].id)


@pytest.mark.parametrize("stored", [False, True])
def test_another_result_with_the_same_value_is_a_conflict(tmp_path, stored) -> None:
    with jhpo.Study(LINE, "random", tmp_path / "a.db" if stored else None) as study:
        told, stopped, plain = study.ask(3)
        result = {"value": 1.0, "constraint": [0.5], "cost": 2.0}
        slope = np.ones(1)
        for _ in range(2):
            study.tell(told, result, grad=slope)
            study.tell(told, 1.0)  # says less, and nothing else
        stopped.report(1, 0.5)
        plain.report(1, 0.5)
        for _ in range(2):
            study.tell(stopped, pruned=True)
            study.tell(plain, 0.5)
        for word, again in (
            ("another constraint", lambda: study.tell(told, result | {"constraint": [-0.5]})),
            ("another cost", lambda: study.tell(told, result | {"cost": 3.0})),
            ("another grad", lambda: study.tell(told, result, grad=-slope)),
            ("another cost", lambda: study.tell(plain, {"value": 0.5, "cost": 3.0})),
            ("not stopped early", lambda: study.tell(stopped, 0.5)),
            (", stopped early", lambda: study.tell(plain, pruned=True)),
        ):
            with pytest.raises(jhpo.TrialConflict, match=word):
                again()


def test_ids_that_are_none() -> None:
    study = jhpo.Study(LINE, "random")
    trials = study.ask(3)
    for number in (-1, 1000):
        with pytest.raises(jhpo.InvalidArgument, match=rf"trial: expected an integer in \[0, 2\], got {number}"):
            study.key(number)
    for ids in (1, "01", {0: 1}):
        with pytest.raises(jhpo.InvalidArgument, match="ids: expected a list of trials, or of their ids"):
            study.requeue(ids)
    with pytest.raises(jhpo.InvalidArgument, match="ids: expected running trials"):
        study.requeue([5])
    assert study.requeue([0, 0]) == [0] and study.requeue(trials[1:]) == [1, 2]
    assert [trial.id for trial in study.ask(3)] == [0, 1, 2]
