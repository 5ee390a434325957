"""Fields of a parameter's declaration: checks, identity, and JSON form."""

from __future__ import annotations

import enum
import functools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jhpo.errors import InvalidSpace, invalid, no_float


class Uncached:
    """Base of objects whose pickles, and their hashes, are the same whether they were used before or not."""

    def __getstate__(self) -> dict[str, Any]:
        """All attributes without the values of cached properties."""
        kept = vars(self).items()
        return {k: v for k, v in kept if not isinstance(getattr(type(self), k, None), functools.cached_property)}


def plain(value: Any) -> Any:
    """The value with scalars of NumPy and JAX replaced by Python values, inside tuples, lists and dicts too."""
    if isinstance(value, np.generic) or (getattr(value, "ndim", None) == 0 and hasattr(value, "item")):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(plain(v) for v in value)
    if type(value) is dict:
        return {plain(k): plain(v) for k, v in value.items()}
    return value


def leaves_of(value: object) -> list[Any]:
    """The values inside tuples, lists and dicts."""
    if isinstance(value, Mapping):
        return [leaf for v in value.values() for leaf in leaves_of(v)]
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in leaves_of(v)]
    return [value]


def value_key(value: object) -> tuple[Any, ...]:
    """A hashable identity of a choice: type and content for plain values and arrays, identity for other objects."""
    value = plain(value)
    if isinstance(value, enum.Enum):
        return (type(value).__qualname__, value.name)
    if value is None or isinstance(value, (str, bytes, bool, numbers.Number)):
        return (type(value).__name__, value)
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, *(value_key(v) for v in value))
    if isinstance(value, Mapping):
        return (type(value).__name__, *((value_key(k), value_key(v)) for k, v in value.items()))
    if isinstance(value, np.ndarray):
        return ("ndarray", value.dtype.str, value.shape, value.tobytes())
    return (type(value).__name__, id(value))


def stable_name(value: object) -> str:
    """A name for a value that JSON cannot hold; the same in every process, without addresses.

    >>> stable_name(math.sqrt), stable_name(float)
    ('math.sqrt', 'builtins.float')
    """
    if isinstance(value, enum.Enum):
        return f"{type(value).__module__}.{type(value).__qualname__}.{value.name}"
    if isinstance(value, np.dtype):
        return f"dtype {value.name}"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype.name}{list(value.shape)}"
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}"


def finite(name: str, value: object) -> float:
    """A finite real number as a float; raises InvalidSpace otherwise."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise invalid(name, "a real number", value, InvalidSpace)
    if no_float(value) or math.isinf(value):
        raise invalid(name, "a finite number", value, InvalidSpace)
    return float(value)


def shape_of(shape: object) -> tuple[int, ...]:
    """A shape, or the length of a vector, as a tuple."""
    shape = (shape,) if isinstance(shape, numbers.Integral) else shape
    if not isinstance(shape, Sequence) or not all(isinstance(s, numbers.Integral) and int(s) >= 1 for s in shape):
        raise invalid("shape", "a tuple of positive integers", shape, InvalidSpace)
    return tuple(int(s) for s in shape)


def conditions_of(when: object) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Conditions as ((parent, allowed values), ...)."""
    if when is None:
        return ()
    if not isinstance(when, Mapping) or not when:
        raise invalid("when", "a mapping of a parameter name to a value or a list of values", when, InvalidSpace)
    several = (list, set, frozenset, range, np.ndarray)
    return tuple((str(k), tuple(map(plain, v)) if isinstance(v, several) else (plain(v),)) for k, v in when.items())


def prior_of(prior: object) -> tuple[float, float] | None:
    """Mean and standard deviation on the unit scale."""
    if prior is None:
        return None
    if not isinstance(prior, Sequence) or len(prior) != 2:
        raise invalid("prior", "a pair (mean, standard deviation) on the unit scale", prior, InvalidSpace)
    mean, std = finite("prior mean", prior[0]), finite("prior standard deviation", prior[1])
    if not 0.0 <= mean <= 1.0 or std <= 0.0:
        raise invalid("prior", "a mean in [0, 1] and a standard deviation > 0", prior, InvalidSpace)
    return mean, std


def to_plain(value: object) -> Any:
    """A value as JSON, with markers for what JSON cannot represent."""
    if value is None or type(value) in (str, bool):
        return value
    if isinstance(value, enum.Enum):
        return {"opaque": stable_name(value)}
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, tuple):
        return {"tuple": [to_plain(v) for v in value]}
    if isinstance(value, list):
        return [to_plain(v) for v in value]
    if type(value) is dict and all(isinstance(k, str) for k in value):
        return {"dict": {k: to_plain(v) for k, v in value.items()}}
    return {"opaque": stable_name(value)}


class Named:
    """Placeholder for a choice of which only the name is stored; two with the same name are two choices.

    In a condition ``index`` says which of its parent's choices it is.
    """

    def __init__(self, name: str, index: int | None = None) -> None:
        self.name = name
        self.index = index

    def __repr__(self) -> str:
        return self.name


def from_plain(value: Any, named: bool = False) -> Any:
    """The value from the result of `to_plain`; with ``named``, values that JSON cannot hold become `Named`."""
    if isinstance(value, dict):
        if "tuple" in value:
            return tuple(from_plain(v, named) for v in value["tuple"])
        if "dict" in value:
            return {k: from_plain(v, named) for k, v in value["dict"].items()}
        if named and "opaque" in value:
            return Named(str(value["opaque"]), value.get("index"))
        raise invalid("choices", "values that JSON can give back", value.get("opaque", value), InvalidSpace)
    return [from_plain(v, named) for v in value] if isinstance(value, list) else value
