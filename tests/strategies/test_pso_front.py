"""Swarms whose moving particles have arrays of their own: the same points as with windows of larger arrays."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.rows import exchanged, window
from jhpo.search.run import run
from jhpo.space.space import Float, Space
from jhpo.strategies.base import Evaluation
from jhpo.strategies.pso import PSO

BOX = Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)})


def points(strategy: PSO, keys: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Points and active particles of 90 generations on stairs, for each key: after the lowest nothing is gained."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        def generation(state, key):
            units, state = strategy.ask(state, key)
            value = jnp.floor(16 * jnp.abs(units - 0.3)).max(axis=1)
            return strategy.tell(state, units, Evaluation(value)), (units, state.active)

        return jax.lax.scan(generation, strategy.init(BOX, key), jax.random.split(key, 90))[1]

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
    generations, searches = 7, 3
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


def test_rows_that_have_changed_places():
    rows = np.arange(12)
    rows[:3], rows[6:9] = rows[6:9].copy(), rows[:3].copy()
    np.testing.assert_array_equal(exchanged(jnp.arange(12, dtype=jnp.int32), window(6, 3)), rows)
    np.testing.assert_array_equal(exchanged(jnp.arange(12, dtype=jnp.int32), window(0, 3)), np.arange(12))
