"""The compiled programs behind `Driver`: `turn` for each generation, and those needed less often."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.loops import apart
from jhpo.keys import init_key, key_of_data, strategy_key
from jhpo.lifetimes import Programs, Remembered
from jhpo.strategies.base import Evaluation, Strategy


def turn(
    strategy: Strategy,
    space: Any,
    state: Any,
    units: jax.Array,
    result: Evaluation,
    first: jax.Array,
    root: jax.Array,
    generation: jax.Array,
) -> tuple[jax.Array, Any]:
    """Start or learn, then ask: one program for a whole study (and one more for every size a buffer grows to)."""

    def start() -> Any:
        return strategy.init(space, init_key(root))

    def learn() -> Any:
        return strategy.tell(state, units, result)

    @apart  # compiled to the same instructions in every program
    def ask(fresh: bool) -> tuple[jax.Array, Any]:
        now = jax.lax.cond(first, start, learn) if fresh else learn()
        return strategy.ask(now, strategy_key(root, generation))

    return ask(structure(jax.eval_shape(start)) == structure(state))


# kept of each kind per process: each program of a Bayesian search holds about a thousand memory maps
_MOST = 12
turn_program = Programs(turn, most=_MOST)
init_program = Programs(lambda strategy, space, root: strategy.init(space, init_key(root)), most=_MOST)
tell_program = Programs(lambda strategy, state, units, result: strategy.tell(state, units, result), most=_MOST)
ask_program = Programs(
    lambda strategy, state, root, generation: strategy.ask(state, strategy_key(root, generation)), most=_MOST
)
advance_program = Programs(lambda strategy, state: strategy.advance(state), most=_MOST)
cross_program = Programs(
    lambda strategy, state, units, result, root, generation: strategy.ask(
        strategy.advance(strategy.tell(state, units, result)), strategy_key(root, generation)
    ),
    most=_MOST,
)
expect_program = Programs(lambda strategy, state, units, mask: strategy.expect(state, units, mask), most=_MOST)
absorb_program = Programs(lambda strategy, state, units, result: strategy.absorb(state, units, result), most=_MOST)


def blank_state(strategy: Strategy, space: Any, root: jax.Array) -> Any:
    """Zeros in the structure of the strategy's state; compiles and runs nothing."""
    return blank(_first_shapes(strategy, space, root))


@Remembered
def _first_shapes(strategy: Strategy, space: Any, root: jax.Array) -> Any:
    return jax.eval_shape(lambda: strategy.init(space, init_key(root)))


def blank(shapes: Any) -> Any:
    """Zeros of the shapes and dtypes that `jax.eval_shape` gives."""
    return jax.tree.map(_zeros, shapes)


def _zeros(leaf: Any) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jax.eval_shape(jax.random.key_data, leaf)
        return key_of_data(jnp.zeros(data.shape, data.dtype), leaf)
    return np.zeros(leaf.shape, leaf.dtype)


def structure(arguments: Any) -> Any:
    """Key under which calls share a program: tree structure, shapes and dtypes."""
    leaves, treedef = jax.tree.flatten(arguments)
    return treedef, tuple((np.shape(x), str(getattr(x, "dtype", type(x)))) for x in leaves)
