"""What the declaration of a parameter may contain: checks of its fields, their identity, and their form in JSON."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jhpo.errors import InvalidSpace, invalid


def value_key(value: Any) -> tuple[Any, ...]:
    """A hashable identity of a choice: type and content for plain values, identity for other objects."""
    if value is None or isinstance(value, (str, bytes, bool, numbers.Number)):
        return (type(value).__name__, value)
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, *(value_key(v) for v in value))
    if isinstance(value, Mapping):
        return (type(value).__name__, *((str(k), value_key(v)) for k, v in value.items()))
    return (type(value).__name__, id(value))


def finite(name: str, value: Any) -> float:
    """A finite real number as a float, or InvalidSpace."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise invalid(name, "a real number", value, InvalidSpace)
    if not math.isfinite(value):
        raise invalid(name, "a finite number", value, InvalidSpace)
    return float(value)


def shape_of(shape: Any) -> tuple[int, ...]:
    """A shape, or the length of a vector, as a tuple."""
    shape = (shape,) if isinstance(shape, numbers.Integral) else shape
    if not isinstance(shape, Sequence) or not all(isinstance(s, numbers.Integral) and int(s) >= 1 for s in shape):
        raise invalid("shape", "a tuple of positive integers", shape, InvalidSpace)
    return tuple(int(s) for s in shape)


def conditions_of(when: Any) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Conditions as ((parent, allowed values), ...)."""
    if when is None:
        return ()
    if not isinstance(when, Mapping) or not when:
        raise invalid("when", "a mapping of a parameter name to a value or a list of values", when, InvalidSpace)
    several = (list, set, frozenset, range)
    return tuple((str(k), tuple(v) if isinstance(v, several) else (v,)) for k, v in when.items())


def prior_of(prior: Any) -> tuple[float, float] | None:
    """Mean and standard deviation on the unit scale."""
    if prior is None:
        return None
    if not isinstance(prior, Sequence) or len(prior) != 2:
        raise invalid("prior", "a pair (mean, standard deviation) on the unit scale", prior, InvalidSpace)
    mean, std = finite("prior mean", prior[0]), finite("prior standard deviation", prior[1])
    if not 0.0 <= mean <= 1.0 or std <= 0.0:
        raise invalid("prior", "a mean in [0, 1] and a standard deviation > 0", prior, InvalidSpace)
    return mean, std


def to_plain(value: Any) -> Any:
    """A value as JSON, with a mark on what JSON cannot give back."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, tuple):
        return {"tuple": [to_plain(v) for v in value]}
    if isinstance(value, list):
        return [to_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return [to_plain(v) for v in value.tolist()]
    return {"opaque": repr(value)}


def from_plain(value: Any) -> Any:
    """The value that `to_plain` described."""
    if isinstance(value, dict):
        if "tuple" in value:
            return tuple(from_plain(v) for v in value["tuple"])
        raise invalid("choices", "values that JSON can give back", value.get("opaque", value), InvalidSpace)
    return [from_plain(v) for v in value] if isinstance(value, list) else value
