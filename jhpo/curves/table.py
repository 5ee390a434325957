"""The learning curves of trials: values by step, as they were reported or measured while the trials ran."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Report(NamedTuple):
    """One point of a learning curve."""

    step: int  # of training, at least 0
    value: float  # of the objective, in the user's own sign
    more: Mapping[str, float] = {}  # other measurements, by name


class Curve:
    """The learning curve of one trial; values are to be minimised.

    Attributes:
      steps: ascending.
      values: at these steps.
      best: lowest value up to each of them.
    """

    __slots__ = ("best", "steps", "values")

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []
        self.best: list[float] = []

    def append(self, step: int, value: float) -> None:
        """Add a point behind the last one.

        Raises:
          ValueError: the step is not after the last one.
        """
        if self.steps and step <= self.steps[-1]:
            raise ValueError(f"step {step} after step {self.steps[-1]}")
        self.steps.append(step)
        self.values.append(value)
        self.best.append(min(value, self.best[-1]) if self.best else value)

    def reached(self, step: int) -> bool:
        """Whether there is a point at the step or after it."""
        return bool(self.steps) and self.steps[-1] >= step

    def best_until(self, step: int) -> float:
        """The lowest value up to a step; infinite before the first point.

        >>> curve = Curve()
        >>> for point in ((1, 0.9), (2, 0.5), (4, 0.6)):
        ...     curve.append(*point)
        >>> curve.best_until(3), curve.best_until(0), curve.at(3), curve.at(5)
        (0.5, inf, 0.6, None)
        """
        count = bisect.bisect_right(self.steps, step)
        return self.best[count - 1] if count else float("inf")

    def at(self, step: int) -> float | None:
        """The first value at a step or after it; None if there is none."""
        place = bisect.bisect_left(self.steps, step)
        return self.values[place] if place < len(self.steps) else None


class CurveTable:
    """The learning curves of the trials of a search.

    Attributes:
      sign: 1.0 where values are minimised, -1.0 where they are maximised; fixed before the first point.

    >>> table = CurveTable(-1.0)
    >>> table.add(3, Report(1, 0.5, {"loss": 0.7}))
    >>> table.add(3, Report(2, 0.6))
    >>> table.points(3), table.named(3), table.last(3), table.of(3).values
    ({1: 0.5, 2: 0.6}, {'loss': {1: 0.7}}, 0.6, [-0.5, -0.6])
    """

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign
        self._curves: dict[int, Curve] = {}
        self._named: dict[int, dict[str, dict[int, float]]] = {}

    def __len__(self) -> int:
        return len(self._curves)

    def __iter__(self) -> Iterator[int]:
        return iter(self._curves)

    def add(self, trial: int, report: Report) -> None:
        """Add a point to the curve of a trial.

        Raises:
          ValueError: its step is not after the last one.
        """
        self._curves.setdefault(trial, Curve()).append(report.step, self.sign * report.value)
        for name, value in report.more.items():
            self._named.setdefault(trial, {}).setdefault(name, {})[report.step] = value

    def copy(self) -> CurveTable:
        """The curves of the trials that there are now."""
        made = CurveTable(self.sign)
        made._curves = dict(self._curves)
        made._named = {trial: dict(named) for trial, named in list(self._named.items())}
        return made

    def drop(self, trial: int) -> None:
        """Forget the curve of a trial, which begins anew."""
        self._curves.pop(trial, None)
        self._named.pop(trial, None)

    def of(self, trial: int) -> Curve:
        """The curve of a trial, to be minimised; empty if there is none."""
        return self._curves.get(trial) or Curve()

    def others(self, trial: int) -> list[Curve]:
        """The curves of all other trials."""
        return [curve for number, curve in self._curves.items() if number != trial]

    def points(self, trial: int) -> dict[int, float]:
        """Values of a trial by step, in the user's own sign."""
        curve = self.of(trial)
        return {step: self.sign * value for step, value in zip(curve.steps, curve.values)}

    def named(self, trial: int) -> dict[str, dict[int, float]]:
        """Other measurements of a trial, by name and step."""
        return {name: dict(points) for name, points in self._named.get(trial, {}).items()}

    def last(self, trial: int) -> float:
        """The last value of a trial, in the user's own sign; NaN if there is none."""
        curve = self.of(trial)
        return self.sign * curve.values[-1] if curve.values else float("nan")

    def names(self) -> list[str]:
        """The names of other measurements, sorted."""
        return sorted({name for named in self._named.values() for name in named})
