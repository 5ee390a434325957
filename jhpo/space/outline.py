"""What is left of a space when names, bounds and values are taken away: all that a model in unit coordinates sees."""

from __future__ import annotations

from typing import Any

import numpy as np

from jhpo.space.cells import index_of
from jhpo.space.parameters import Choice, Float, Int, Ordinal, Parameter
from jhpo.space.space import Space


def outline(space: Space) -> Space:
    """A space of the same unit rows, equal to that of every other space of the same kinds of coordinates.

    Floats run from 0 to 1, integers and choices count their cells (logarithmic integers, whose cells differ in width,
    keep their bounds). A program for one serves all spaces that share it. A space with constraints is its own outline:
    they are functions of the values.

    >>> a = Space({"lr": Float(1e-4, 1e-1, log=True), "opt": Choice(["sgd", "adam"])})
    >>> b = Space({"momentum": Float(0.0, 0.9), "nesterov": Choice([False, True])})
    >>> outline(a) == outline(b), a == b
    (True, False)
    """
    if space.has_constraints:
        return space
    return Space([_outline(space, i) for i in range(len(space.parameters))])


def _outline(space: Space, i: int) -> Parameter:
    parameter, where = space.parameters[i], space.slices[i]
    common: dict[str, Any] = {"shape": parameter.shape, "prior": parameter.prior}
    if space.conditions[i]:
        common["when"] = {
            str(parent): [_first(space.parameters[parent]) + cell for cell, allowed in enumerate(table) if allowed]
            for parent, table in space.conditions[i]
        }
    if isinstance(parameter, Float):
        return Float(0.0, 1.0, default=space.default[where].reshape(parameter.shape).tolist(), **common)
    first = _first(parameter)
    common["default"] = (first + index_of(parameter, space.default[where], np)).reshape(parameter.shape).tolist()
    if isinstance(parameter, Int):
        return Int(first, first + parameter.cells - 1, log=parameter.log, **common)
    kind = Choice if isinstance(parameter, Choice) else Ordinal
    return kind(range(parameter.cells), **common)


def _first(parameter: Parameter) -> int:
    """The value of an outline's first cell."""
    return parameter.low if isinstance(parameter, Int) and parameter.log else 0
