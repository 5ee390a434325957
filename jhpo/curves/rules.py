"""Rules that stop a trial early: by the median of others, without progress, behind in a rung, by a forecast."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.curves.early_stop import EarlyStop as EarlyStop
from jhpo.curves.racing import RacingStopping as RacingStopping
from jhpo.curves.table import Curve
from jhpo.errors import check_integer, check_number, invalid, made_with, read_call
from jhpo.kernels.forecast import Gain, forecast, shapes
from jhpo.process.switches import with_transfers
from jhpo.words.advice import advised

_forecast = jax.jit(forecast)


def check_early_stop(rule: EarlyStop | str | None) -> EarlyStop | None:
    """``early_stop`` as a rule, or None; text as for `rule_from_text`.

    Raises:
      InvalidArgument: it is something else.
    """
    if isinstance(rule, str):
        return rule_from_text(rule)
    if rule is None or isinstance(rule, EarlyStop):
        return rule
    raise invalid("early_stop", "a rule, such as jhpo.MedianStopping(), its name, or None", rule)


def rule_from_text(text: str) -> EarlyStop:
    """A rule from text: a name ("median", "patience", "halving", "forecast", "racing"), perhaps with options.

    Raises:
      InvalidArgument: no such rule, not of this form, an unknown option, or an invalid value.

    >>> rule_from_text("median(min_trials=3)")
    MedianStopping(min_steps=0, min_trials=3, quantile=0.5)
    """
    name, options = read_call("early_stop", text, "median(min_trials=3)")
    if name not in RULES:
        raise invalid("early_stop", f"one of {sorted(RULES)}", name)
    return made_with(RULES[name], name, options)


@advised
@dataclasses.dataclass(frozen=True)
class MedianStopping(EarlyStop):
    """Stops a trial whose best value so far is worse than the median of the others' at the same step.

    The rule of Google Vizier (Golovin et al. 2017), on best values as in Optuna's MedianPruner: it needs no budget and
    no model, and errs where curves cross late. Those that were stopped before the step have no say there.

    Args:
      min_steps: no trial is stopped before this step.
      min_trials: so many others have to have come as far.
      quantile: of the others' best values, instead of the median: 0.25 stops all but the best quarter, 0.75 only the
        worst.

    Raises:
      InvalidArgument: an option outside its range.

    >>> from jhpo.curves import Curve
    >>> def line(*values):
    ...     curve = Curve()
    ...     for step, value in enumerate(values, start=1):
    ...         curve.append(step, value)
    ...     return curve
    >>> others = [line(0.9, 0.5), line(0.8, 0.6), line(0.7)]
    >>> rule = MedianStopping(min_trials=2)
    >>> rule.stops(line(0.95), others, -1), rule.stops(line(0.95, 0.4), others, 1), rule.stops(line(2, 2, 2), others, 2)
    (True, False, False)
    """

    min_steps: int = 0
    min_trials: int = 5
    quantile: float = 0.5

    def __post_init__(self) -> None:
        check_integer("min_steps", self.min_steps, 0)
        check_integer("min_trials", self.min_trials)
        check_number("quantile", self.quantile, 0.0, 1.0, True, open_high=True)

    def stops(self, own: Curve, others: Sequence[Curve], since: int) -> bool:
        step = own.steps[-1]
        if step < self.min_steps:
            return False
        peers = [curve.best_until(step) for curve in others if curve.reached(step)]
        return len(peers) >= self.min_trials and own.best[-1] > float(np.quantile(peers, self.quantile))


@advised
@dataclasses.dataclass(frozen=True)
class PatienceStopping(EarlyStop):
    """Stops a trial whose best value has not improved for ``patience`` steps; other trials do not matter.

    Args:
      patience: steps without an improvement.
      tolerance: an improvement of at most this much does not count.
      min_steps: no trial is stopped before this step.

    Raises:
      InvalidArgument: an option outside its range.
    """

    patience: int = 10
    tolerance: float = 0.0
    min_steps: int = 0

    def __post_init__(self) -> None:
        check_integer("patience", self.patience)
        check_number("tolerance", self.tolerance, 0.0)
        check_integer("min_steps", self.min_steps, 0)

    def stops(self, own: Curve, others: Sequence[Curve], since: int) -> bool:
        step = own.steps[-1]
        before = own.best_until(step - self.patience)
        return step >= self.min_steps and np.isfinite(before) and own.best[-1] >= before - self.tolerance


@advised
@dataclasses.dataclass(frozen=True)
class HalvingStopping(EarlyStop):
    """Asynchronous successive halving: at each rung a trial goes on if it is among the best of those that were there.

    Rungs lie at ``min_steps``, ``eta`` times as many steps, and so on. A trial that reaches a rung as one of n so far
    goes on if its value there is among the best ``n / eta``, rounded down, or the best of all; nobody waits for others
    (Li et al. 2020, the variant that stops trials instead of pausing them, as a running function cannot wait for
    others). The first at a rung go on before there is anything to compare them with.

    Args:
      eta: reduction factor, an integer of at least 2.
      min_steps: the first rung.
      max_steps: where trainings end: no decision there; None if that is not known.

    Raises:
      InvalidArgument: an option outside its range.

    >>> HalvingStopping(eta=3, min_steps=2, max_steps=20).rungs(60)
    [2, 6, 18]
    """

    eta: int = 3
    min_steps: int = 1
    max_steps: int | None = None

    def __post_init__(self) -> None:
        check_integer("eta", self.eta, 2)
        check_integer("min_steps", self.min_steps)
        if self.max_steps is not None and check_integer("max_steps", self.max_steps) <= self.min_steps:
            raise invalid("max_steps", f"more than the {self.min_steps} steps of the first rung", self.max_steps)

    def rungs(self, step: int) -> list[int]:
        """The rungs up to a step, that of the end left out."""
        out, rung = [], self.min_steps
        while rung <= step and (self.max_steps is None or rung < self.max_steps):
            out.append(rung)
            rung *= self.eta
        return out

    def checks(self, steps: int) -> list[int]:
        return [*(rung for rung in self.rungs(steps - 1)), steps]

    def stops(self, own: Curve, others: Sequence[Curve], since: int) -> bool:
        for rung in self.rungs(own.steps[-1]):
            value = own.at(rung)
            if rung <= since or value is None:
                continue
            peers = [found for curve in others if (found := curve.at(rung)) is not None]
            if sum(found < value for found in peers) >= max((len(peers) + 1) // self.eta, 1):
                return True
        return False


_POINTS = 32  # of a curve, at most: one program serves curves of any length
_FEWEST = 3  # points, as many as a power law has unknowns


@advised
@dataclasses.dataclass(frozen=True)
class ForecastStopping(EarlyStop):
    """Stops a trial that will hardly end better than the best that has ended, as its learning curve is extrapolated.

    Curves are power laws whose exponent, noise and gain are averaged by their evidence (`jhpo.kernels.forecast`); what
    curves gain is learned from those that have ended. The rule is that of Domhan et al. (2015): a trial is stopped if
    the probability that it ends below the best is less than ``chance``; not before the third point of its curve.

    Args:
      chance: a trial with less than that is stopped.
      max_steps: where trainings end; None takes the longest curve of the others.
      min_steps: no trial is stopped before this step.
      min_trials: so many others have to have ended.

    Raises:
      InvalidArgument: an option outside its range.

    >>> from jhpo.curves import Curve
    >>> def line(floor, steps):
    ...     curve = Curve()
    ...     for step in range(1, steps + 1):
    ...         curve.append(step, floor + 1.0 / step)
    ...     return curve
    >>> rule, others = ForecastStopping(min_trials=4), [line(floor, 20) for floor in (0.1, 0.2, 0.3, 0.4)]
    >>> rule.stops(line(0.8, 5), others, -1), rule.stops(line(0.05, 5), others, -1)
    (True, False)
    """

    chance: float = 0.05
    max_steps: int | None = None
    min_steps: int = 0
    min_trials: int = 5

    def __post_init__(self) -> None:
        check_number("chance", self.chance, 0.0, 1.0, True, open_high=True)
        if self.max_steps is not None:
            check_integer("max_steps", self.max_steps)
        check_integer("min_steps", self.min_steps, 0)
        check_integer("min_trials", self.min_trials)

    def stops(self, own: Curve, others: Sequence[Curve], since: int) -> bool:
        end = self.max_steps or max((curve.steps[-1] for curve in others), default=0)
        ended = [curve for curve in others if curve.reached(end)]
        seen = sum(step > 0 for step in own.steps) >= _FEWEST
        if not seen or not self.min_steps <= own.steps[-1] < end or len(ended) < self.min_trials:
            return False
        return self._chance(own, ended, end) < self.chance

    @with_transfers
    def _chance(self, own: Curve, ended: Sequence[Curve], end: int) -> float:
        """Probability that a curve ends below the best of those that have ended."""
        some = own.steps.index(next(step for step in own.steps if step > 0))  # a power law has no value at 0
        steps, values = np.asarray(own.steps[some:]), np.asarray(own.values[some:])
        rows = np.unique(np.geomspace(1, len(steps), min(_POINTS, len(steps))).round().astype(int)) - 1
        steps, values = steps[rows], values[rows]
        first = np.asarray([curve.at(int(steps[0])) for curve in ended], float)
        last = np.asarray([curve.at(end) for curve in ended], float)
        # units of the spread of the ends, large values drawn in: a training that began badly may still end well
        middle = float(np.median(last))
        spread = max(1.48 * float(np.median(np.abs(last - middle))), float(np.ptp(last)) / 10, 1e-9 * (1 + abs(middle)))
        values, first, last = (2.0 * np.arcsinh((y - middle) / spread / 2.0) for y in (values, first, last))
        gains = first - last
        count, ahead = len(values), np.arange(1, _POINTS - len(values) + 1)
        times = np.concatenate([steps / end, np.minimum(steps[-1] / end + ahead / _POINTS, 1.0)])
        made = _forecast(
            np.pad(values, (0, _POINTS - count)).astype(np.float32),
            shapes(times).astype(np.float32),
            np.int32(count),
            Gain(*(jnp.float32(x) for x in (gains.mean(), gains.var() + 0.01))),
        )
        below = (last.min() - float(made.end)) / math.sqrt(float(made.end_variance))
        return 0.5 * math.erfc(-below / math.sqrt(2.0))


RULES: dict[str, Callable[..., EarlyStop]] = {
    "median": MedianStopping,
    "patience": PatienceStopping,
    "halving": HalvingStopping,
    "forecast": ForecastStopping,
    "racing": RacingStopping,
}
