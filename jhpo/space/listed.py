"""Parameters with a list of values of any kind: unordered choices, and ordinals."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Never

import numpy as np

from jhpo.errors import InvalidArgument, InvalidSpace, check_flag, invalid
from jhpo.space.declared import leaves_of, plain, value_key
from jhpo.space.parameters import HUGE, Int, Parameter
from jhpo.words.advice import advised


@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Listed(Parameter):
    """A parameter that takes one of a list of values."""

    choices: tuple[Any, ...] = ()
    static: bool = False  # type: ignore[misc]

    @advised
    def __init__(
        self,
        choices: Sequence[Any] = (),
        *more: Never,
        shape: int | tuple[int, ...] = (),
        when: Mapping[str, Any] | None = None,
        default: object = None,
        static: bool = False,
        prior: tuple[float, float] | None = None,
    ) -> None:
        if more:
            how = f"one list of values, {type(self).__name__}([...])"
            raise invalid("choices", how, f"{1 + len(more)} arguments", InvalidSpace)
        if isinstance(choices, (str, bytes)) or not isinstance(choices, (Sequence, np.ndarray)) or not len(choices):
            raise invalid("choices", "a list of at least one value", choices, InvalidSpace)
        choices = tuple(plain(c) for c in choices)
        seen: set[Any] = set()
        for choice in choices:
            inner = next((leaf for leaf in leaves_of(choice) if isinstance(leaf, Parameter)), None)
            if inner is not None:
                expected = "values; a parameter of its own goes beside it, with when={...: the choice it belongs to}"
                raise invalid("choices", expected, f"a {type(inner).__name__}", InvalidSpace)
            if value_key(choice) in seen:
                raise invalid("choices", "distinct values", f"{choice!r} twice", InvalidSpace)
            seen.add(value_key(choice))
        if any(isinstance(c, float) and math.isnan(c) for c in choices):
            raise invalid("choices", "no NaN", choices, InvalidSpace)
        check_flag("static", static, InvalidSpace)
        values = dict(choices=choices, static=static, shape=shape, when=when, default=default)
        for name, value in {**values, "prior": prior}.items():
            object.__setattr__(self, name, value)
        self._finish()
        if self.static and self.shape:
            raise invalid("shape", "() for a static parameter", self.shape, InvalidSpace)

    @functools.cached_property
    def keys(self) -> dict[Any, int]:
        """The cell of each value by its `value_key`."""
        return {value_key(choice): i for i, choice in enumerate(self.choices)}

    @property
    def cells(self) -> int:
        return len(self.choices)

    @property
    def delivers(self) -> str | None:
        if all(isinstance(c, bool) for c in self.choices):
            return "bool"
        if not all(isinstance(c, numbers.Real) and not isinstance(c, bool) for c in self.choices):
            return None
        return "int" if all(isinstance(c, numbers.Integral) for c in self.choices) else "float"

    def unresolved(self) -> InvalidArgument | None:
        if self.static or self.delivers in (None, "bool"):
            return None
        if self.delivers == "int":
            bad = [c for c in self.choices if abs(int(c)) >= 2**31]
            advice = "integers that int32 can hold (static=True keeps Python values)"
            return invalid("choices", advice, bad, InvalidSpace) if bad else None
        narrow = [np.float32(c) if abs(c) <= HUGE else np.float32(np.inf) for c in self.choices]
        bad = [c for c, f in zip(self.choices, narrow) if not np.isfinite(f) or (f == 0.0) != (c == 0.0)]
        if bad or len(set(narrow)) < len(narrow):
            advice = "numbers that float32 can hold and tell apart (static=True keeps Python values)"
            return invalid("choices", advice, bad or self.choices, InvalidSpace)
        return None


class Choice(Listed):
    """One of a list of unordered values of any kind.

    Host code gets the value itself. Inside jit, a list of numbers or of bools gives the number (int32 or the default
    float) or the bool; any other list, mixed ones included, gives the int32 index, which `jhpo.switch` takes.

    Args:
      choices: distinct values, at least one.
      static: pass the Python value to the objective inside jit too (a depth, an architecture); members are grouped by
        it, with one compilation per group.
      shape, when, default, prior: as for `Float`.

    Raises:
      InvalidSpace: no values, equal ones, NaN, a parameter among them, or a static choice with a shape.

    >>> Choice(["sgd", "adam"]).cells
    2
    """

    kind: ClassVar[str] = "choice"
    categorical: ClassVar[bool] = True


class Ordinal(Listed):
    """One of a list of ordered values. Numbers are numbers inside jit, other values their int32 index.

    Arguments and errors are those of `Choice`.

    >>> Ordinal([16, 32, 64, 128]).delivers
    'int'
    """

    kind: ClassVar[str] = "ordinal"


def cell_values(parameter: Parameter) -> list[Any]:
    """Host values of the cells of a discrete parameter."""
    if isinstance(parameter, Int):
        return list(range(parameter.low, parameter.high + 1, parameter.step))
    assert isinstance(parameter, Listed), parameter
    return list(parameter.choices)
