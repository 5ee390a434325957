"""A space as arrays: rows mean the same, with and without padding; spaces of a kind have arrays of the same shapes."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jhpo
from jhpo.space import outline as rows
from jhpo.space.codec import batched
from jhpo.space.outlining import class_of, padded_outline

pytestmark = pytest.mark.quick

SPACES = {
    "floats": {
        "a": jhpo.Float(1e-4, 1e-1, log=True, default=0.01),
        "b": jhpo.Float(0.1, 0.9, scale="logit", prior=(0.2, 0.1)),
    },
    "integers": {
        "n": jhpo.Int(8, 64, step=8, default=16),
        "m": jhpo.Int(3, 300, log=True, default=30),
        "k": jhpo.Int(-2, 2),
        "many": jhpo.Int(1, 10**6, log=True, shape=(2,)),
    },
    "lists": {
        "c": jhpo.Choice(["a", None, (1, 2)], default=None),
        "o": jhpo.Ordinal([1, 10, 100], default=100),
        "s": jhpo.Choice([2, 4], static=True),
    },
    "arrays": {
        "x": jhpo.Float(0.0, 2.0, shape=(2, 2), default=0.5),
        "y": jhpo.Int(1, 4, shape=(3,)),
        "z": jhpo.Choice(["p", "q"], shape=(2,)),
    },
    "conditions": {
        "opt": jhpo.Choice(["sgd", "adam", "lion"]),
        "depth": jhpo.Int(2, 9, log=True),
        "b2": jhpo.Float(0.9, 0.999, when={"opt": ["adam", "lion"]}, default=0.95),
        "nested": {"w": jhpo.Int(4, 6, when={"depth": [2, 3, 8]}), "v": jhpo.Float(0.0, 1.0, when={"w": 5})},
    },
}


@pytest.mark.parametrize("name", SPACES)
def test_padded_rows_mean_the_same(name: str) -> None:
    space = jhpo.Space(SPACES[name])
    d, wide = space.dim, padded_outline(space, 12)
    units = np.asarray(space.sample_unit(jax.random.key(0), 500))
    padded = np.pad(units, [(0, 0), (0, 12 - d)], constant_values=0.3)
    # as data of a program, not as its constants
    of = lambda f: np.asarray(jax.jit(lambda o, u: batched(lambda r: f(o, r), u))(wide, padded))  # noqa: E731
    canonical = of(rows.canonical)
    np.testing.assert_array_equal(canonical[:, d:], 0.5)
    np.testing.assert_array_equal(of(rows.active)[:, :d], space.active(units))
    np.testing.assert_allclose(canonical[:, :d], space.canonical(units), atol=2e-6)
    # what the padded outline proposes lies in the cell that it means, by the exact tables: to a few of a million
    meant = np.asarray(space.index(space.canonical(units)))
    np.testing.assert_allclose(space.index(canonical[:, :d]), meant, rtol=1e-5)
    again = np.asarray(jax.jit(lambda o, u: batched(lambda r: rows.canonical(o, r), u))(wide, canonical))
    np.testing.assert_allclose(again, canonical, atol=1e-6)
    assert wide.dim == 12 and np.asarray(wide.live).sum() == d


def test_a_condition_holds_where_those_of_its_parents_do() -> None:
    space = jhpo.Space(SPACES["conditions"])
    units = np.asarray(space.sample_unit(jax.random.key(1), 200))
    on = np.asarray(space.active(units))
    at = {name: i for i, name in enumerate(space.names)}
    for unit, row in zip(units, on):
        flat = space.flat(space.decode(unit))
        assert {name for name, i in at.items() if row[i]} == set(flat)


def shapes(*parameters) -> list:
    space = jhpo.Space(list(parameters))
    outline = padded_outline(space, class_of(space.dim, 4))
    return [jax.tree.structure(outline), *(np.shape(leaf) for leaf in jax.tree.leaves(outline))]


def test_bounds_numbers_of_values_and_dimension_are_data_and_kinds_are_not() -> None:
    assert shapes(jhpo.Float(0.0, 1.0)) == shapes(jhpo.Float(1e-5, 1.0, log=True), jhpo.Float(0.0, 3.0))
    assert shapes(jhpo.Choice(["a", "b"])) == shapes(jhpo.Choice(range(7)), jhpo.Int(0, 9)) == shapes(jhpo.Int(0, 9))
    assert shapes(jhpo.Int(1, 64, log=True)) == shapes(jhpo.Int(2, 10**6, log=True)) == shapes(jhpo.Int(2, 60))
    assert shapes(jhpo.Int(0, 9)) != shapes(jhpo.Float(0.0, 1.0)) != shapes(jhpo.Float(0.0, 1.0, prior=(0.5, 0.1)))
    conditional = [
        shapes(jhpo.Choice(range(n)), *(jhpo.Float(0.0, 1.0, when={"0": allowed}) for allowed in each))
        for n, each in ((2, [1]), (8, [3, [4, 5]]))
    ]
    assert conditional[0] == conditional[1] != shapes(jhpo.Choice(range(2)), jhpo.Float(0.0, 1.0))


FINITE = {
    "choices": {"c": jhpo.Choice(["a", "b", "c"]), "o": jhpo.Ordinal([1, 2], shape=(2,))},
    "logarithmic": {"m": jhpo.Int(1, 9, log=True), "n": jhpo.Int(-3, 3, step=3)},
    "conditions": {
        "c": jhpo.Choice(["a", "b"]),
        "n": jhpo.Int(1, 4, when={"c": "a"}),
        "m": jhpo.Int(1, 8, log=True, default=3, when={"n": [2, 3]}),
    },
}


@pytest.mark.parametrize("name", FINITE)
def test_every_point_of_a_finite_space_once(name: str) -> None:
    """Those that random rows reach; a compiler may divide by a constant in its own way."""
    space = jhpo.Space(FINITE[name])
    points = space.enumerate()
    reached = np.unique(np.asarray(space.canonical(space.sample_unit(jax.random.key(0), 20_000))), axis=0)
    np.testing.assert_allclose(points, reached, rtol=2e-7)
    assert space.cardinality == len(points) and points.dtype == reached.dtype
