"""The compiled programs behind `Driver`: `turn` for each generation, and those needed less often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jhpo.kernels.loops import apart
from jhpo.keys import init_key, is_key, key_of_words, zero_keys
from jhpo.process.lifetimes import Programs, Remembered
from jhpo.programs.compilation import usual_options
from jhpo.programs.kept import kept
from jhpo.strategies.base import Evaluation, Strategy
from jhpo.values.pytrees import State, Tree


def turn(
    strategy: Strategy,
    space: Any,
    state: State,
    units: jax.Array,
    result: Evaluation,
    first: jax.Array | None,
    begin: jax.Array,
    key: jax.Array,
    told: jax.Array | None = None,
) -> tuple[jax.Array, Any]:
    """Start or learn, then ask: one program for a whole study (and one more for every size a buffer grows to).

    Args:
        first: bool[], start; None in a program that never does. begin: the key of the start. key: of this generation;
            keys or words, see `key_of_words`.
        told: bool[], False to ask without learning; None in a program that learns whenever it does not start.
    """

    def start() -> Any:
        return strategy.init(space, key_of_words(begin))

    def learn() -> Any:
        if told is None:
            return strategy.tell(state, units, result)
        return jax.lax.cond(told, lambda: strategy.tell(state, units, result), lambda: state)

    @apart  # compiled to the same instructions in every program
    def ask(fresh: bool) -> tuple[jax.Array, Any]:
        now = jax.lax.cond(first, start, learn) if fresh else learn()
        return strategy.ask(now, key_of_words(key))

    return ask(first is not None and structure(jax.eval_shape(start)) == structure(state))


# kept of each kind per process: each program of a Bayesian search holds about a thousand memory maps
_MOST = 12


def compiler_options(strategy: Strategy, *_: Any) -> dict[str, Any] | None:
    """Compiler options for a strategy's programs."""
    return usual_options(quickly=True) if strategy.compiled_quickly else None


def _programs(function: Callable[..., Any]) -> Programs:
    """A function of a strategy and more, compiled."""
    return Programs(function, most=_MOST, options=compiler_options)


# the one that every generation needs, and a process waits for: its trace is kept on disk
turn_program = Programs(
    turn, most=_MOST, options=compiler_options, through=kept(lambda strategy, space, state, *_: (0, state))
)
init_program = _programs(lambda strategy, space, begin: strategy.init(space, key_of_words(begin)))
tell_program = _programs(lambda strategy, state, units, result: strategy.tell(state, units, result))
ask_program = _programs(lambda strategy, state, key: strategy.ask(state, key_of_words(key)))
advance_program = _programs(lambda strategy, state: strategy.advance(state))
cross_program = _programs(
    lambda strategy, state, units, result, key: strategy.ask(
        strategy.advance(strategy.tell(state, units, result)), key_of_words(key)
    )
)
expect_program = _programs(lambda strategy, state, units, mask: strategy.expect(state, units, mask))
thawed_program = _programs(lambda strategy, state: (strategy.members(state), strategy.trained(state)))
absorb_program = _programs(lambda strategy, state, units, result: strategy.absorb(state, units, result))


def blank_state(strategy: Strategy, space: Any, root: jax.Array) -> Any:
    """Zeros in the structure of the strategy's state; compiles and runs nothing."""
    return blank(_first_shapes(strategy, space, root))


@Remembered
def _first_shapes(strategy: Strategy, space: Any, root: jax.Array) -> Any:
    return jax.eval_shape(lambda: strategy.init(space, init_key(root)))


def blank(shapes: Tree) -> Tree:
    """Zeros of the shapes and dtypes that `jax.eval_shape` gives."""
    return jax.tree.map(_zeros, shapes)


def _zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array | np.ndarray:
    return zero_keys(leaf.shape, leaf) if is_key(leaf) else np.zeros(leaf.shape, leaf.dtype)


def structure(arguments: Tree) -> Any:
    """Key under which calls share a program: tree structure, shapes and dtypes."""
    leaves, treedef = jax.tree.flatten(arguments)
    return treedef, tuple((np.shape(x), str(getattr(x, "dtype", type(x)))) for x in leaves)
