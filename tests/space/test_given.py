"""Values as users, files and other libraries give them: which parameter or choice they mean."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import ChangedSpace, InvalidParameters, InvalidSpace
from jhpo.space.stored import earlier_json


class Pair(NamedTuple):
    kind: Any
    x: Any


class Single(NamedTuple):
    value: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Record:
    pair: Pair
    more: dict[str, Any]


@pytest.mark.parametrize(
    ("choices", "given", "at"),
    [
        ([0.0, 0.1, 0.2, 3 * 0.1], 0.3, 3),
        ([0.1, 0.2], np.float32(0.1), 0),
        ([0.1, 0.2], 0.1000001, None),
        ([1e-30, 0.0], 0.0, 1),
        ([16, 32], jnp.int32(32), 1),
        ([2**24, 2**24 + 1], 2**24 + 1, 1),
        ([((1, 2), (3,)), ((4,),)], [[1, 2], [3]], 0),
        ([{"a": (1,)}, {"a": (2,)}], {"a": [2]}, 1),
        (["0.1", "0.2"], 0.1, None),
    ],
)
def test_a_choice_is_known_again(choices, given, at) -> None:
    space = jhpo.Space({"c": jhpo.Ordinal(choices)})
    if at is None:
        with pytest.raises(InvalidParameters, match="c: expected one of"):
            space.encode({"c": given})
    else:
        assert space.decode(space.encode({"c": given}))["c"] == choices[at]


def test_static_choices_that_float32_cannot_tell_apart_are_not_guessed() -> None:
    space = jhpo.Space({"c": jhpo.Choice([1.0, 1.0 + 1e-9], static=True)})
    assert space.decode(space.encode({"c": 1.0 + 1e-9}))["c"] == 1.0 + 1e-9
    with pytest.raises(InvalidParameters, match="c: expected one of"):
        space.encode({"c": 1.0 + 2e-9})


def test_scalars_and_arrays_of_jax_are_numbers() -> None:
    assert jhpo.Choice(list(jnp.array([16, 32]))).choices == (16, 32)
    assert jhpo.Float(jnp.float32(0.5), jnp.float32(2.0)).key == jhpo.Float(0.5, 2.0).key
    one, two = (jhpo.Space({"w": jhpo.Float(0.0, 1.0, shape=2, default=jnp.array([0.25, 0.5]))}) for _ in range(2))
    assert one == two and one.default_unit().tolist() == [0.25, 0.5]
    assert jhpo.Space.from_json(one.to_json()) == one


@pytest.mark.parametrize(("choices", "default"), [([False, True], False), ([(8,), (), (9,)], ()), ([1, 0, 2], 0)])
def test_every_default_is_stored(choices, default, tmp_path) -> None:
    space, other = (
        jhpo.Space({"on": jhpo.Choice([1, 2]), "c": jhpo.Choice(choices, when={"on": 1}, **more)})
        for more in ({"default": default}, {})
    )
    assert jhpo.Space.from_json(space.to_json()) == space != other and space.diff(other)
    jhpo.Study(space, "random", tmp_path / "a.db").close()
    with jhpo.Study.load(tmp_path / "a.db") as study:
        assert study.space == space
    with pytest.raises(ChangedSpace, match="c: default was"):
        jhpo.Study(other, "random", tmp_path / "a.db", resume=True)


def test_studies_of_versions_that_left_out_a_default_go_on(tmp_path, monkeypatch) -> None:
    space = jhpo.Space({"on": jhpo.Choice([1, 2]), "c": jhpo.Choice([False, True], when={"on": 1}, default=False)})
    assert "default" not in json.loads(earlier_json(space.to_json()))["parameters"][0]
    with monkeypatch.context() as before:
        before.setattr(jhpo.Space, "to_json", lambda self: earlier_json(original(self)))
        jhpo.Study(space, "random", tmp_path / "a.db").close()
    jhpo.Study(space, "random", tmp_path / "a.db", resume=True).close()
    jhpo.Study.load(tmp_path / "a.db", space=space).close()


original = jhpo.Space.to_json


def test_a_default_that_is_a_function_can_be_read() -> None:
    space = jhpo.Space({"f": jhpo.Choice([math.sin, math.cos], default=math.cos)})
    read = jhpo.Space.from_json(space.to_json(), named=True)
    assert str(read.decode(read.default_unit())["f"]) == "math.cos"


def test_a_parent_suits_all_values_that_are_given() -> None:
    space = jhpo.Space({
        "kind": jhpo.Choice(["a", "b", "c"], when={"on": True}), "on": jhpo.Choice([False, True]),
        "x": jhpo.Float(0.0, 1.0, when={"kind": ["b", "c"]}), "y": jhpo.Float(0.0, 1.0, when={"kind": ["a", "b"]}),
        "z": jhpo.Float(0.0, 1.0, when={"kind": "a"}),
    })  # fmt: skip
    study = jhpo.Study(space, "random")
    study.enqueue({"x": 0.25, "y": 0.75})
    assert study.ask(1)[0].params == {"kind": "b", "on": True, "x": 0.25, "y": 0.75}
    with pytest.raises(InvalidParameters, match="x: expected no value while its condition does not hold"):
        space.encode_some({"x": 0.25, "z": 0.5})
    with pytest.raises(InvalidParameters, match="y: expected no value while its condition does not hold"):
        space.encode_some({"kind": "c", "y": 0.5})


def test_trees_of_any_kind_are_read_and_say_what_is_inactive(tmp_path) -> None:
    pair = Pair(jhpo.Choice(["a", "b"]), jhpo.Float(0.0, 1.0, when={"kind": "b"}))
    space = jhpo.Space(pair)
    assert space.decode(np.array([0.1, 0.5])) == Pair("a", None) and space.encode(Pair("a", None))[0] == 0.25
    deep = jhpo.Space(Record(pair, {"n": jhpo.Int(1, 4)}))
    assert deep.names == ("pair.kind", "pair.x", "more.n")
    point = Record(Pair("b", 0.5), {"n": 3})
    assert deep.decode(deep.encode(point)) == point and deep.flat(point)["more.n"] == 3
    study = jhpo.Study(deep, "random", tmp_path / "a.db")
    study.optimize(jhpo.host(lambda hp: hp.more["n"] + (hp.pair.x or 0.0)), 12)
    study.enqueue(point)
    assert study.ask(1)[0].params == point and len(study.to_frame()) == 13
    study.close()
    assert len(jhpo.Study(deep, "random", tmp_path / "a.db", resume=True)) == 13
    assert jhpo.Study.load(tmp_path / "a.db", space=deep)[12].params == point
    named = jhpo.Space(Single(jhpo.Float(0.0, 1.0)))
    assert named.encode(Single(0.25)).tolist() == [0.25] == named.encode({"value": 0.25}).tolist()
    assert jhpo.Space(jhpo.Float(0.0, 1.0)).encode(0.25).tolist() == [0.25]
    with pytest.raises(InvalidParameters, match="params: expected one of the parameters"):
        deep.encode(0.5)


def test_integers_beyond_float32_and_distances_beyond_int32_are_exact() -> None:
    far, close = jhpo.Int(-2_000_000_000, 2_000_000_000, step=4000), jhpo.Choice([2**30, 2**30 + 1, 5])
    space = jhpo.Space({"far": far, "close": close})
    units = space.snap(space.sample_unit(jax.random.key(0), 64))
    hp = space.from_unit(units)
    again = space.from_unit(space.to_unit(hp))
    assert all((hp[name] == again[name]).all() for name in hp)
    assert space.from_unit(space.to_unit({"far": 10, "close": 6.0})) == {"far": 0, "close": 5}


def test_a_width_that_float32_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidSpace, match="x: high: expected numbers and a width that float32 can hold"):
        jhpo.Space({"x": jhpo.Float(-3e38, 3e38)})


@pytest.mark.parametrize("tree", [{"a": jhpo.Float(0.0, 1.0), "b": {"c": None}}, Single([jhpo.Float(0.0, 1.0), None])])
def test_a_space_with_nothing_at_a_place_takes_what_it_decodes(tree) -> None:
    space = jhpo.Space(tree)
    params = space.decode(np.full(1, 0.25))
    space.validate(params)
    assert space.encode(params).tolist() == [0.25]
    with pytest.raises(InvalidParameters, match="d: expected one of the parameters"):
        jhpo.Space({"a": jhpo.Float(0.0, 1.0), "b": None}).validate({"a": 0.5, "d": None})


def test_what_is_taken_for_a_space_or_a_part_of_one_is_said() -> None:
    inner = jhpo.Space({"b": jhpo.Float(0.0, 1.0)})
    with pytest.raises(InvalidSpace, match=r"a: expected a parameter .*got Space\(b: Float\); a part .* is a dict"):
        jhpo.Space({"a": inner, "c": jhpo.Float(0.0, 1.0)})
    for given in (jhpo.Float(0.0, 1.0), [jhpo.Float(0.0, 1.0)]):
        with pytest.raises(jhpo.InvalidArgument, match=r"expected a jhpo.Space, .*; write jhpo.Space\(\.\.\.\)"):
            jhpo.minimize(lambda hp: hp, given, budget=2)
