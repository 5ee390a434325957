"""States that are made outside of a program may be given to one for good (``donate_argnums``)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

import jhpo
from jhpo.strategies import REGISTRY, make_strategy

SPACE = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True), "kind": jhpo.Choice(["a", "b"])})


def memory_of(array: jax.Array) -> int:
    bare = jax.random.key_data(array) if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else array
    return int(bare.unsafe_buffer_pointer())


def test_no_array_of_a_first_state_stands_in_it_twice() -> None:
    for name in REGISTRY:
        state = make_strategy(name).lasting(81).prepare(64).init(SPACE, jax.random.key(0))
        places = [memory_of(x) for x in jax.tree.leaves(state) if isinstance(x, jax.Array) and x.size]
        assert len(set(places)) == len(places), name


def test_a_state_is_donated() -> None:
    strategy = jhpo.DifferentialEvolution(4)

    @functools.partial(jax.jit, donate_argnums=0)
    def turn(state, key):
        units, state = strategy.ask(state, key)
        return strategy.tell(state, units, jhpo.Evaluation(units.sum(axis=1)))

    state = turn(strategy.init(SPACE, jax.random.key(0)), jax.random.key(1))
    units, state = strategy.ask(state, jax.random.key(2))  # outside: points are often part of the state
    told = jax.jit(strategy.tell, donate_argnums=0)(state, units, jhpo.Evaluation(units.sum(axis=1)))
    assert float(turn(told, jax.random.key(3)).value.min()) >= 0.0
