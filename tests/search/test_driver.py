"""The host driver: one program a study, phases, buffers that grow with their program compiled beforehand."""

from __future__ import annotations

import threading
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo import Float, RandomSearch, Space
from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation, Strategy, static_field, strategy

SPACE = Space({"x": Float(0.0, 1.0, shape=(2,))})


class MemoryState(NamedTuple):
    space: Space  # static
    values: jax.Array  # float[capacity], everything it was told
    used: jax.Array  # int32[]


@strategy
class Memory(Strategy):
    """Remembers every value in a buffer that has to grow; asks for the number of values it has."""

    population: int = static_field(default=2)
    host_float64 = True

    def init(self, space, key):
        return MemoryState(space, jnp.zeros((4,), jnp.result_type(float)), jnp.zeros((), jnp.int32))

    def ask(self, state, key):
        return jnp.full((2, 2), state.values.sum() / 1000), state

    def tell(self, state, units, result):
        rows = state.used + jnp.arange(2, dtype=jnp.int32)
        return state._replace(values=state.values.at[rows].set(result.value), used=state.used + jnp.int32(2))

    def full(self, state):
        return int(state.used) + 2 > len(state.values)

    def nearly_full(self, state):
        return int(state.used) + 4 > len(state.values)

    def grow(self, state):
        return state._replace(values=jnp.concatenate([state.values, jnp.zeros_like(state.values)]))


def drive(driver: Driver, turns: int) -> list[float]:
    blank = Evaluation(np.zeros(driver.strategy.population, np.float32))
    units = driver.turn(None, blank)
    seen = []
    for g in range(turns):
        units = driver.turn(units, Evaluation(np.full(len(units), g + 1.0)))
        seen.append(float(units[0, 0]))
    return seen


def test_a_growing_buffer_loses_nothing_and_runs_in_float64() -> None:
    driver = Driver(Memory(), SPACE, jax.random.key(0))
    seen = drive(driver, 12)
    np.testing.assert_allclose(seen, np.cumsum(2 * np.arange(1.0, 13.0)) / 1000, rtol=1e-12)
    assert driver.state.values.dtype == np.float64 and len(driver.state.values) >= 24
    assert not jax.config.jax_enable_x64  # type: ignore[attr-defined]


def test_the_next_size_is_compiled_beforehand(count_compilations) -> None:
    driver = Driver(Memory(), SPACE, jax.random.key(0))
    drive(driver, 1)
    for thread in threading.enumerate():  # it may be done already
        if thread.name == "jhpo-compile-ahead":
            thread.join()
    with count_compilations() as seen:
        for _ in range(2):
            driver.turn(np.zeros((2, 2)), Evaluation(np.ones(2)))
    assert len(driver.state.values) == 8
    assert not [n for n in seen.names if "_turn" in n]


def test_one_program_for_all_generations(count_compilations) -> None:
    first = Driver(RandomSearch(5), SPACE, jax.random.key(0))
    drive(first, 2)
    with count_compilations() as seen:
        drive(Driver(RandomSearch(5), SPACE, jax.random.key(1)), 4)
    assert not [n for n in seen.names if "_turn" in n]


def test_turn_equals_tell_and_ask() -> None:
    fused, apart = (Driver(RandomSearch(3), SPACE, jax.random.key(2)) for _ in range(2))
    result = Evaluation(np.ones(3, np.float32))
    units = fused.turn(None, result)
    np.testing.assert_array_equal(units, apart.ask(result))
    apart.tell(units, result)
    np.testing.assert_array_equal(fused.turn(units, result), apart.ask(result))
