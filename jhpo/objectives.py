"""Several objectives: their directions and names, the values of a trial, and the Pareto front of trials."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jhpo.errors import InvalidArgument, invalid

DIRECTIONS = ("minimize", "maximize")

Directions = Sequence[str] | Mapping[str, str]  # one per objective, or by name
Sign = float | np.ndarray  # 1.0 to minimise, -1.0 to maximise; float[m] for several objectives
RESERVED = ("value", "constraint", "cost")  # keys in the result of an objective that cannot be names


class Values(tuple[float, ...]):
    """The values of a trial, one per objective: a tuple whose entries can also be looked up by name.

    >>> values = Values((0.1, 300.0), ("error", "params"))
    >>> values["error"], values[1], values
    (0.1, 300.0, Values(error=0.1, params=300.0))
    """

    names: tuple[str, ...] | None

    def __new__(cls, values: Iterable[float], names: tuple[str, ...] | None = None) -> Values:
        self = super().__new__(cls, values)
        self.names = names
        return self

    def __getitem__(self, at: Any) -> Any:
        if not isinstance(at, str):
            return super().__getitem__(at)
        if self.names is None or at not in self.names:
            raise KeyError(f"no objective {at!r}; there are {list(self.names or range(len(self)))}")
        return super().__getitem__(self.names.index(at))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self), self.names

    def __repr__(self) -> str:
        labels = [str(k) for k in range(len(self))] if self.names is None else self.names
        return f"Values({', '.join(f'{n}={v!r}' if self.names else repr(v) for n, v in zip(labels, self))})"


NO_VALUES = Values(())


@dataclass(frozen=True)
class Objectives:
    """The directions and names of several objectives.

    Args:
      directions: "minimize" or "maximize", one per objective.
      names: of the objectives; None if they have none, or are not known yet.
    """

    directions: tuple[str, ...]
    names: tuple[str, ...] | None = None

    @property
    def count(self) -> int:
        """Number of objectives."""
        return len(self.directions)

    @property
    def signs(self) -> np.ndarray:
        """``float64[m]``: +1 to minimise, -1 to maximise."""
        return np.asarray([1.0 if d == "minimize" else -1.0 for d in self.directions])

    @property
    def labels(self) -> tuple[str, ...]:
        """The names, or ``value_0``, ``value_1``, ..."""
        return self.names or tuple(f"value_{k}" for k in range(self.count))

    def named(self, names: Sequence[str] | None) -> Objectives:
        """The objectives with names, once these are known.

        Raises:
          InvalidArgument: names that differ from the known ones, or another number of values.
        """
        if names is None or (self.names is not None and set(names) == set(self.names)):
            return self
        if self.names is not None or len(names) != self.count:
            wanted = f"the values {list(self.names)}" if self.names else f"{self.count} values, one for each direction"
            raise invalid("objective", wanted, list(names))
        return Objectives(self.directions, tuple(names))

    def minimised(self, values: np.ndarray) -> np.ndarray:
        """``float64[n, m]``: values to be minimised, from values in the user's signs."""
        return self.signs * values


def read_directions(directions: Directions | None, direction: str = "minimize") -> Objectives | None:
    """The objectives from the argument ``directions``; None for a single objective.

    Raises:
      InvalidArgument: not a list or dict of at least two directions, or a ``direction`` is given too.

    >>> read_directions({"error": "minimize", "score": "maximize"}).names
    ('error', 'score')
    >>> read_directions(None) is None
    True
    """
    if directions is None:
        return None
    if direction != "minimize":
        raise invalid("direction", "nothing beside directions", direction)
    by_name = isinstance(directions, Mapping)
    if isinstance(directions, str) or not isinstance(directions, (Sequence, Mapping)) or not len(directions):
        raise invalid("directions", 'a list such as ["minimize", "maximize"], or a dict by name', directions)
    each = tuple(directions.values()) if isinstance(directions, Mapping) else tuple(directions)
    for one in each:
        if one not in DIRECTIONS:
            raise invalid("directions", f"each one of {DIRECTIONS}", one)
    names = tuple(directions) if by_name else None
    for name in names or ():
        if not isinstance(name, str) or name in RESERVED:
            raise invalid("directions", f"names other than {list(RESERVED)}", name)
    if len(each) == 1:
        raise invalid("directions", "at least two objectives (one has direction= and metric=)", directions)
    return Objectives(each, names)


def check_single(what: str, objectives: Objectives | None, instead: str) -> None:
    """Raises if there are several objectives, for what is defined for a single one only.

    Raises:
      InvalidArgument: there are several; the message says what to use instead.
    """
    if objectives is not None:
        raise InvalidArgument(f"{what}: expected a single objective, got {objectives.count}; {instead}")


def check_count(made_for: int, objectives: Objectives) -> None:
    """Raises if a strategy was made for another number of objectives; 1 is any number.

    Raises:
      InvalidArgument: it was.
    """
    if made_for not in (1, objectives.count):
        note = "give directions=, one for each" if objectives.count == 1 else ""
        raise invalid("objectives", f"as many as there are directions ({objectives.count})", made_for, note=note)


def if_several(shape: tuple[int, ...]) -> str:
    """What an error says of values of this shape in a search for one: the few of several objectives are a vector.

    >>> if_several((2,)), if_several((128,))
    ('; several objectives need directions=, one for each', '')
    """
    few = len(shape) == 1 and 1 < shape[0] <= 8
    return "; several objectives need directions=, one for each" if few else ""


def if_named(names: Collection[str]) -> str:
    """What an error says of values by name in a search for one; "" unless there are several that objectives may have.

    >>> if_named(["b", "a"]), if_named(["a", "value"])
    ("several objectives need directions=, such as {'a': 'minimize', 'b': 'minimize'}", '')
    """
    own = sorted(set(names) - set(RESERVED))
    example = {name: "minimize" for name in own[:2]}
    return f"several objectives need directions=, such as {example}" if len(own) > 1 else ""


def front(values: np.ndarray) -> np.ndarray:
    """``int64[k]``: the Pareto front, rows that no other row dominates, sorted by the first value. On the host.

    Args:
      values: ``float64[n, m]``, to be minimised; rows with a value that is not finite are ignored.

    >>> front(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [np.nan, 0.0]])).tolist()
    [1, 0]
    """
    left = np.flatnonzero(np.isfinite(values).all(axis=1))
    left = left[np.lexsort(values[left].T[::-1])]  # what dominates comes first
    if values.shape[1] == 2 and len(left):
        points = values[left]
        new = np.append(True, (points[1:] != points[:-1]).any(axis=1))
        lowest = np.minimum.accumulate(points[new, 1])
        kept = np.append(True, points[new, 1][1:] < lowest[:-1])
        return left[kept[np.cumsum(new) - 1]]
    found = []
    while len(left):
        best, rest = values[left[0]], values[left]
        same = (rest == best).all(axis=1)
        found.extend(left[same].tolist())
        left = left[~same & (rest < best).any(axis=1)]
    return np.asarray(found, np.int64)


def knee(values: np.ndarray, weights: Sequence[float] | None = None) -> int:
    """The row of a front closest to its ideal point, with each objective in units of the front's extent.

    Args:
      values: ``float64[k, m]`` of a front, to be minimised, k at least 1.
      weights: of the objectives, equal if None.

    Raises:
      InvalidArgument: not one weight >= 0 per objective, or all are 0.

    >>> knee(np.array([[0.0, 1.0], [0.2, 0.2], [1.0, 0.0]])), knee(np.array([[0.0, 1.0], [1.0, 0.0]]), [1.0, 0.0])
    (1, 0)
    """
    try:
        share = np.ones(values.shape[1]) if weights is None else np.asarray(weights, np.float64)
    except (TypeError, ValueError, OverflowError):
        share = np.empty(0)
    if share.shape != values.shape[1:] or not (np.isfinite(share) & (share >= 0)).all() or not share.any():
        raise invalid("weights", f"{values.shape[1]} numbers >= 0, not all 0", weights)
    low, high = values.min(axis=0), values.max(axis=0)
    extent = np.where(high > low, high - low, 1.0)
    return int(np.argmin((share * ((values - low) / extent) ** 2).sum(axis=1)))


def reference_point(values: np.ndarray) -> np.ndarray:
    """``float64[m]``: the worst value of each objective on a front plus a tenth of its extent.

    For an objective without extent, plus a tenth of its absolute value, or 1 if that is 0.

    >>> reference_point(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
    [1.1, 1.1]
    """
    low, high = values.min(axis=0), values.max(axis=0)
    size = np.where(high != 0, np.abs(high), 10.0)
    return np.asarray(high + 0.1 * np.where(high > low, high - low, size))
