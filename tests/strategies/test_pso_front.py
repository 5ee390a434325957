"""Swarms whose moving particles have arrays of their own: the same points as with windows of larger arrays."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.kernels.rows import exchanged, window
from jhpo.search.run import run
from jhpo.space.space import Float, Space
from jhpo.strategies.base import Evaluation
from jhpo.strategies.pso import PSO
from jhpo.strategies.swarm_memory import PSOState

BOX = Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)})


def on_stairs(strategy: PSO, state: PSOState, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Points and active particles of 500 generations on stairs: after the lowest nothing is gained."""

    def generation(state, key):
        units, state = strategy.ask(state, key)
        value = jnp.floor(16 * jnp.abs(units - 0.3)).max(axis=1)
        return strategy.tell(state, units, Evaluation(value)), (units, state.active)

    return jax.lax.scan(generation, state, jax.random.split(key, 500))[1]


def points(strategy: PSO, keys: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Those of a new swarm for each key."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return on_stairs(strategy, strategy.init(BOX, key), key)

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one) if keys.ndim else one)(keys))


@pytest.mark.parametrize("variant", ["spso2006", pytest.param("ring", marks=pytest.mark.slow)])
def test_blocks_that_change_places_move_as_blocks_that_stay(variant, monkeypatch):
    strategy, keys = PSO(8, variant=variant, patience=0.2), jax.random.split(jax.random.key(3), 4)
    assert strategy.fronted
    units, active = points(strategy, keys)
    alone, _ = points(strategy, keys[2])
    monkeypatch.setattr(PSO, "fronted", False)
    jax.clear_caches()  # programs do not depend on what was replaced
    expected, _ = points(strategy, keys)
    np.testing.assert_array_equal(units, expected)
    np.testing.assert_array_equal(units[2], alone)
    assert {8, 16, 32} <= set(active.ravel().tolist())
    assert (active.min(axis=0) < active.max(axis=0)).any()  # at once: some have grown and others have not


def test_a_generation_does_not_touch_rows_that_nobody_has_grown_into():
    generations, searches = 400, 3
    objective, space = (lambda hp: (hp["x"] ** 2).sum()), Space({"x": Float(-1.0, 1.0, shape=(5,))})
    program = jax.jit(jax.vmap(lambda key: run(PSO(8), objective, space, generations, key)[0]))
    text = program.lower(jax.random.split(jax.random.key(0), searches)).compile().as_text()
    loops = [
        line
        for line in text.splitlines()
        if " while(" in line and f'"known_trip_count":{{"n":"{generations}"}}' in line
    ]
    assert len(loops) == 1
    name = re.search(r"body=%([\w.\-]+)", loops[0]).group(1)
    body = text[text.index(f"\n%{name} ") :]
    body = body[: body.index("\n}")].splitlines()[2:]
    made = [line for line in body if re.search(rf"= f32\[{searches},(24|32)[,\]]", line)]
    assert all(re.search(r" (get-tuple-element|while|tuple)\(", line) for line in made), made
    assert len(body) > 50 and made


@pytest.mark.parametrize("variant", ["gbest", pytest.param("spso2006", marks=pytest.mark.slow)])
def test_a_short_search_is_the_beginning_of_a_long_one(variant):
    """Restarts and all, although it has no rows to grow into; and a study, without a budget, is the same search."""

    def stairs(hp):
        return jnp.floor(16 * jnp.maximum(abs(hp["x"] - 0.3), abs(hp["y"])))

    strategy = PSO(8, variant=variant, patience=0.2)
    short, long = (run(strategy, stairs, BOX, generations, jax.random.key(4)) for generations in (190, 500))
    assert short[0].restarts > 2 and long[0].active == 32
    np.testing.assert_array_equal(short[1].units, long[1].units[:190])
    study = jhpo.Study(BOX, strategy, seed=4)
    study.optimize(stairs, budget=190 * 8)
    found = jhpo.minimize(stairs, BOX, strategy, budget=190 * 8, seed=4).history
    np.testing.assert_array_equal([trial.value for trial in study.trials], found.value)


def test_a_budget_has_rows_for_the_swarms_that_it_lets_come_about():
    assert [PSO(8).prepare(n).max_growth for n in (1, 1599, 1600, 3199, 3200, 10**9)] == [1, 1, 2, 2, 4, 4]
    assert PSO(8, particles=16).prepare(3200).max_growth == 2


def test_the_state_of_a_short_run_goes_on_with_the_rows_that_it_has():
    strategy = PSO(8, patience=0.2)
    state, _ = run(strategy, lambda hp: jnp.floor(16 * jnp.abs(hp["x"] - 0.3)), BOX, 20, jax.random.key(1))
    assert state.swarm.far_position.shape == (0, 2)
    more, active = on_stairs(strategy, state, jax.random.key(2))
    fewer, _ = on_stairs(strategy.prepare(160), state, jax.random.key(2))
    np.testing.assert_array_equal(more, fewer)
    assert set(active.tolist()) == {8} and len(np.unique(more.reshape(-1, 2), axis=0)) > 300


def test_rows_that_have_changed_places():
    rows = np.arange(12)
    rows[:3], rows[6:9] = rows[6:9].copy(), rows[:3].copy()
    np.testing.assert_array_equal(exchanged(jnp.arange(12, dtype=jnp.int32), window(6, 3)), rows)
    np.testing.assert_array_equal(exchanged(jnp.arange(12, dtype=jnp.int32), window(0, 3)), np.arange(12))
