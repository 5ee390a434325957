"""Hyperparameters as scalars with names, for tools that know no arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jhpo.space.declared import value_key
from jhpo.space.listed import Listed
from jhpo.space.parameters import Parameter
from jhpo.space.space import Space

PLAIN = (type(None), bool, int, float, str)  # what tools can store


def scalars(name: str, value: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """Name and value, or for an array the entries as ``name[0]``, ``name[1, 2]``.

    Args:
        name: of the value.
        value: a scalar, an array, or nested lists.
        shape: of the parameter, as a choice may be a sequence itself.

    >>> list(scalars("w", np.array([0.5, 1.0]), (2,)))
    [('w[0]', 0.5), ('w[1]', 1.0)]
    """
    for place in np.ndindex(shape):
        item = value
        for at in place:
            item = item[at]
        yield (f"{name}{list(place)}" if place else name), item.item() if isinstance(item, np.generic) else item


def plain_choice(value: object) -> str | int | float | None:
    """The choice if tools can store it, otherwise its repr."""
    return value if isinstance(value, PLAIN) else repr(value)


def point_of(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names of the space, from scalars as `scalars` and `plain_choice` make them.

    >>> import jhpo
    >>> space = jhpo.Space({"w": jhpo.Float(0.0, 1.0, shape=(2,)), "net": jhpo.Choice([(8, 8), (16,)])})
    >>> point_of(space, {"w[0]": 0.5, "w[1]": 1.0, "net": "(16,)"})
    {'net': (16,), 'w': array([0.5, 1. ])}
    """
    left, found = dict(values), {}
    for name, parameter in zip(space.names, space.parameters):
        places = list(np.ndindex(parameter.shape))
        labels = [f"{name}{list(place)}" if parameter.shape else name for place in places]
        if not all(label in left for label in labels):
            continue
        items = np.empty(parameter.shape, object)
        for place, label in zip(places, labels):
            items[place] = _choice(parameter, left.pop(label))
        if not parameter.shape:
            found[name] = items[()]
        else:
            found[name] = items.tolist() if isinstance(parameter, Listed) else items.astype(np.float64)
    return found | left  # what the space does not know is named by whoever reads it


def _choice(parameter: Parameter, value: Any) -> Any:
    """The choice that a stored value stands for; the value itself if it is none."""
    if not isinstance(parameter, Listed):
        return value
    return next((c for c in parameter.choices if value_key(plain_choice(c)) == value_key(value)), value)
