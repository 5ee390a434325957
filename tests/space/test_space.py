"""The space converts both ways, knows what is active, survives JSON, and refuses what cannot be searched."""

from __future__ import annotations

import collections
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jhpo
from jhpo import Choice, Float, Int, InvalidParameters, InvalidSpace, Ordinal, Space

Pair = collections.namedtuple("Pair", "first second")


def rich() -> Space:
    return Space(
        {
            "lr": Float(1e-5, 1e-1, log=True),
            "momentum": Float(0.5, 0.999, scale="reverse_log"),
            "share": Float(0.01, 0.99, scale="logit"),
            "opt": Choice(["sgd", "adam", None]),
            "b2": Float(0.9, 0.9999, when={"opt": "adam"}, default=0.99),
            "amsgrad": Choice([False, True], when={"opt": "adam"}),
            "warm": Int(0, 100, step=10, when={"amsgrad": True}),
            "sched": Float(0.0, 1.0, shape=(2, 3)),
            "width": Int(8, 256, log=True),
            "nested": [Ordinal([16, 32, 64]), (Ordinal(["s", "m", "l"]), Choice(["a", "b"], shape=(2,)))],
        }
    )


def test_units_and_hyperparameters_round_trip() -> None:
    space = rich()
    unit = space.sample_unit(jax.random.key(0), 64)
    hp = space.from_unit(unit)
    assert hp["sched"].shape == (64, 2, 3)
    assert hp["width"].dtype == jnp.int32
    np.testing.assert_allclose(space.to_unit(hp), space.canonical(unit), atol=2e-5)


def test_host_values_round_trip_and_agree_with_traced_ones() -> None:
    space = rich()
    units = np.asarray(space.sample_unit(jax.random.key(1), 32))
    hp = space.from_unit(units)
    for i, row in enumerate(units):
        params = space.decode(row)
        space.validate(params)
        np.testing.assert_allclose(space.encode(params), space.canonical(row), atol=2e-6)
        assert params["width"] == int(hp["width"][i])
        assert params["nested"][0] == int(hp["nested"][0][i])
        assert params["lr"] == pytest.approx(float(hp["lr"][i]), rel=1e-5)
        assert ["sgd", "adam", None].index(params["opt"]) == int(hp["opt"][i])


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (Float(2.0, 4.0), [2.0, 3.0, 4.0]),
        (Float(1e-4, 1.0, log=True), [1e-4, 1e-2, 1.0]),
        (Float(0.0, 0.99, scale="reverse_log"), [0.0, 0.9, 0.99]),
        (Float(0.1, 0.9, scale="logit"), [0.1, 0.5, 0.9]),
        (Int(1, 3), [1, 2, 3]),
        (Int(0, 20, step=10), [0, 10, 20]),
        (Int(1, 100, log=True), [1, 7, 100]),
        (Ordinal([1.5, 2.5, 9.0]), [1.5, 2.5, 9.0]),
    ],
)
def test_scales(parameter: object, expected: list[float], x64: None) -> None:
    space = Space({"p": parameter})
    got = space.from_unit(jnp.array([[0.0], [0.5], [1.0]]))["p"]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    host = [space.decode(np.array([u]))["p"] for u in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(host, expected, rtol=1e-12)


def test_cells_of_an_integer_are_equal() -> None:
    space = Space({"k": Int(3, 7)})
    values = np.asarray(space.from_unit(jnp.linspace(0.0, 0.9999, 1000)[:, None])["k"])
    assert np.bincount(values)[3:].tolist() == [200] * 5


def test_bounds_hold_in_float32() -> None:
    space = Space({"a": Float(1e-5, 0.1, log=True), "m": Float(0.9, 0.9999, scale="reverse_log"), "k": Int(0, 9)})
    hp = space.from_unit(jnp.array([[0.0] * 3, [1.0] * 3, [-0.1] * 3, [1.1] * 3], jnp.float32))
    assert (hp["a"] >= np.float32(1e-5)).all() and (hp["a"] <= np.float32(0.1)).all()
    assert (hp["m"] <= np.float32(0.9999)).all()
    assert hp["k"].tolist() == [0, 9, 0, 9]


@pytest.mark.parametrize(
    "parameter, dtype",
    [
        (Ordinal([1, 3, 5], shape=(2,)), np.int64),
        (Choice([True, False], shape=(2, 1)), np.bool_),
        (Choice([1, 2.5], shape=2), np.float64),
        (Choice(["a", "b"], shape=(2,)), None),
        (Choice([(1, 2), None], shape=(2,)), None),
    ],
)
def test_lists_of_numbers_with_a_shape_are_arrays(parameter, dtype) -> None:
    """`params["kernels"] == 3` of a list would be False, and `2 * params["kernels"]` twice as long."""
    space = Space({"p": parameter})
    value = space.decode(space.default_unit())["p"]
    assert np.shape(value)[: len(parameter.shape)] == parameter.shape
    assert type(value) is list if dtype is None else value.dtype == dtype
    np.testing.assert_array_equal(space.encode({"p": value}), space.default_unit())


def test_inactive_parameters_take_their_default_and_change_nothing() -> None:
    space = rich()
    b2, opt, warm = (space.slices[space.names.index(n)].start for n in ("b2", "opt", "warm"))
    unit = space.default_unit()
    unit[opt] = 0.1  # sgd
    active = np.asarray(space.active(jnp.asarray(unit)))
    assert not active[b2] and not active[warm] and active[opt]
    other = unit.copy()
    other[[b2, warm]] = 0.9
    np.testing.assert_array_equal(space.canonical(unit), space.canonical(other))
    assert float(space.from_unit(jnp.asarray(other))["b2"]) == pytest.approx(0.99)
    assert "b2" not in space.decode(unit)


def test_conditions_may_be_nested() -> None:
    space = rich()
    params = {"opt": "adam", "amsgrad": True}
    unit = space.encode(params, fill=space.default_unit())
    assert space.decode(unit)["warm"] == 50
    unit = space.encode({"amsgrad": False}, fill=unit)
    assert "warm" not in space.decode(unit)


def test_gradients_pass_through_continuous_coordinates() -> None:
    space = Space({"lr": Float(1e-3, 1.0, log=True), "k": Int(1, 4)})
    grad = jax.grad(lambda u: space.from_unit(u)["lr"])(jnp.array([0.5, 0.5]))
    at = space.names.index("lr")
    assert float(grad[at]) == pytest.approx(np.log(1e3) * np.sqrt(1e-3), rel=1e-4)
    assert float(grad[1 - at]) == 0.0


def test_equality_by_content_means_one_compilation(count_compilations) -> None:
    f = jax.jit(lambda space, u: space.snap(u))
    unit = jnp.full((len(rich().cells),), 0.3)
    f(rich(), unit)
    with count_compilations() as seen:
        f(rich(), unit)
    assert seen.total == 0
    assert rich() == rich() and hash(rich()) == hash(rich())
    assert Space({"a": Choice([1])}) != Space({"a": Choice([True])})


def test_json_round_trip_and_diff() -> None:
    space = rich()
    again = Space.from_json(space.to_json())
    assert again == space and again.fingerprint() == space.fingerprint()
    changed = Space({"lr": Float(1e-5, 1e-2, log=True), "new": Int(1, 2)})
    sentences = space.diff(changed)
    assert "new: added" in sentences and "lr: high was 0.1, now 0.01" in sentences
    assert space.diff(again) == []


def test_other_pytrees() -> None:
    space = Space(Pair(Float(0.0, 1.0), {"deep": [Int(0, 3)]}))
    assert space.names == ("first", "second.deep.0")
    assert isinstance(space.from_unit(jnp.zeros(2)), Pair)
    with pytest.raises(InvalidSpace, match="dicts, lists and tuples"):
        Space.from_json(space.to_json())


def test_static_parameters_are_python_values() -> None:
    space = Space({"depth": Choice([1, 2, 3], static=True), "act": Choice(["relu"], static=True), "x": Float(0.0, 1.0)})
    with pytest.raises(InvalidSpace, match="static"):
        space.from_unit(jnp.zeros(3))
    units = np.array([[0.5, 0.0, 0.1], [0.5, 0.99, 0.2], [0.5, 0.01, 0.3]])
    groups = space.static_groups(units)
    assert [(g["depth"], rows.tolist()) for g, rows in groups] == [(1, [0, 2]), (3, [1])]
    hp = space.from_unit(jnp.asarray(units), static=groups[0][0])
    assert hp["depth"] == 1 and hp["x"].shape == (3,)


def limited_by(constraint) -> None:
    space = Space({"a": Float(0.0, 1.0), "c": Choice(["x", "y"])}, constraints=[constraint])
    jax.eval_shape(space.unit_constraint, space.default_unit())


def test_constraints_hold_in_samples_also_with_static_parameters() -> None:
    tree = {"a": Float(0.0, 1.0), "b": Float(0.0, 1.0), "n": Choice([1, 2], static=True)}
    space = Space(tree, constraints=[lambda hp: hp["a"] - hp["n"] * hp["b"]])
    units = space.sample_unit(jax.random.key(0), 256)
    assert (space.unit_constraint(units) >= 0).all()
    assert space.num_constraints == 1
    with pytest.raises(InvalidParameters, match="constraint"):
        space.validate({"a": 0.1, "b": 0.9, "n": 1})


def test_priors_shape_the_samples() -> None:
    space = Space({"a": Float(0.0, 1.0, prior=(0.2, 0.05)), "b": Float(0.0, 1.0)})
    units = np.asarray(space.sample_unit(jax.random.key(0), 4000))
    assert units[:, 0].mean() == pytest.approx(0.2, abs=0.01)
    assert units[:, 0].std() == pytest.approx(0.05, abs=0.005)
    assert units[:, 1].std() == pytest.approx(12**-0.5, abs=0.01)


@pytest.mark.quick
@pytest.mark.parametrize("mean", [0.0, 0.5, 1.0])
def test_priors_that_say_nothing_draw_from_the_whole_scale(mean: float) -> None:
    """float32 does not tell the probabilities below the ends of the scale apart."""
    space = Space({"x": Float(0.0, 1.0, prior=(mean, 1e7))})
    drawn = np.sort(space.sample_unit(jax.random.key(0), 1000), axis=0)[:, 0]
    np.testing.assert_allclose(drawn, np.linspace(0.0, 1.0, 1000), atol=0.05)


def test_cardinality_counts_distinct_points() -> None:
    assert Space({"a": Int(0, 3)}).cardinality == 4
    assert Space({"a": Int(0, 3), "b": Choice(["x", "y", "z"], when={"a": 1})}).cardinality == 6
    assert Space({"a": Int(0, 3)}, constraints=[lambda hp: hp["a"] - 2]).cardinality == 2
    assert Space({"a": Float(0.0, 1.0)}).cardinality == float("inf")


@settings(max_examples=40, deadline=None)
@given(low=st.integers(-1000, 1000), count=st.integers(2, 500), at=st.integers(0, 10_000), step=st.integers(1, 7))
def test_every_integer_is_its_own_centre(low: int, count: int, at: int, step: int) -> None:
    space = Space({"k": Int(low, low + step * (count - 1), step=step)})
    value = low + step * (at % count)
    assert space.decode(space.encode({"k": value}))["k"] == value
    assert int(space.from_unit(jnp.asarray(space.encode({"k": value}), jnp.float32))["k"]) == value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space({}), "at least one parameter"),
        (lambda: Space({"a": 3}), "a: expected a parameter"),
        (lambda: Float(1.0, 1.0), "low: expected a number below high"),
        (lambda: Float(2.0, 1.0), "low"),
        (lambda: Float(float("nan"), 1.0), "low: expected a finite number, got nan"),
        (lambda: Float(0.0, float("inf")), "high: expected a finite number"),
        (lambda: Float(0.0, 1.0, log=True), "low: expected a number > 0"),
        (lambda: Float(0.0, 1.0, scale="logit"), "low"),
        (lambda: Float(0.5, 1.0, scale="reverse_log"), "high: expected a number < 1"),
        (lambda: Float(0.1, 1.0, scale="cubic"), "scale"),
        (lambda: Float("a", 1.0), "low: expected a real number"),
        (lambda: Int(1.5, 3), "low: expected an integer"),
        (lambda: Int(0, 10, step=3), "step"),
        (lambda: Int(0, 10, log=True), "low"),
        (lambda: Space({"n": Int(0, 2**30)}), "n: low, high: expected at most"),
        (lambda: Choice([]), "choices"),
        (lambda: Choice("abc"), "choices"),
        (lambda: Choice(["a", "b", "a"]), "'a' twice"),
        (lambda: Choice([float("nan")]), "NaN"),
        (lambda: Choice([1, 2], static=True, shape=(2,)), "shape"),
        (lambda: Float(0.0, 1.0, shape=(0,)), "shape"),
        (lambda: Float(0.0, 1.0, prior=(2.0, 0.1)), "prior"),
        (lambda: Space({"a": Float(0.0, 1.0, when={"b": 1})}), "a: expected a condition on one of"),
        (lambda: Space({"a": Float(0.0, 1.0, when={"b": 9}), "b": Int(0, 3)}), "values that 'b' can take"),
        (lambda: Space({"a": Int(0, 1, when={"b": 1}), "b": Int(0, 1, when={"a": 1})}), "without a cycle"),
        (lambda: Space({"a": Int(0, 1, when={"a": 1})}), "without a cycle"),
        (lambda: Space({"a": Float(0.0, 1.0), "b": Int(0, 1, when={"a": 0.5})}), "single discrete parameter"),
        (lambda: Space({"a": Float(0.0, 1.0, default=7.0)}), "a: expected a number in"),
        (lambda: Space({"a": Float(0.0, 1.0)}, constraints=lambda hp: hp["a"]), "constraints"),
        (lambda: Space({"a": Float(0.0, 1.0)}, constraints=[lambda a, b: a]), "functions of one argument"),  # type: ignore[misc, list-item]
        (lambda: Space({"a": Int(0, 1)}, constraints=[lambda hp: hp["a"] <= 1]).enumerate(), "high - low, not low <="),
        (lambda: limited_by(lambda hp: math.sqrt(hp["a"])), r"constraints: .*Concretization.* jnp takes the place"),
        (lambda: limited_by(lambda hp: hp["b"]), r"constraints: .*KeyError: 'b' \(line \d+ of .*test_space\.py\)"),
        (lambda: limited_by(lambda hp: None), "constraints: .*ValueError: None is not"),
        (lambda: limited_by(lambda hp: 1.0 - (hp["c"] == "x")), "constraints: .*compared with a string: == 'x'.*index"),
        (lambda: Space.from_json("{}"), "JSON of a space"),
        (lambda: Space.from_json("not json"), "JSON of a space"),
    ],
)
def test_spaces_that_cannot_be_searched(make, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        make()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": 11, "o": "a"}, "k: expected a number in"),
        ({"k": 2.5, "o": "a"}, "k: expected an integer"),
        ({"k": 2, "o": "c"}, "o: expected one of"),
        ({"k": 2}, "values of \\['o'\\]"),
        ({"k": 2, "o": "a", "z": 1}, "z: expected one of the parameters"),
        ({"k": "two", "o": "a"}, "k: expected a number"),
        ({"k": 2, "o": "a", "b": 0.5}, "b: expected no value while its condition"),
    ],
)
def test_values_that_do_not_belong(params: dict, message: str) -> None:
    space = Space({"k": Int(0, 10), "o": Choice(["a", "b"]), "b": Float(0.0, 1.0, when={"o": "b"})})
    with pytest.raises(InvalidParameters, match=message):
        space.validate(params)


def test_pickles_are_the_same_after_a_search() -> None:
    """scikit-learn refuses estimators whose arguments change while they fit, by a hash of their pickles."""
    space = Space({"x": Float(1e-3, 1.0, log=True), "k": Choice(["a", "b"])})
    before = joblib.hash((space, space.parameters))
    jhpo.minimize(lambda hp: hp["x"], space, "random(population=4)", budget=8)
    assert joblib.hash((space, space.parameters)) == before


@pytest.mark.parametrize("name", ["from_unit", "snap", "active", "canonical", "index", "unit_constraint", "from_index"])
@pytest.mark.parametrize("shape", [(2, 1), (3,), ()])
def test_rows_of_another_width_are_refused(name: str, shape: tuple[int, ...]) -> None:
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "n": jhpo.Int(1, 4)}, [lambda hp: hp["x"] - 0.1])
    with pytest.raises(jhpo.InvalidArgument, match="unit: expected rows of 2, the coordinates of the space, got"):
        getattr(space, name)(np.zeros(shape, np.int32 if name == "from_index" else np.float32))


def test_a_pickled_space_is_equal_in_another_process(tmp_path) -> None:
    """A function among the choices has another address there."""
    declared = (
        "import jhpo, math\nS = jhpo.Space({'f': jhpo.Choice([math.sin, math.cos]), 'x': jhpo.Float(0.0, 1.0)})\n"
    )
    (tmp_path / "declared.py").write_text(declared)
    kept = "import declared, pickle; assert declared.S == declared.S; pickle.dump(declared.S, open('s.pkl', 'wb'))"
    # what comes first moves the addresses
    read = "import json, decimal, declared, pickle; print(pickle.load(open('s.pkl', 'rb')) == declared.S)"
    for code in (kept, read):
        out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "True"
