"""Options of the wrong kind are refused by name when a strategy is made; numbers, arrays and tracers are not."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.strategies import REGISTRY, strategy_class


def fields(*kinds: str) -> list[tuple[str, str]]:
    """Names of strategies and their options of these kinds."""
    found = [(name, field) for name in sorted(REGISTRY) for field in dataclasses.fields(strategy_class(name))]
    return [(name, f.name) for name, f in found if set(kinds) & {k.strip() for k in str(f.type).split("|")}]


@pytest.mark.parametrize(
    "wrong", [[1.0], {"a": 1}, "half", object(), jhpo.PSO, True, 1j], ids=lambda w: type(w).__name__
)
def test_an_option_that_is_no_number(wrong: object) -> None:
    options = fields("Number", "float")
    assert len(options) > 20
    for name, option in options:
        with pytest.raises(jhpo.InvalidArgument, match=f"^{option}: expected a number"):
            strategy_class(name)(**{option: wrong})


def test_a_rate_may_lack_where_the_optimiser_has_its_own() -> None:
    assert jhpo.HyperGradient(optimizer=optax.adam(0.1), learning_rate=None).learning_rate is None
    with pytest.raises(jhpo.InvalidArgument, match=r"^learning_rate: expected a number for adam, got None$"):
        jhpo.HyperGradient(learning_rate=None)


def test_an_option_that_is_no_truth_value() -> None:
    options = fields("bool")
    assert ("bayes", "gradients") in options
    for name, option in options:
        with pytest.raises(jhpo.InvalidArgument, match=f"^{option}: expected True or False, got 'no'"):
            strategy_class(name)(**{option: "no"})


@pytest.mark.parametrize("wrong", [[1], {"a": 1}, object(), 3, jhpo.PSO, [jhpo.PSO(4), jhpo.RandomSearch(4)]])
def test_an_option_that_is_no_strategy(wrong: object) -> None:
    makers = {
        "search": lambda: jhpo.Chain(wrong),
        "polish": lambda: jhpo.Chain(jhpo.PSO(8), wrong),
        "proposer": lambda: jhpo.Hyperband(9, proposer=wrong),
    }
    for option, make in makers.items():
        with pytest.raises(jhpo.InvalidArgument, match=f"^{option}: expected an instance of a jhpo strategy"):
            make()
    for kind in (jhpo.ASHA, jhpo.FreezeThaw, jhpo.SuccessiveHalving):
        with pytest.raises(jhpo.InvalidArgument, match=r"^proposer: expected an instance of a jhpo strategy"):
            kind(proposer=wrong)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_tree_may_hold_anything_in_place_of_numbers(name: str) -> None:
    made = strategy_class(name)()
    emptied = jax.tree.map(lambda leaf: None, made)
    assert type(emptied) is type(made)
    again = jax.tree.map(lambda leaf: leaf, made)
    assert again == made and jax.tree.structure(again) == jax.tree.structure(made)
    leaves, structure = jax.tree.flatten(made)
    assert all(leaf == "x" for leaf in jax.tree.leaves(jax.tree.unflatten(structure, ["x"] * len(leaves))))


def test_numbers_may_be_arrays_and_tracers() -> None:
    assert jhpo.CMAES(8, sigma=np.float32(0.3)).sigma == np.float32(0.3)
    assert jnp.shape(jhpo.PSO(8, patience=jnp.array([5.0, 10.0])).patience) == (2,)
    doubled = jax.vmap(lambda p: jnp.asarray(jhpo.PSO(8, patience=p).patience) * 2)
    assert doubled(jnp.array([0.5, 1.0])).tolist() == [1.0, 2.0]


def test_an_option_without_effect_is_said_once() -> None:
    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})
    for kind, options in ((jhpo.DifferentialEvolution, {"f": 0.7}), (jhpo.PSO, {"reevaluate": 0.5})):
        with pytest.warns(UserWarning, match="no effect"):
            strategy = kind(8, **options)
        jhpo.minimize(lambda hp: hp["x"] ** 2, space, strategy, budget=16)
