"""Snapshots of strategy states: exact, checked, and never needed."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

import jhpo
from jhpo.errors import StorageError
from jhpo.storage.snapshot import dump_state, read_snapshot
from jhpo.storage.spec import make_from_spec, spec_diff, strategy_spec
from jhpo.strategies import REGISTRY, make_strategy


class State(NamedTuple):
    x: jax.Array
    n: jax.Array
    key: jax.Array
    space: jhpo.Space


SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})


def state(seed=0):
    x = jnp.asarray([0.1, jnp.nan, jnp.inf], jnp.float32)
    return State(x, jnp.asarray(3, jnp.uint32), jax.random.key(seed), SPACE)


def test_a_state_comes_back_bit_for_bit():
    units = np.asarray([[0.25], [0.75]], np.float32)
    snapshot = read_snapshot(dump_state(state(0), units, 2))
    assert snapshot.fits(state(1)) and snapshot.growths == 2
    back, rows = snapshot.state(state(1)), snapshot.units
    np.testing.assert_array_equal(np.asarray(back.x).view(np.uint32), np.asarray(state().x).view(np.uint32))
    np.testing.assert_array_equal(jax.random.key_data(back.key), jax.random.key_data(state().key))
    assert int(back.n) == 3 and back.space == SPACE
    np.testing.assert_array_equal(rows, units)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"cos\nsystem\n(S'touch pwned'\ntR.",
        serialization.msgpack_serialize({"units": np.zeros((1, 1)), "leaves": {"0": np.zeros(3)}}),
        serialization.msgpack_serialize({"leaves": {}}),
        serialization.msgpack_serialize(
            {"units": np.zeros((1, 1)), "leaves": {"0": np.zeros(4, np.float32), "1": np.uint32(1), "2": "x"}}
        ),
    ],
    ids=["empty", "pickle", "fewer", "no-units", "shape"],
)
def test_what_does_not_fit_is_refused(data):
    with pytest.raises(StorageError, match="snapshot"):
        read_snapshot(data).state(state())


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_registered_strategy_survives_storage(name):
    if name == "chain":
        pytest.skip("needs strategies as arguments; covered below")
    strategy = make_strategy(name)
    spec = strategy_spec(strategy)
    assert strategy_spec(make_from_spec(spec)) == spec
    assert spec_diff(spec, spec) == []


def test_differences_between_strategies_are_named():
    a, b = strategy_spec(jhpo.RandomSearch(8)), strategy_spec(jhpo.RandomSearch(9))
    assert spec_diff(a, b) == ["population: was 8, now 9"]
    assert spec_diff(a, strategy_spec(jhpo.SobolSearch(8))) == ["strategy: was random, now sobol"]
    proposers = (jhpo.RandomSearch(4), jhpo.PSO(8))
    nested = [strategy_spec(jhpo.SuccessiveHalving(8, eta=2, min_steps=5, proposer=p)) for p in proposers]
    assert spec_diff(*nested) == ["proposer: was random(population=4), now pso(population=8)"]
    with pytest.raises(StorageError, match="not one of jhpo's"):
        make_from_spec({"strategy": "os:system", "options": {"command": "true"}})
