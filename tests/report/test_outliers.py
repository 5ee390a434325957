"""Axes of figures that end before the few values beside which all others would lie flat."""

from __future__ import annotations

import re
import xml.etree.ElementTree

import numpy as np
import pytest

import jhpo
from jhpo import figures
from jhpo.report.figures.axes import value_axis


def _flattened(bad: float = 1e6, ways: str = "minimize", count: int = 40) -> jhpo.Study:
    """A study of which one value is so bad that all others would lie flat beside it."""
    sign = 1.0 if ways == "minimize" else -1.0
    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)}), "random", direction=ways)
    points = [{"x": k / count, "y": 1.0 - k / count} for k in range(count)]
    study.absorb(points, [sign * (bad if k == 7 else (k - 20) / 10) for k in range(count)])
    return study


@pytest.mark.parametrize("ways", ["minimize", "maximize"])
@pytest.mark.parametrize("kind", ["history", "slice", "parallel", "edf"])
def test_one_bad_value_does_not_flatten_the_others(kind, ways):
    drawing = figures.draw(_flattened(ways=ways), kind)
    panel = drawing.panels[0]
    axis = panel.axes[-1] if kind == "parallel" else panel.x if kind == "edf" else panel.y
    side, far = ("above", 1e6) if ways == "minimize" else ("below", -1e6)
    assert axis.title == f"value (1 {side})" and (axis.beyond, axis.farthest) == (1, far)
    assert axis.ends == ((-2.0, 1.9) if ways == "minimize" else (-1.9, 2.0)), "of all the others"
    assert "1e6" in drawing.words and "beyond" in drawing.words
    assert abs(drawing.to_frame()["value"]).max() == 1e6, "the numbers are whole"
    for text in drawing.to_svg():
        root = xml.etree.ElementTree.fromstring(text)
        width, height = map(float, root.get("viewBox").split()[2:])
        paths = [p for p in root.iter() if p.tag.endswith("path")]
        places = [part for p in paths if p.get("class") in ("dots", "dots faint") for part in p.get("d").split("M")[1:]]
        inside = [tuple(map(float, part.removesuffix("h0").split())) for part in places]
        assert all(0 <= a <= width and 0 <= b <= height for a, b in inside)
        drawn = [float(n) for p in paths if p.get("d") for n in re.findall(r"-?[\d.]+", p.get("d"))]
        assert -10.0 < min(drawn) and max(drawn) < max(width, height) + 10.0, "nothing leaves the panel"
        spread = np.ptp([b for _, b in inside]) if inside else height
        assert spread > 0.6 * height, "the others have the whole axis"
        assert sum(p.get("class") == "beyond" for p in paths) == (kind in ("history", "slice"))
    figure = drawing.to_plotly()
    if kind == "parallel":
        assert max(abs(np.asarray(figure.data[0].dimensions[-1]["values"]))) == 2.0
    else:
        shown = figure.layout.xaxis.range if kind == "edf" else figure.layout.yaxis.range
        assert max(map(abs, shown)) < 2.5


def test_an_axis_ends_before_few_bad_values_only():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 0.9, 60)
    whole = [
        (values, 1.0),  # nothing is far away
        (np.append(values, 1e6), 0.0),  # no direction
        (np.append(values, -1e6), 1.0),  # the best is always shown
        (np.append(values[:5], 1e6), 1.0),  # too few to tell
        (np.append(values - 0.5, np.full(20, 1e6)), 1.0),  # a quarter is not an exception
        (np.append(rng.uniform(0.1, 0.2, 200), rng.uniform(0.2, 4.0, 20)), 1.0),  # where a search began
        (np.append(np.full(60, 0.5), 1e6), 1.0),  # no spread to show
        (np.exp(rng.normal(size=60)), 1.0),  # a tail
    ]
    for given, sign in whole:
        axis = value_axis("loss", given, sign=sign)
        assert axis.title == "loss" and axis.ends is None and axis.beyond == 0
    bad = value_axis("loss", np.append(values, [1e6, 2e6, np.nan, np.inf]), sign=1.0)
    assert bad.beyond == 2 and bad.farthest == 2e6 and bad.ends == (values.min(), values.max())
    spans = value_axis("loss", np.append(10.0 ** np.linspace(-6, 0, 60), 1e60), sign=1.0)
    assert spans.scale == "log" and spans.beyond == 1 and spans.ends == pytest.approx((1e-6, 1.0))
    low = value_axis("accuracy", np.append(values, 1e-9), sign=-1.0)
    assert low.scale == "linear", "one low value makes no logarithmic axis"


def test_fronts_end_before_bad_values():
    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random", directions={"a": "minimize", "b": "maximize"})
    rows = [(k / 10, k / 20) for k in range(30)] + [(1e6, 0.0), (3.5, -1e5)]
    study.absorb([{"x": 0.5}] * 32, [{"a": a, "b": b} for a, b in rows])
    drawing = figures.pareto(study)
    assert drawing.panels[0].x.title == "a (1 above)" and drawing.panels[0].y.title == "b (1 below)"
    assert "".join(drawing.to_svg()).count('class="beyond"') == 2


def test_curves_end_before_values_that_diverged():
    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random")
    for k, trial in enumerate(study.ask(12)):
        for step in (1, 2, 3):
            trial.report(step, 1e6 if (k, step) == (4, 2) else 1.0 / step - 0.1 * k)
        study.tell(trial, 1.0)
    drawing = figures.curves(study)
    axis = drawing.panels[0].y
    assert axis.beyond == 1 and axis.farthest == 1e6 and axis.ends == pytest.approx((1 / 3 - 1.1, 1.0))
    assert "One value lies beyond the axis: 1e6." in drawing.words


def test_histories_of_several_studies_share_the_axis_of_what_they_draw():
    bad = figures.history({"a": _flattened(), "b": _flattened(1e9)}).panels[0]
    assert bad.y.ends is None and bad.y.title == "value", "the lines of the best never reach that far"
    repeated = figures.history({"a": [_flattened(), _flattened()], "b": _flattened()}).panels[0]
    assert repeated.y.ends is None
