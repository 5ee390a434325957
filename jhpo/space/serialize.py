"""Support of `flax.serialization` for states: typed random keys are stored as their data, a space as nothing."""

from __future__ import annotations

import functools
import sys
from typing import Any

import jax

from jhpo.keys import is_key
from jhpo.process.switches import with_transfers
from jhpo.space.space import Space
from jhpo.values.pytrees import State


def serializable(states: State) -> State:
    """Returns ``states`` after registering what ``flax.serialization.to_bytes`` and ``from_bytes`` need for them.

    >>> from flax import serialization
    >>> state = serializable({"key": jax.random.key(3)})
    >>> back = serialization.from_bytes({"key": jax.random.key(0)}, serialization.to_bytes(state))
    >>> bool(back["key"] == state["key"])
    True
    """
    if any(is_key(x) for x in jax.tree.leaves(states)) or _holds_space(states):
        _register()
    return states


def known_to_flax() -> None:
    """Registers them where flax is imported already: for states of the user's own programs, which pass through nothing.

    >>> import flax.serialization
    >>> known_to_flax()
    >>> len(flax.serialization.to_bytes(jax.random.key(3)))
    23
    """
    if "flax.serialization" in sys.modules:
        _register()


def _holds_space(states: State) -> bool:
    found = jax.tree.leaves(states, is_leaf=lambda x: isinstance(x, Space))
    return any(isinstance(x, Space) for x in found)


@functools.cache
@with_transfers
def _register() -> None:
    from flax import serialization  # late: flax takes half a second to import

    with jax.ensure_compile_time_eval():  # a strategy may be traced now
        key = type(jax.random.key(0))
    forms: tuple[tuple[type, Any, Any], ...] = (
        (key, jax.random.key_data, lambda k, data: jax.random.wrap_key_data(data, impl=jax.random.key_impl(k))),
        (Space, lambda space: {}, lambda space, nothing: space),
    )
    for kind, write, read in forms:
        # another library may have registered keys already
        serialization.register_serialization_state(kind, write, read, override=True)
