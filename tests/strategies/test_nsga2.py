"""NSGA-II, and searches in memory for several objectives: fronts, mixed spaces, constraints, failures, bad input."""

from __future__ import annotations

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument, JhpoError
from jhpo.kernels.hypervolume import hypervolume
from jhpo.objectives import Objectives, Values, front, knee, read_directions, reference_point

LINE = jhpo.Space({"x": jhpo.Float(-2.0, 4.0)})
MIXED = jhpo.Space(
    {
        "n": jhpo.Int(1, 64, log=True),
        "kind": jhpo.Choice(["a", "b", "c"]),
        "b": jhpo.Float(0.0, 1.0, when={"kind": "b"}),
    }
)
BOTH = ["minimize", "minimize"]


def apart(hp):
    return hp["x"] ** 2, (hp["x"] - 2.0) ** 2


def mixed(hp):
    """Kind b with b = 0.5 is the best one; more is larger and better."""
    miss = jnp.where(hp["kind"] == 1, (hp["b"] - 0.5) ** 2, 1.0)
    size = hp["n"].astype(jnp.float32)
    return {"score": -miss - 1.0 / size, "size": size}


@pytest.mark.quick
def test_the_front_of_two_parabolas_lies_between_their_minima() -> None:
    result = jhpo.minimize(apart, LINE, jhpo.NSGA2(32), budget=640, directions=BOTH)
    assert result.best is None and np.isnan(result.value)
    points = result.pareto()
    x = np.asarray([p.params["x"] for p in points])
    assert len(points) > 100 and x.min() > -0.01 and x.max() < 2.01
    values = np.asarray([p.values for p in points])
    assert (np.diff(values[:, 0]) > 0).all() and (np.diff(values[:, 1]) < 0).all()
    assert float(hypervolume(jnp.asarray(values, jnp.float32), jnp.asarray([4.4, 4.4]))) > 0.98 * 16.4
    assert abs(result.knee().params["x"] - 1.0) < 0.05 and result.knee([1.0, 0.0]).values[0] < 1e-3
    with pytest.raises(InvalidArgument, match="ensemble: expected a single objective"):
        result.ensemble(2)
    with pytest.raises(InvalidArgument, match=r"top: expected a single objective, got 2; pareto\(\)"):
        result.top(1)


def test_run_gives_what_minimize_gives_jitted_and_side_by_side() -> None:
    def study(key):
        return jhpo.run(jhpo.NSGA2(32), apart, LINE, 5, key, directions=["minimize", "maximize"])[1]

    key = jax.random.key(0)
    trace = jax.jit(study)(key)
    assert trace.values.shape == (5, 32, 2) and np.array_equal(trace.value, trace.values[..., 0])
    both = jax.vmap(study)(jnp.stack([key, jax.random.key(1)]))
    np.testing.assert_allclose(both.values[0], trace.values, rtol=1e-5)
    found = jhpo.minimize(apart, LINE, jhpo.NSGA2(32), budget=160, directions=["minimize", "maximize"])
    np.testing.assert_allclose(found.history.values, trace.values.reshape(-1, 2), rtol=1e-5)
    assert found.objectives == Objectives(("minimize", "maximize"))
    best = found.pareto()  # x = -2 is far from 2, x = 4 nearer: large values of the second are good
    assert best[-1].params["x"] < -1.5 and best[0].values[0] < 0.1


def test_mixed_and_conditional_spaces_by_name() -> None:
    directions = {"score": "maximize", "size": "minimize"}
    result = jhpo.minimize(mixed, MIXED, jhpo.NSGA2(32), budget=960, directions=directions)
    assert result.objectives is not None and result.objectives.names == ("score", "size")
    good = [p for p in result.pareto() if p.params["kind"] == "b" and abs(p.params["b"] - 0.5) < 0.1]
    assert len({p.params["n"] for p in good}) > 30
    assert good[0].values["size"] == good[0].params["n"] and "size=" in repr(good[0].values)
    # an equal member of a discrete space does not take another one's place
    finite = jhpo.Space({"n": jhpo.Int(0, 9), "m": jhpo.Int(0, 9)})
    trace = jhpo.minimize(
        lambda hp: (hp["n"].astype(jnp.float32), 9.0 - hp["n"].astype(jnp.float32) + hp["m"].astype(jnp.float32)),
        finite, jhpo.NSGA2(16), budget=320, directions=BOTH,
    )  # fmt: skip
    assert [p.params for p in trace.pareto()] == [{"m": 0, "n": n} for n in range(10)]
    rows = np.asarray(finite.canonical(trace.state.rows))[: int(trace.state.valid)]
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_measured_constraints_and_failures() -> None:
    def objective(hp):
        value = jnp.where(hp["x"] > 3.0, jnp.nan, (hp["x"] - 2.0) ** 2)
        return {"value": (hp["x"] ** 2, value), "constraint": hp["x"] - 0.5}

    result = jhpo.minimize(objective, LINE, jhpo.NSGA2(16), budget=240, directions=BOTH)
    history = result.history
    x = np.asarray([LINE.decode(u)["x"] for u in history.units])
    assert np.isnan(history.value[x > 3.0]).all() and np.isfinite(history.value[x < 3.0]).all()
    # the value that is a number is kept, and the other one as what it was
    assert np.isfinite(history.values[:, 0]).all() and np.array_equal(np.isnan(history.values[:, 1]), x > 3.0)
    assert history.constraint.shape == (240, 1)
    points = result.pareto()
    assert min(p.params["x"] for p in points) >= 0.5 and min(p.params["x"] for p in points) < 0.55
    none = jhpo.minimize(
        lambda hp: {"value": apart(hp), "constraint": -1.0}, LINE, jhpo.RandomSearch(8), budget=24, directions=BOTH
    )
    assert none.pareto() == []
    with pytest.raises(JhpoError, match="no successful trial"):
        none.knee()


def test_measured_constraints_with_one_objective() -> None:
    found = jhpo.minimize(
        lambda hp: {"value": hp["x"] ** 2, "constraint": (hp["x"] - 1.0, 3.0 - hp["x"])}, LINE, jhpo.PSO(16), budget=320
    )
    assert 1.0 <= found.best["x"] < 1.01 and found.history.constraint.shape == (320, 2)


def test_replicates_give_a_variance_of_each_objective() -> None:
    def noisy(hp, key):
        noise = jax.random.normal(key, (2,))
        return hp["x"] + noise[0], 10.0 * noise[1]

    result = jhpo.minimize(noisy, LINE, jhpo.RandomSearch(8), budget=16, directions=BOTH, replicates=4)
    assert result.history.variance.shape == (16, 2) and result.history.values.shape == (16, 2)
    assert (result.history.variance[:, 1] > result.history.variance[:, 0]).mean() > 0.8


def test_host_functions_return_tuples_or_names() -> None:
    calls = iter(range(100))

    def by_name(params):
        values = {"near": params["x"] ** 2, "far": (params["x"] - 2.0) ** 2}
        return values if next(calls) % 2 else dict(reversed(values.items()))  # in any order

    result = jhpo.minimize(jhpo.host(by_name), LINE, jhpo.NSGA2(8), budget=24, directions=BOTH)
    assert result.objectives is not None and set(result.objectives.names or ()) == {"near", "far"}
    for p in result.pareto():
        assert p.values["near"] == pytest.approx(p.params["x"] ** 2)


def test_bad_input_is_refused_before_anything_runs() -> None:
    cases = [
        ({"directions": ["minimize"]}, "directions: expected at least two objectives"),
        ({"directions": ["minimize", "up"]}, r"directions: expected each one of \('minimize', 'maximize'\), got 'up'"),
        ({"directions": "minimize"}, "directions: expected a list such as"),
        ({"directions": {"value": "minimize", "b": "minimize"}}, "names other than"),
        ({"directions": ["minimize"] * 3}, "objective: expected 3 values, one for each direction, got '2 without"),
        ({"directions": {"a": "minimize", "b": "minimize"}}, r"objective: expected a dict with \['a', 'b'\]"),
        ({"directions": BOTH, "target": 1.0}, "target: expected a single objective, got 2; stop by budget="),
        ({"directions": BOTH, "keep": "best"}, "keep: expected 'all' with several objectives"),
        ({"directions": BOTH, "metric": "a"}, "metric: expected None beside directions"),
        ({"directions": BOTH, "strategy": jhpo.PSO(8)}, r"strategy: expected one for several objectives: \[.*'nsga2'"),
        ({"directions": BOTH, "strategy": jhpo.NSGA2(8, objectives=3)}, "objectives: expected as many as there are"),
    ]
    for given, message in cases:
        options = {"strategy": jhpo.NSGA2(8), "budget": 16} | given
        with pytest.raises(InvalidArgument, match=message):
            jhpo.minimize(apart, LINE, **options)
    with pytest.raises(InvalidArgument, match="objective: expected 2 values, one for each direction"):
        jhpo.minimize(lambda hp: {"a": hp["x"], "b": hp["x"], "c": hp["x"]}, LINE, budget=16, directions=BOTH)
    with pytest.raises(InvalidArgument, match="objective: expected a real scalar"):
        jhpo.minimize(apart, LINE, jhpo.NSGA2(8), budget=16)
    with pytest.raises(InvalidArgument, match="population: expected an integer >= 4, got 2"):
        jhpo.NSGA2(2)
    with pytest.raises(InvalidArgument, match="keep: expected 'all' or 'values' with several objectives"):
        jhpo.run(jhpo.NSGA2(8), apart, LINE, 2, jax.random.key(0), directions=BOTH, keep="best")


# -- words of several objectives, on the host -----------------------------------------------------------------------


def test_front_knee_and_reference_on_the_host() -> None:
    rng = np.random.default_rng(0)
    for m in (2, 3):
        values = np.round(rng.random((200, m)), 1)
        values[3, 1], values[4, 0] = np.nan, -np.inf
        better = (values[:, None] <= values[None]).all(-1) & (values[:, None] < values[None]).any(-1)
        good = np.isfinite(values).all(1)
        expected = np.flatnonzero(good & ~(better & good[:, None]).any(0))
        found = front(values)
        assert np.array_equal(np.sort(found), expected) and (np.diff(values[found, 0]) >= 0).all()
    same = np.ones((3, 2))  # three points that are one
    assert front(same).tolist() == [0, 1, 2] and knee(same) == 0
    assert reference_point(np.asarray([[1.0, 0.0]])).tolist() == [1.1, 1.0]
    with pytest.raises(InvalidArgument, match="weights: expected 2 numbers >= 0, not all 0"):
        knee(same, [0.0, 0.0])


def test_values_are_a_tuple_with_names() -> None:
    values = Values((1.0, 2.0), ("a", "b"))
    assert values == (1.0, 2.0) and values["b"] == 2.0 and repr(copy.deepcopy(values)) == "Values(a=1.0, b=2.0)"
    with pytest.raises(KeyError, match="no objective 'c'"):
        _ = values["c"]
    assert repr(Values((1.0,))) == "Values(1.0)"
    objectives = read_directions({"a": "minimize", "b": "maximize"})
    assert objectives is not None and objectives.named(("b", "a")) is objectives
    assert objectives.minimised(np.ones((1, 2))).tolist() == [[1.0, -1.0]]
    with pytest.raises(InvalidArgument, match=r"objective: expected the values \['a', 'b'\], got \['a', 'c'\]"):
        objectives.named(("a", "c"))
