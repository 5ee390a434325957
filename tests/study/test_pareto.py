"""Studies of several objectives: told by hand or optimised, stored, resumed bit for bit, shown, exported."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument, JhpoError, TrialConflict
from jhpo.report.hypervolume import hypervolume
from tests.study.studies import assert_same

SPACE = jhpo.Space({"x": jhpo.Float(-2.0, 4.0), "kind": jhpo.Choice(["a", "b"])})
WAYS = {"near": "minimize", "far": "maximize"}


def both(hp):
    """The front is x in [0, 2] of kind "a"."""
    worse = 0.5 * hp["kind"].astype(jnp.float32)
    return {"near": hp["x"] ** 2 + worse, "far": -((hp["x"] - 2.0) ** 2) - worse, "constraint": hp["x"] - 0.5}


def on_host(params):
    worse = 0.5 * (params["kind"] == "b")
    return params["x"] ** 2 + worse, -((params["x"] - 2.0) ** 2) - worse


@pytest.mark.quick
def test_told_by_hand() -> None:
    study = jhpo.Study(SPACE, "random", directions=["minimize", "maximize"])
    a, b, c, d = study.ask(4)
    study.tell(a, {"near": 1.0, "far": 2.0})
    study.tell(b, {"far": 3.0, "near": 2.0})  # by name, in any order
    study.tell(c, (3.0, float("nan")))
    study.tell(d, {"near": 3.0, "other": 1.0})
    assert study.directions == ("minimize", "maximize")
    assert study.objectives is not None and study.objectives.names == ("near", "far")
    assert [t.id for t in study.pareto()] == [a.id, b.id] and study.pareto()[1].values["far"] == 3.0
    lost = study[c.id]
    assert lost.status.name == "FAILED" and lost.values[0] == 3.0 and np.isnan(lost.value)
    assert lost.reason == "far: expected a finite number, got nan"
    assert study[d.id].reason == "expected the values ['near', 'far'], got ['near', 'other']"
    study.tell(a, {"near": 1.0, "far": 2.0})  # again
    with pytest.raises(TrialConflict, match="was finished before"):
        study.tell(a, {"near": 1.0, "far": 2.5})
    with pytest.raises(InvalidArgument, match=r"best: expected a single objective, got 2; pareto\(\)"):
        _ = study.best
    with pytest.raises(InvalidArgument, match="top: expected a single objective"):
        study.top(2)
    assert study.knee([0.0, 1.0]).id == b.id
    for weights in ({"near": 1.0, "far": 2.0}, ["one", "two"], [[1.0], [2.0, 3.0]]):
        with pytest.raises(InvalidArgument, match="weights: expected 2 numbers >= 0"):
            study.knee(weights)


def test_measured_constraints_and_all_infeasible() -> None:
    study = jhpo.Study(SPACE, "random", directions=["minimize"] * 2)
    for trial in study.ask(3):
        study.tell(trial, {"value": (float(trial.id), -float(trial.id)), "constraint": [trial.id - 2.0]})
    assert [t.id for t in study.pareto()] == [2]
    none = jhpo.Study(SPACE, "random", directions=["minimize"] * 2)
    none.tell(none.ask(1)[0], {"value": (1.0, 1.0), "constraint": -1.0})
    assert none.pareto() == []
    for call in (none.knee, none.hypervolume):
        with pytest.raises(JhpoError, match="no successful trial yet"):
            call()
    assert none.hypervolume([2.0, 2.0]).value == 0.0


def test_a_stopped_study_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def make(path: Path | None) -> jhpo.Study:
        return jhpo.Study(SPACE, jhpo.NSGA2(8), path, seed=3, directions=WAYS)

    whole = make(None)
    whole.optimize(both, budget=40)
    with make(tmp_path / "study.db") as begun:
        begun.optimize(both, budget=20)
    with jhpo.Study.load(tmp_path / "study.db") as again:
        assert again.directions == ("minimize", "maximize") and again.objectives == whole.objectives
        again.optimize(both, budget=40)
        assert_same(whole, again)
        found, first = (s.history.table.extra["values"].array for s in (again, whole))
        assert np.array_equal(found, first, equal_nan=True)
        assert [t.params for t in again.pareto()] == [t.params for t in whole.pareto()]
        assert all(t.params["x"] >= 0.5 for t in again.pareto())
        with pytest.raises(InvalidArgument, match=r"objective: expected a dict with \['near', 'far'\]"):
            again.optimize(lambda hp: {"near": hp["x"], "wide": hp["x"]}, budget=48)
    with pytest.raises(InvalidArgument, match="directions: expected that of the stored study"):
        jhpo.Study(SPACE, jhpo.NSGA2(8), tmp_path / "study.db", 3, directions=["minimize"] * 2, resume=True)
    with pytest.raises(InvalidArgument, match="strategy: expected one for several objectives"):
        jhpo.Study(SPACE, "pso", directions=WAYS)
    with pytest.raises(InvalidArgument, match="direction: expected nothing beside directions"):
        jhpo.Study(SPACE, "nsga2", direction="maximize", directions=WAYS)


def test_generations_together_are_those_one_by_one() -> None:
    together = jhpo.Study(SPACE, jhpo.NSGA2(8), directions=WAYS)
    together.optimize(both, budget=32)
    apart = jhpo.Study(SPACE, jhpo.NSGA2(8), directions=WAYS)
    for budget in (8, 12, 32):
        apart.optimize(both, budget=budget)
    assert_same(together, apart)
    assert together.objectives is not None and together.objectives.names == ("near", "far")


def test_host_functions_and_warm_starts() -> None:
    study = jhpo.Study(SPACE, jhpo.NSGA2(8), directions=["minimize", "maximize"])
    study.absorb([{"x": 1.0, "kind": "a"}], [(1.0, -1.0)])
    study.enqueue({"x": 0.75, "kind": "a"})
    study.optimize(jhpo.host(on_host), budget=26)
    points = study.pareto()
    assert {"x": 1.0, "kind": "a"} in [t.params for t in points] and len(points[0].values) == 2
    with pytest.raises(InvalidArgument, match="patience: expected a single objective, got 2"):
        study.optimize(jhpo.host(on_host), budget=30, patience=3)
    three = jhpo.Study(SPACE, "random", directions=["minimize"] * 3)
    three.optimize(jhpo.host(on_host), budget=4)
    assert {t.reason for t in three.failures} == {"expected 3 values, one for each direction, got 2"}


def test_hypervolume_frame_and_report(tmp_path: Path) -> None:
    study = jhpo.Study(SPACE, "random", directions=WAYS)
    for trial, values in zip(study.ask(4), [(0.0, 0.0), (1.0, 1.0), (2.0, 1.0), (0.5, float("inf"))]):
        study.tell(trial, dict(zip(WAYS, values)))
    assert study.hypervolume([2.0, -1.0]) == hypervolume(study.trials, [2.0, -1.0])
    assert study.hypervolume([2.0, -1.0]).value == pytest.approx(3.0)
    assert study.hypervolume([0.0, 5.0]).value == 0.0  # a reference point that nothing dominates
    chosen = study.hypervolume()
    assert chosen.reference == pytest.approx((1.1, -0.1)) and chosen.value == pytest.approx(1.1 * 0.1 + 0.1 * 1.0)
    with pytest.raises(InvalidArgument, match="reference: expected 2 finite numbers"):
        study.hypervolume([1.0])
    with pytest.raises(JhpoError, match="a hypervolume needs several objectives"):
        jhpo.Study(SPACE, "random").hypervolume()
    frame = study.to_frame()
    assert "value" not in frame and frame["value_near"].tolist() == [0.0, 1.0, 2.0, 0.5]
    assert frame["value_far"].isna().tolist() == [False, False, False, True]
    text = study.report(tmp_path / "page.html").read_text()
    assert "minimize near, maximize far" in text and "Hypervolume" in text and "<h2>Front</h2>" in text
    for kind, trace in (("pareto", "scattergl"), ("hypervolume", "scatter")):
        assert study.plot(kind).data[0].type == trace
    with pytest.raises(InvalidArgument, match=r"kind: expected one of .* for several objectives"):
        study.plot("slice")
    with pytest.raises(InvalidArgument, match="importance: expected a single objective"):
        study.importance()


@pytest.mark.parametrize(("count", "kind"), [(3, "scatter3d"), (5, "parcoords")])
def test_more_objectives(count: int, kind: str) -> None:
    study = jhpo.Study(SPACE, "random", directions=["minimize"] * count)
    rng = np.random.default_rng(0)
    for trial in study.ask(8):
        study.tell(trial, tuple(rng.random(count)))
    assert study.plot("pareto").data[0].type == kind
    size = study.hypervolume()
    assert size.value > 0 and (size.error > 0) == (count > 4)
