"""`ForecastStopping` on curves whose end is known."""

from __future__ import annotations

import numpy as np
import pytest

from jhpo import Float, ForecastStopping, InvalidArgument, RandomSearch, Space, minimize
from jhpo.curves import Curve
from jhpo.curves.rules import rule_from_text
from tests.study.paused import Descent

END = 60


def curve(rng: np.random.Generator, floor: float, steps: int, each: int = 1, first: int = 1) -> Curve:
    made = Curve()
    rate, gain = rng.uniform(0.4, 1.2), rng.uniform(0.8, 1.2)
    for step in range(first, steps + 1, each):
        made.append(step, floor + gain * max(step, 1) ** -rate + 0.01 * rng.normal())
    return made


def test_what_will_not_win_is_stopped_early_and_what_will_is_not() -> None:
    rng = np.random.default_rng(0)
    others = [curve(rng, floor, END) for floor in rng.uniform(0.2, 1.0, 12)]
    best = min(c.values[-1] for c in others)
    rule = ForecastStopping()
    kept = wrong = steps = 0
    for floor in rng.uniform(0.0, 1.2, 60):
        whole = curve(rng, floor, END)
        seen = Curve()
        for step, value in zip(whole.steps, whole.values):
            seen.append(step, value)
            if rule.stops(seen, others, step - 1):
                wrong += whole.values[-1] < best
                break
        else:
            kept += 1
            assert floor < 0.5, "a trial that is far behind goes on to the end"
        steps += len(seen.steps)
    assert wrong <= 1 and 5 < kept < 15 and steps < 0.35 * 60 * END


@pytest.mark.parametrize(("each", "first"), [(1, 0), (7, 5), (1, 1)])
def test_curves_of_any_steps_and_units(each: int, first: int) -> None:
    for scale, offset in ((1.0, 0.0), (1e6, -3e6), (1e-6, 1.0)):
        rng, made = np.random.default_rng(1), []
        for floor, steps in (
            (1.5, END // 2),
            (0.1, END // 2),
            (0.3, END),
            (0.35, END),
            (0.4, END),
            (0.5, END),
            (0.6, END),
        ):
            plain, scaled = curve(rng, floor, steps, each, first), Curve()
            for step, value in zip(plain.steps, plain.values):
                scaled.append(step, offset + scale * value)
            made.append(scaled)
        rule = ForecastStopping(max_steps=made[-1].steps[-1])
        assert [rule.stops(own, made[2:], -1) for own in made[:2]] == [True, False], (scale, offset)


def test_nothing_is_stopped_without_enough_to_go_by() -> None:
    rng = np.random.default_rng(2)
    others = [curve(rng, 0.2, END) for _ in range(5)]
    bad = curve(rng, 3.0, 20)
    assert ForecastStopping().stops(bad, others, -1)
    assert not ForecastStopping().stops(bad, others[:4], -1)
    assert not ForecastStopping(min_steps=21).stops(bad, others, -1)
    assert not ForecastStopping(max_steps=END + 1).stops(bad, others, -1)
    assert not ForecastStopping().stops(curve(rng, 3.0, END), others, -1)  # it has ended
    alike = [curve(rng, 0.2, END) for _ in range(1)] * 5
    assert ForecastStopping().stops(bad, alike, -1)  # ends without a spread


def test_by_name_and_under_a_strategy() -> None:
    assert rule_from_text("forecast(chance=0.1)") == ForecastStopping(0.1)
    with pytest.raises(InvalidArgument, match="chance: expected a number in"):
        ForecastStopping(chance=1.0)
    space = Space({"lr": Float(1e-3, 1.0, log=True), "bad": Float(0.0, 1.0)})
    result = minimize(Descent(2.0), space, RandomSearch(8), budget=24, early_stop="forecast", seed=0)
    assert result.history.pruned.any() and result.steps < 24 * 8
