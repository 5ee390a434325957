"""Generations of a trainable whose members are stopped early by a rule, the survivors compacted and trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jhpo.curves.early_stop import checks_of, stopped_by
from jhpo.curves.rules import EarlyStop
from jhpo.curves.table import Curve, CurveTable, Report
from jhpo.errors import invalid
from jhpo.evaluation.continuing import Continuing, Part
from jhpo.evaluation.described import Described
from jhpo.evaluation.population import Population
from jhpo.evaluation.retraining import warn_of_others
from jhpo.strategies.base import Evaluation, Request, Stages
from jhpo.training.crossvalidation import FoldByFold
from jhpo.training.trainable import Trainable


class StoppingPopulation:
    """Evaluates generations as `Population` does, and stops members at the checks of a rule.

    All members of a generation are trained to a check, and judged there by their curves, those of the generation and
    those of earlier trials; the survivors go on in programs of a smaller width. A member that is stopped, or fails,
    costs nothing from there on. Where a step is a fold, the value of a member that was stopped is made comparable.

    Args:
      population: trainable, space, chunks and devices.
      rule: that stops members.
      sign: 1.0 where values are minimised, -1.0 where they are maximised.
      past: the curves of earlier trials, where somebody keeps them; otherwise they are kept here.

    Attributes:
      steps: member-steps trained so far.
      places: the same with the places of programs that were empty.

    Raises:
      InvalidArgument: an objective whose training cannot be paused, a rule for folds where steps are none, or one whose
        checks do not lead to the end.
    """

    def __init__(
        self, population: Population, rule: EarlyStop, sign: float, past: Callable[[], CurveTable] | None = None
    ) -> None:
        self.population, self.rule = population, rule
        self._folds = isinstance(population.trainable, FoldByFold)
        if rule.by_fold and not self._folds:
            raise invalid("early_stop", "a rule for steps of training, or folds=5, fold_by_fold=True beside it", rule)
        self._members = Continuing(population)  # raises where there are no steps
        self._checks = checks_of(rule, self._members.length)
        own = CurveTable(sign)
        self._sign, self._past, self._own = sign, past or (lambda: own), None if past else own
        self._trained: dict[tuple[int, bytes], tuple[tuple[int, ...], tuple[int, ...]]] = {}  # steps and widths

    @property
    def described(self) -> Described:
        """As the population's."""
        return self.population.described

    @property
    def trainable(self) -> Trainable:
        """What is trained."""
        return self.population.trainable

    @property
    def steps(self) -> int:
        """Member-steps trained so far."""
        return self._members.steps

    @property
    def places(self) -> int:
        """The same with the places of programs that were empty."""
        return self._members.places

    def evaluate(self, units: np.ndarray, ids: np.ndarray, root: jax.Array, request: Request) -> Evaluation:
        """Results of unit rows ``float[n, d]``, with their curves.

        Raises:
          InvalidArgument: the strategy requests gradients or shorter trainings.
        """
        if request.grad or request.horizon != 1.0:
            wanted = "gradients" if request.grad else "shorter trainings"
            raise invalid("early_stop", f"None beside a strategy that asks for {wanted}", self.rule)
        members, units = self._members, np.asarray(units)
        n, checks = len(units), self._checks
        curves, alive, since = [Curve() for _ in range(n)], np.arange(n), -1
        step, width = np.full((n, len(checks)), -1, np.int64), np.zeros((n, len(checks)), np.int64)
        value, out, pruned = np.full((n, len(checks)), np.nan), None, np.zeros(n, np.bool_)
        rows = alive
        for k, stop in enumerate(checks):
            part = members.further(rows, units[alive], stop) if k else members.begin(units, ids, root, stop)
            found = np.asarray(part.value)
            step[alive, k], value[alive, k], width[alive, k] = stop, found, members.widths
            out = part if out is None else jax.tree.map(lambda x, y, at=alive: _with(x, at, y), out, part)
            good = np.isfinite(found)
            for i, v in zip(alive[good].tolist(), found[good].tolist()):
                curves[i].append(stop, self._sign * v)
            if stop < members.length:
                pruned[alive[good]] = self._stopped(curves, alive[good], since)
            rows = np.flatnonzero(good & ~pruned[alive])
            alive, since = alive[rows], stop
            if not len(alive):
                break
        assert out is not None
        if self._folds:
            out = out._replace(value=np.where(pruned, self._on_all_folds(curves), out.value).astype(out.value.dtype))
        self._keep(units, ids, step, value, width)
        return out._replace(stages=Stages(step, value, pruned, width, np.full(n, members.length)))

    def _stopped(self, curves: list[Curve], alive: np.ndarray, since: int) -> list[bool]:
        """Which of some members the rule stops, all judged by the same curves."""
        past, begun = self._past().others(-1), [i for i, curve in enumerate(curves) if curve.steps]
        everyone = past + [curves[i] for i in begun]
        place = dict(zip(begun, range(len(past), len(everyone))))
        return stopped_by(self.rule, everyone, [place[i] for i in alive.tolist()], since)

    def _on_all_folds(self, curves: list[Curve]) -> np.ndarray:
        """Means over all folds, ``float[n]``, of members that were run on some of them.

        Folds differ in difficulty: the mean over those that were run, and what the best trial gained from these to all.
        """
        length = self._members.length
        whole = [curve for curve in self._past().others(-1) + curves if curve.reached(length)]
        best = min(whole, key=lambda curve: curve.values[-1], default=None)
        last = [(curve.steps[-1], curve.values[-1]) if curve.steps else (length, np.nan) for curve in curves]
        gains = [0.0 if best is None else best.values[-1] - (best.at(step) or 0.0) for step, _ in last]
        return self._sign * (np.asarray([value for _, value in last]) + gains)

    def _keep(self, units: np.ndarray, ids: np.ndarray, step: np.ndarray, value: np.ndarray, width: np.ndarray) -> None:
        for row, number in enumerate(np.asarray(ids).tolist()):
            there = step[row] >= 0
            parts = tuple(step[row, there].tolist()), tuple(width[row, there].tolist())
            self._trained[_name(number, units[row])] = parts
            if self._own is not None:
                trial = len(self._own)
                for at, v in zip(step[row, there].tolist(), value[row, there].tolist()):
                    if np.isfinite(v):
                        self._own.add(trial, Report(at, v))

    def states(
        self,
        units: np.ndarray,
        ids: np.ndarray,
        root: jax.Array,
        values: ArrayLike | None = None,
        horizons: ArrayLike = 1.0,
    ) -> list[Any]:
        """Trained states of a few members where they ended, trained again in programs of the same widths."""
        units, ids = np.asarray(units), np.asarray(ids, np.uint32)
        parts = [self._trained[_name(number, unit)] for number, unit in zip(ids, units)]
        out: list[Any] = [None] * len(ids)
        found = np.full(len(ids), np.nan)
        for steps in sorted({steps for steps, _ in parts}):
            rows = np.asarray([row for row, part in enumerate(parts) if part[0] == steps])
            members = Continuing(self.population)
            widths = np.asarray([parts[row][1] for row in rows])
            trained = [Part(units[rows], stop, widths[:, k]) for k, stop in enumerate(steps)]
            found[rows] = members.again(trained, ids[rows], root).value
            for row, state in zip(rows.tolist(), members.states(np.arange(len(rows)))):
                out[row] = state
        if values is not None:
            warn_of_others(np.asarray(values, found.dtype), found)
        return out


def _name(number: int, unit: np.ndarray) -> tuple[int, bytes]:
    """A member by its id and its point, which a history with starting points keeps in float64."""
    return int(number), np.asarray(unit, np.float64).tobytes()


def _with(x: np.ndarray, at: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A copy with other rows at some places."""
    made = np.array(x)
    made[at] = y
    return made
