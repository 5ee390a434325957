"""What a model in unit coordinates sees of a space."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.space.outline import outline

SPACES = {
    "floats": {
        "a": jhpo.Float(1e-4, 1e-1, log=True, default=0.01),
        "b": jhpo.Float(0.1, 0.9, scale="logit", prior=(0.2, 0.1)),
    },
    "integers": {
        "n": jhpo.Int(8, 64, step=8, default=16),
        "m": jhpo.Int(3, 300, log=True, default=30),
        "k": jhpo.Int(-2, 2),
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
def test_unit_rows_mean_the_same(name: str) -> None:
    space = jhpo.Space(SPACES[name])
    plain = outline(space)
    units = np.asarray(space.sample_unit(jax.random.key(0), 200))
    np.testing.assert_array_equal(plain.sample_unit(jax.random.key(0), 200), units)
    np.testing.assert_array_equal(plain.default_unit(), space.default_unit())
    np.testing.assert_array_equal(plain.cells, space.cells)
    np.testing.assert_array_equal(plain.categorical, space.categorical)
    np.testing.assert_array_equal(plain.canonical(units), space.canonical(units))
    np.testing.assert_array_equal(plain.active(units), space.active(units))
    assert plain.cardinality == space.cardinality
    assert outline(plain) == plain


def test_names_bounds_and_values_do_not_matter_and_kinds_do() -> None:
    def of(*parameters) -> jhpo.Space:
        return outline(jhpo.Space(list(parameters)))

    assert of(jhpo.Float(0.0, 1.0)) == of(jhpo.Float(1e-5, 1.0, log=True)) != of(jhpo.Int(0, 1))
    assert of(jhpo.Choice(["a", "b"])) == of(jhpo.Choice([False, True])) != of(jhpo.Ordinal([1, 2]))
    assert of(jhpo.Int(0, 3)) == of(jhpo.Int(10, 40, step=10)) != of(jhpo.Int(0, 4))
    bounded = jhpo.Space({"x": jhpo.Float(0.0, 1.0)}, constraints=[lambda hp: hp["x"]])
    assert outline(bounded) is bounded


def test_a_new_space_of_the_same_kinds_compiles_nothing_for_the_model(count_compilations) -> None:
    def search(low: float, names: list) -> float:
        space = jhpo.Space({names[0]: jhpo.Float(low, low + 2.0), "c": jhpo.Choice(names)})
        objective = lambda hp: (hp[names[0]] - low - 0.5) ** 2 + jnp.where(hp["c"] == 1, 0.1, 0.0)  # noqa: E731
        return jhpo.minimize(objective, space, jhpo.BayesOpt(), budget=12).value

    first = search(0.0, ["a", "b"])
    with count_compilations() as seen:
        second = search(5.0, ["b", "y"])
    assert not [name for name in seen.names if "turn" in name or "tell" in name or "ask" in name], seen.names
    assert abs(first - second) < 0.05
