"""A space in words: a row of texts for each parameter."""

from __future__ import annotations

from jhpo.space.layout import Layout
from jhpo.space.listed import Listed
from jhpo.space.parameters import Float, Int, Parameter
from jhpo.words.markup import cell

HEAD = ("parameter", "kind", "values", "scale", "only when")


def rows(space: Layout) -> list[list[str]]:
    """Name, kind, values, scale and condition of each parameter."""
    out = []
    for name, parameter, conditions in zip(space.names, space.parameters, space.conditions):
        shape = f" {list(parameter.shape)}" if parameter.shape else ""
        when = [
            f"{space.names[parent]} is {' or '.join(_allowed(space.parameters[parent], allowed))}"
            for parent, allowed in conditions
        ]
        out.append([name, parameter.kind + shape, *_range(parameter), " and ".join(when)])
    return out


def _range(parameter: Parameter) -> tuple[str, str]:
    """Values and scale."""
    if isinstance(parameter, Listed):
        return ", ".join(map(cell, parameter.choices)), "static" if parameter.static else ""
    assert isinstance(parameter, Float | Int)
    ends = f"{cell(parameter.low)} to {cell(parameter.high)}"
    if isinstance(parameter, Float):
        return ends, parameter.scale
    step = f", step {parameter.step}" if parameter.step != 1 else ""
    return ends + step, "log" if parameter.log else "linear"


def _allowed(parent: Parameter, allowed: tuple[bool, ...]) -> list[str]:
    if isinstance(parent, Listed):
        return [cell(c) for c, ok in zip(parent.choices, allowed) if ok]
    assert isinstance(parent, Int)
    return [str(parent.low + k * parent.step) for k, ok in enumerate(allowed) if ok]
