"""Figures: what they show, of one study and of several, in plotly, as SVG and as frames."""

from __future__ import annotations

import resource
import xml.etree.ElementTree
from types import SimpleNamespace

import numpy as np
import pytest

import jhpo
from jhpo import figures
from jhpo.errors import InvalidArgument, JhpoError
from jhpo.report.figures.axes import axis_of, ticks
from jhpo.report.figures.marks import Heat, Points, Threads
from jhpo.report.spent import where_time_went
from tests.report.studies import absorbed, big, mixed

KINDS = ("history", "parallel", "slice", "contour", "rank", "edf", "importance", "timeline", "failures")


@pytest.fixture(scope="module")
def study() -> jhpo.Study:
    return mixed()


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_of_one_study_and_of_two(study, kind):
    for studies in (study, {"first": study, "second": mixed(1)}):
        drawing = figures.draw(studies, kind)
        assert len(drawing.to_frame()) > 0 and drawing.words and len(drawing.to_plotly().data) > 0
        parts = [xml.etree.ElementTree.fromstring(text) for text in drawing.to_svg()]
        assert len(parts) == len(drawing.panels)
        assert all(p.get("role") == "img" and p[0].tag == "title" and p[0].text for p in parts), "for screen readers"
        numbers = " ".join(path.get("d", "") for p in parts for path in p.iter() if path.tag.endswith("path"))
        assert "nan" not in numbers and "inf" not in numbers


def test_slices_are_on_the_scales_of_the_space(study):
    drawing = figures.slices(study)
    axes = {p.x.title: p.x for p in drawing.panels}
    assert list(axes) == ["b2", "dropout", "lr", "mix[0]", "mix[1]", "momentum", "opt", "width"]
    assert axes["lr"].scale == axes["width"].scale == "log" and axes["b2"].scale == "linear"
    assert axes["opt"].labels == ("sgd", "adam") and axes["opt"].listed
    assert axes["dropout"].labels == ("0.01", "0.1", "0.5", "0.9") and axes["dropout"].ends == pytest.approx(
        (-4.595, 2.197), abs=1e-3
    )
    assert axes["momentum"].labels == ("0.5", "0.9", "0.99", "0.999")
    figure = drawing.to_plotly()
    kinds = {a.title.text: a for a in figure.select_xaxes()}
    assert kinds["lr"].type == "log" and list(kinds["opt"].ticktext) == ["sgd", "adam"]
    frame, table = drawing.to_frame(), study.to_frame()
    adam = table[(table["param_opt"] == "adam") & (table["state"] == "COMPLETE")]
    b2 = frame[frame["parameter"] == "b2"]
    assert b2["trial"].tolist() == adam["id"].tolist(), "inactive values are gaps"
    np.testing.assert_allclose(b2["place"], adam["param_b2"])
    lines = figures.parallel(study).panels[0]
    at = [a.title for a in lines.axes].index("b2")
    assert np.isnan(lines.rows[:, at]).sum() == (table["param_opt"] == "sgd")[table["state"] == "COMPLETE"].sum()


def test_ticks_are_round_and_inside():
    for parameter in (
        jhpo.Float(3e-4, 7e-3, log=True),
        jhpo.Float(0.2, 0.3, scale="logit"),
        jhpo.Int(1, 5),
        jhpo.Float(-3.0, 1e6),
    ):
        axis = axis_of(parameter, "p")
        assert axis.ends is not None
        low, high = axis.ends
        places, texts = ticks(axis, low, high)
        assert 2 <= len(places) <= 8 and len(set(texts)) == len(texts)
        assert all(low - 1e-9 <= p <= high + 1e-9 for p in places)


def test_history_has_bands_over_repetitions():
    runs = [absorbed(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), lambda hp: hp["x"], n, n) for n in (10, 12, 14)]
    drawing = figures.history({"three": runs, "one": runs[0]}, quantiles=(0.0, 0.5, 1.0))
    band, middle, single = drawing.panels[0].marks
    lines = [np.minimum.accumulate(run.trials.table.value.array) for run in runs]
    held = np.stack([np.append(x, np.full(14 - len(x), x[-1])) for x in lines])
    np.testing.assert_array_equal(band.low, held.min(axis=0))
    np.testing.assert_array_equal(middle.y, np.median(held, axis=0))
    np.testing.assert_array_equal(single.y, lines[0])
    assert set(drawing.data["run"].tolist()) == {0, 1, 2}
    with pytest.raises(InvalidArgument, match="quantiles: expected three ascending"):
        figures.history(runs, quantiles=(0.9, 0.5, 0.1))


def test_the_best_so_far_is_one_that_may_be_the_best():
    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}), "random")
    for trial in study.ask(12):
        study.tell(trial, {"value": trial.params["x"], "constraint": [trial.params["x"]]})
    best = figures.history(study).data["best"]
    assert best[-1] == study.best.value > 0.0 and f"{study.best.value:.6g}" in figures.history(study).words
    assert best[-1] == np.nanmin(best) and study.trials.table.value.array.min() < 0.0


def test_names_with_brackets_and_arrays_keep_their_order():
    space = jhpo.Space({"v": jhpo.Float(0.0, 1.0, shape=(2,)), "w[0]": jhpo.Float(0.0, 1.0), "w[1]": jhpo.Int(1, 3)})
    study = absorbed(space, lambda hp: hp["w[0]"], 12)
    frame = figures.slices(study, params=["w[1]", "v", "w[0]"]).to_frame()
    assert frame["parameter"].unique().tolist() == ["w[1]", "v[0]", "v[1]", "w[0]"]
    assert len(figures.contour(study).panels) == 3


def test_contours_are_empty_where_no_trial_is_near(study):
    drawing = figures.contour(study, params=["lr", "width"])
    heat, dots = drawing.panels[0].marks
    assert isinstance(heat, Heat) and isinstance(dots, Points) and heat.x[0] == pytest.approx(1e-5)
    assert np.isnan(heat.shade[:, -1]).all(), "all trials with the largest learning rates failed"
    best = heat.x[np.nanargmax(np.nan_to_num(heat.shade).sum(axis=0))]
    assert 1e-4 < best < 1e-2, "darkest at the best learning rate"
    assert {p.x.title for p in figures.contour(study).panels} | {p.y.title for p in figures.contour(study).panels} >= {
        "lr"
    }


def test_fronts_and_hypervolumes_share_a_reference():
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})
    ways = {"near": "minimize", "far": "maximize"}
    studies = [
        absorbed(space, lambda hp, shift=shift: {"near": hp["x"] + shift, "far": hp["y"]}, 30, seed, directions=ways)
        for seed, shift in ((0, 0.0), (1, 0.2))
    ]
    frame = figures.pareto(studies).to_frame()
    front = frame[frame["front"] & (frame["study"] == "study 1")]["trial"].tolist()
    assert sorted(front) == sorted(t.id for t in studies[0].pareto())
    drawing = figures.hypervolume({"a": studies[0], "b": studies[1]})
    at = [max(v) for v in zip(*(t.values for s in studies for t in s.pareto()))]
    ends = drawing.to_frame().groupby("study")["hypervolume"].last()
    assert ends["a"] > ends["b"] > 0 and len(at) == 2
    with pytest.raises(InvalidArgument, match=r"kind: expected one of .* for several objectives"):
        studies[0].plot("slice")
    with pytest.raises(InvalidArgument, match="same directions"):
        figures.timeline([studies[0], mixed()])


class Descent:
    steps = 8

    def init(self, hp, key):
        return hp["lr"] * 0.0 + 1.0

    def step(self, hp, w, t):
        return w - hp["lr"] * w

    def evaluate(self, hp, w):
        return w * w


def test_curves_schedules_and_the_time_of_a_population():
    study = jhpo.Study(jhpo.Space({"lr": jhpo.Float(1e-3, 1.5, log=True)}), jhpo.PopulationBasedTraining(8, exchange=4))
    study.optimize(Descent(), budget=8)
    lines = figures.curves(study).panels[0].marks[0]
    assert isinstance(lines, Threads) and lines.x.tolist() == [4, 8] and lines.shade.max() == 1.0
    best = int(np.argmax(lines.shade))
    assert lines.y[best, -1] == pytest.approx(study.best.value)
    frame = figures.schedules(study).to_frame()
    mine = frame[frame["trial"] == study.best.id]["place"].tolist()
    np.testing.assert_allclose(mine, study.schedule().of("lr"), rtol=1e-6)
    heat = figures.population(study).panels[0].marks[0]
    assert heat.shade.shape == (8, 2) and np.nanmax(heat.shade[-1]) == np.nanmax(heat.shade)
    spent = where_time_went(study.trials)
    (call,) = study.trials.calls
    assert sum(spent.values()) == pytest.approx(call.seconds) and spent["compiling"] == pytest.approx(
        call.compile_seconds
    )
    for kind in ("curves", "schedules", "population", "times"):
        drawing = figures.draw(study, kind)
        assert drawing.to_svg() and len(drawing.to_plotly().data)


def test_rungs_are_the_steps_where_several_trials_were_stopped():
    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random")
    for trial, last in zip(study.ask(7), (1, 1, 2, 2, 4, 4, 4)):
        for step in (1, 2, 4):
            if step <= last:
                trial.report(step, 1.0 / step + trial.params["x"])
        if last < 4:
            study.tell(trial, pruned=True)
        else:
            study.tell(trial, 1.0 / last + trial.params["x"])
    threads, *rungs = figures.curves(study).panels[0].marks
    assert [(line.x[0], line.x[1], line.name) for line in rungs] == [(1, 1, "rung"), (2, 2, "rung")]
    assert np.isfinite(threads.y).sum() == 15


def test_norms_say_how_a_derivative_grew():
    def found(method, values, exponent):
        about = SimpleNamespace(method=method, norms=values, exponent=exponent, steps=8)
        return SimpleNamespace(diagnostics=about)

    grown = found("reverse", np.geomspace(100.0, 1.0, 8), np.log(100.0))
    drawing = figures.norms({"chaos": grown, "window": found("truncated", np.ones(4), 0.0)})
    assert drawing.to_frame()["step"].tolist() == [*range(1, 9), 5, 6, 7, 8] and len(drawing.panels) == 2
    limit = drawing.panels[0].marks[1]
    assert limit.name == "as much as is trusted" and limit.y[0] > 1.0 and "exponent 4.61" in drawing.words
    assert len(figures.norms(found("forward", np.arange(1.0, 9.0), None)).panels[0].marks) == 1
    with pytest.raises(JhpoError, match="'implicit' has none"):
        figures.norms(found("implicit", None, None))
    with pytest.raises(InvalidArgument, match=r"what jhpo\.hypergrad returns"):
        figures.norms(3)


def test_wrong_calls_name_what_was_expected(study):
    one = absorbed(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), lambda hp: hp["x"], 10)
    for call, words in (
        (lambda: figures.history(3), "studies: expected a jhpo.Study"),
        (lambda: figures.history({}), "studies: expected at least one"),
        (lambda: figures.slices(study, params=["nothing"]), "params: expected names among"),
        (lambda: figures.slices([study, one]), "slice: expected studies of one space"),
        (lambda: figures.contour(study, params=["lr"]), "params: expected at least two"),
        (lambda: figures.importances(study, method="shap"), "method: expected one of"),
        (lambda: figures.pareto(study), "pareto: expected studies of several objectives"),
        (lambda: study.plot("pie"), "kind: expected one of"),
        (lambda: study.plot("param_importances"), "got 'param_importances'; did you mean 'importance'"),
        (lambda: figures.slices(study, most=0), "most: expected an integer >= 1"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            call()
    for call, words in (
        (lambda: figures.contour(one), "one coordinate"),
        (lambda: figures.curves(study), "objectives report them"),
        (lambda: figures.schedules(study), "keep their hyperparameters"),
        (lambda: figures.gradients(study), "no gradients"),
        (lambda: figures.times(study), "no call of optimize"),
        (lambda: figures.failures(one), "no trial failed"),
    ):
        with pytest.raises(JhpoError, match=words):
            call()


def test_ten_thousand_trials_are_small_on_a_page():
    trials = big(10_000)
    kinds = ("history", "slice", "parallel", "timeline", "contour", "edf", "importance")
    elements = {kind: figures.draw(trials, kind).to_svg() for kind in kinds}
    assert sum(len(e) for found in elements.values() for e in found) < 700_000
    dots = elements["slice"][0].count("h0")
    assert 1000 < dots <= 1500, "the best half of them, and every so many of the others"


@pytest.mark.slow
def test_the_model_is_sure_where_trials_are():
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "kind": jhpo.Choice(["a", "b"])})
    study = absorbed(space, lambda hp: (hp["x"] - 0.3) ** 2 + (hp["kind"] == "b") if hp["x"] < 0.7 else np.nan, 40)
    drawing = figures.model(study, params=["x", "kind"])
    assert [p.x.title for p in drawing.panels] == ["x", "kind", "x", "kind"] and drawing.to_svg()
    frame = drawing.to_frame()
    x, kind = (frame[frame["parameter"] == name] for name in ("x", "kind"))
    assert abs(x["place"][x["mean"].idxmin()] - 0.3) < 0.05
    near, far = (x[(x["place"] > low) & (x["place"] < high)]["deviation"].max() for low, high in ((0.1, 0.5), (0.9, 1)))
    assert far > 3 * near and np.isfinite(frame["log_improvement"]).all()
    assert kind[kind["at"] == "a"]["mean"].max() < kind[kind["at"] == "b"]["mean"].min()
    assert len(drawing.to_plotly().data) == len([m for p in drawing.panels for m in p.marks]) + 1  # a band is two lines


def test_a_model_shows_every_value_of_a_logarithmic_integer():
    space = jhpo.Space({"width": jhpo.Int(1, 6, log=True)})
    frame = figures.model(absorbed(space, lambda hp: hp["width"], 20)).to_frame()
    assert frame["at"].unique().tolist() == list("123456")


def test_a_model_needs_some_trials():
    with pytest.raises(JhpoError, match="model: at least 8 successful trials"):
        figures.model(absorbed(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), lambda hp: hp["x"], 5))


@pytest.mark.slow
def test_the_memory_of_a_model_does_not_grow_with_the_square_of_the_coordinates():
    """It was 30 GB."""
    many = jhpo.Study(jhpo.Space({f"p{k}": jhpo.Float(0.0, 1.0) for k in range(300)}), "random")
    many.optimize(lambda hp: sum(hp.values()), budget=256)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(many.figure("model").panels) == 6
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**21  # KiB


def test_a_figure_shows_itself_in_a_notebook(study):
    text = figures.history(study)._repr_html_()
    assert text.count("<svg") == 1 and "--s0:" in text and "Optimization history" in text
