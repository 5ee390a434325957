"""What evaluations return: names of several objectives, measured constraints; the same for all static values."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.objectives import Objectives
from jhpo.space.declared import value_key
from jhpo.space.space import Space
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import Trainable, Wanted, evaluate_state


class StaticValues:
    """Values of the static parameters of one group by name, hashable and compared by content."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = dict(values)
        self._key = tuple((k, value_key(v)) for k, v in sorted(values.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StaticValues) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


NO_STATIC = StaticValues({})


class Described(NamedTuple):
    """Names and number of the values that an evaluation returns."""

    names: tuple[str, ...] | None  # of several objectives; None without names
    constraints: int  # number of measured constraints


def describe(trainable: Trainable, space: Space, metric: Wanted, static: StaticValues | None = None) -> Described:
    """Host question: looked up by tracing one evaluation, without its training; nothing is compiled.

    Raises:
      InvalidArgument: the evaluation does not return what is wanted.
    """
    names: tuple[str, ...] | None = None
    if static is None:
        static = StaticValues(space.static_groups(space.default_unit()[None])[0][0]) if space.has_static else NO_STATIC

    def member(unit: jax.Array) -> jax.Array | None:
        nonlocal names
        hp = space.from_unit(unit, static.values)
        found = evaluate_state(trainable, hp, trainable.init(hp, jax.random.key(0)), metric)
        names = tuple(found.named) or None
        return found.constraint

    with objective_errors():
        constraint = jax.eval_shape(member, jax.ShapeDtypeStruct((space.dim,), jnp.result_type(float)))
    return Described(names, 0 if constraint is None else constraint.shape[0])


def check_same(first: Described, trainable: Trainable, space: Space, metric: Wanted, static: StaticValues) -> None:
    """Raises if members with these static values do not return what those with the default ones do.

    Raises:
      InvalidArgument: another number of constraints, which do not fit side by side, or several objectives that are
        named otherwise, which would be taken for one another.
    """
    if static == NO_STATIC:
        return
    found = describe(trainable, space, metric, static)
    if found.constraints != first.constraints:
        expected = f"as many measured constraints as with the default static values, {first.constraints}"
        raise invalid("objective", expected, f"{found.constraints} with {static.values}")
    if isinstance(metric, Objectives) and found.names != first.names:
        expected = f"the names of the values with the default static values, {_named(first)}, in this order"
        raise invalid("objective", expected, f"{_named(found)} with {static.values}")


def _named(found: Described) -> list[str] | None:
    return None if found.names is None else list(found.names)
