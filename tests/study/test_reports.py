"""Host objectives that report while they run: stored as they come, stopped early, resumed, shown."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

import jhpo
from jhpo import InvalidArgument, JhpoError, MedianStopping, Study, TrialConflict, TrialPruned
from jhpo.trial import TrialState

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
STEPS = 8
RULE = MedianStopping(min_trials=3)


def curve(x: float) -> list[float]:
    """Values of a training: the larger x, the worse throughout."""
    return [x + 1 / step for step in range(1, STEPS + 1)]


def trains(params, trial):
    for step, value in enumerate(curve(params["x"]), start=1):
        trial.report(step, value, double=2 * value)
        if trial.should_stop():
            break
    return value


def raises(params, seed, trial):
    for step, value in enumerate(curve(params["x"]), start=1):
        trial.report(step, value, double=2 * value)
        if trial.should_stop():
            raise TrialPruned
    return value


def expected() -> dict[int, int]:
    """The steps after which trials with the points of the study stop, by an independent count."""
    study = Study(SPACE, "random", seed=1)
    xs = [study.ask()[0].params["x"] for _ in range(16)]
    ends: dict[int, int] = {}
    for i, x in enumerate(xs):
        for step in range(1, STEPS + 1):
            peers = sorted(curve(xs[j])[step - 1] for j in ends if ends[j] >= step)
            if len(peers) >= 3 and curve(x)[step - 1] > np.median(peers):
                break
        ends[i] = step
    return ends


@pytest.fixture(scope="module")
def whole():
    study = Study(SPACE, "random", seed=1)
    study.optimize(jhpo.host(trains), budget=16, early_stop=RULE)
    return study


def same(a: Study, b: Study) -> None:
    for one, other in zip([a[i] for i in range(len(a))], [b[i] for i in range(len(b))], strict=True):
        assert (one.params, one.status, one.curve) == (other.params, other.status, other.curve)
        assert one.curves == other.curves
        np.testing.assert_array_equal(one.value, other.value)


def test_trials_stop_where_the_median_says(whole) -> None:
    ends = expected()
    for i, end in ends.items():
        trial = whole[i]
        asked = np.asarray(list(trial.curve.items()))
        np.testing.assert_allclose(asked, np.stack([np.arange(1, end + 1), curve(trial.params["x"])[:end]], 1))
        assert trial.value == trial.curve[end] and trial.curves["double"][end] == 2 * trial.value
    stopped = [t.id for t in whole.pruned]
    assert 3 < len(stopped) < 12 and {t for t, end in ends.items() if end < STEPS} <= set(stopped)
    assert whole.best.value == min(t.value for t in map(whole.__getitem__, range(16)) if t.id not in stopped)
    assert whole.evaluations == 16 and not whole.failures and whole.best.status is TrialState.COMPLETE


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_threads_and_processes_agree(whole, kind: str) -> None:
    study = Study(SPACE, "random", seed=1)
    study.optimize(jhpo.host(raises, kind=kind), budget=16, early_stop=RULE)
    same(study, whole)


def test_in_memory_and_by_hand(whole) -> None:
    result = jhpo.minimize(jhpo.host(trains), SPACE, jhpo.RandomSearch(1), budget=16, early_stop=RULE, seed=3)
    study = Study(SPACE, jhpo.RandomSearch(1), seed=3)
    for _ in range(16):
        (trial,) = study.ask(early_stop=RULE)
        study.tell(trial, trains(trial.params, trial))
    np.testing.assert_array_equal(result.history.value, study.history.table.value.array)
    np.testing.assert_array_equal(np.flatnonzero(result.history.pruned), [t.id for t in study.pruned])
    assert result.value == study.best.value and result.curves.of(2) == study[2].curve
    assert all(top.id in {t.id for t in study.top(16)} for top in result.top(16))


def test_a_killed_study_goes_on_and_begins_the_trial_that_was_cut_short_anew(whole, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    script = textwrap.dedent(f"""
        import os, jhpo
        from tests.study.test_reports import SPACE, RULE, trains
        def dies(params, trial):
            if trial.id == 5:
                trial.report(1, 9.0)
                trial.report(2, 9.0)
                os._exit(9)
            return trains(params, trial)
        jhpo.Study(SPACE, "random", {str(path)!r}, seed=1).optimize(jhpo.host(dies), budget=16, early_stop=RULE)
        """)
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], env=os.environ, timeout=240)
    assert done.returncode == 9
    with Study.load(path) as study:
        assert study[5].curve == {1: 9.0, 2: 9.0} and study.evaluations == 5
        study.optimize(jhpo.host(trains), budget=16, early_stop=RULE)
        same(study, whole)
    with Study.load(path, read_only=True) as study:
        same(study, whole)


def test_frames_and_figures(whole) -> None:
    frame = whole.to_frame(curves=True)
    assert list(frame.columns) == ["id", "step", "value", "state", "double"]
    np.testing.assert_allclose(frame["double"], 2 * frame["value"])
    assert len(frame) == sum(len(whole[i].curve) for i in range(16)) and set(frame["state"]) == {"COMPLETE", "PRUNED"}
    assert whole.to_frame()["last_step"].tolist() == [max(whole[i].curve) for i in range(16)]
    some = Study(SPACE, "random")
    first, _ = some.ask(2)
    first.report(3, 0.5)
    last = some.to_frame()["last_step"]
    assert last.dtype == "Int64" and last[0] == 3 and last.isna().tolist() == [False, True]
    assert len(whole.figure("curves").panels[0].marks[0].y) == 16


def test_a_score_is_maximised_and_workers_share_a_study(tmp_path: Path) -> None:
    def score(params, trial):
        return -trains(params, Turned(trial))

    study = Study(SPACE, "random", tmp_path / "study.db", direction="maximize", seed=1)
    other = Study.load(tmp_path / "study.db")
    calls = [(study, 16), (other, 16)]
    threads = [
        threading.Thread(target=s.optimize, args=(jhpo.host(score, workers=2), n), kwargs={"early_stop": RULE})
        for s, n in calls
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study.refresh()
    assert study.evaluations == 16 and study.pruned and not study.failures
    whole = [study[i] for i in range(16) if study[i].status is TrialState.COMPLETE]
    assert study.best.value == max(t.value for t in whole)
    assert all(-t.curve[1] == pytest.approx(t.params["x"] + 1) for t in whole)
    for one in (study, other):
        one.close()


class Turned:
    """A trial that reports scores."""

    def __init__(self, trial) -> None:
        self.should_stop = trial.should_stop
        self.report = lambda step, value, double: trial.report(step, -value)


def test_pruned_without_a_report_and_late_reports() -> None:
    def gives_up(params, trial):
        raise TrialPruned

    study = Study(SPACE, "random")
    study.optimize(jhpo.host(gives_up), budget=1)
    assert study[0].status is TrialState.PRUNED and np.isnan(study[0].value) and "before its first" in study[0].reason
    (trial,) = study.ask()
    assert not trial.should_stop()
    trial.report(0, 0.5)
    study.tell(trial, pruned=True)
    assert study[1].value == 0.5 and study.pruned[1].id == 1
    study.tell(trial, pruned=True)
    with pytest.raises(TrialConflict, match="trial 1 was finished"):
        trial.report(1, 0.5)
    with pytest.raises(TrialConflict, match="finished before"):
        study.tell(1, 3.0)


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (lambda t: t.report(0.5, 3), r"step: expected an integer >= 0, got 0.5; report\(step, value\)"),
        (lambda t: t.report(-1, 3), "step: expected an integer >= 0, got -1"),
        (lambda t: t.report(2, 0.0), "step: expected one after 2, .* got 2; report every step once"),
        (lambda t: t.report(3, float("nan")), "value: expected a finite number, got nan; a training that diverged"),
        (lambda t: t.report(3, 0.5, loss="low"), "loss: expected a finite number, got 'low'"),
    ],
)
def test_bad_reports_say_what_to_change(report, message: str) -> None:
    study = Study(SPACE, "random")
    (trial,) = study.ask()
    trial.report(2, 0.5)
    with pytest.raises(InvalidArgument, match=message):
        report(trial)
    del study
    with pytest.raises(JhpoError, match="the study that handed this trial out is gone"):
        trial.report(3, 0.5)


def test_a_failed_report_is_the_callers_line() -> None:
    def backwards(params, trial):
        trial.report(2, 0.5)
        trial.report(1, 0.5)

    study = Study(SPACE, "random")
    study.optimize(jhpo.host(backwards), 1)
    line = backwards.__code__.co_firstlineno + 2
    assert study[0].reason.endswith(f"(line {line} of {__file__})")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.optimize(jhpo.host(lambda p: p["x"]), 4, early_stop=RULE), r"that reports, jhpo.host\(fn\) with"),
        (lambda s: s.optimize(jhpo.host(trains), 4, early_stop=3), "early_stop: expected a rule"),
        (lambda s: s.optimize(jhpo.host(trains), 4, early_stop="mean"), "early_stop: expected one of"),
        (lambda s: jhpo.host(lambda trial, params: 0.0), "fn: expected a function fn"),
        (lambda s: MedianStopping(quantile=1.0), "quantile: expected a number in"),
        (lambda s: jhpo.HalvingStopping(min_steps=4, max_steps=4), "max_steps: expected more than the 4 steps"),
    ],
)
def test_bad_input_says_what_to_change(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call(Study(SPACE, "random"))


def test_a_report_outside_of_an_evaluation(whole) -> None:
    with pytest.raises(
        JhpoError,
        match=r"trial.report: it is a record .* fn\(params, trial\).*; a copy in another process .*kind=\"process\"",
    ):
        whole.best.report(9, 0.5)


def test_rules_from_text_and_halving() -> None:
    from jhpo.curves import Curve
    from jhpo.curves.rules import rule_from_text

    assert rule_from_text("halving(eta=2)") == jhpo.HalvingStopping(2)
    with pytest.raises(InvalidArgument, match="early_stop: expected one of"):
        rule_from_text("mean")
    with pytest.raises(InvalidArgument, match="size: expected one of the options of 'median'"):
        rule_from_text("median(size=2)")

    def made(values: list[float]) -> Curve:
        out = Curve()
        for step, value in enumerate(values, start=1):
            out.append(step, value)
        return out

    others = [made([v] * 9) for v in (0.1, 0.2, 0.3, 0.4, 0.5)]
    rule = jhpo.HalvingStopping(eta=3, min_steps=3)
    assert not rule.stops(made([0.15] * 3), others, -1)  # 2 of 6 go on
    assert rule.stops(made([0.25] * 3), others, -1) and not rule.stops(made([0.25] * 4), others, 3)
    assert not rule.stops(made([0.9] * 2), others, -1)
    slow = jhpo.PatienceStopping(3, tolerance=0.1)
    assert not slow.stops(made([1.0, 0.8, 0.7, 0.65]), [], -1) and slow.stops(made([1.0, 0.8, 0.8, 0.8, 0.79]), [], -1)


def test_asha_stops_at_its_rungs_with_a_proposer_and_is_resumed(tmp_path: Path) -> None:
    asha = jhpo.ASHA(eta=2, min_steps=2, max_steps=STEPS, proposer=jhpo.SobolSearch(4))
    whole = Study(SPACE, asha, seed=2)
    whole.optimize(jhpo.host(trains), budget=16)
    rungs: dict[int, list[float]] = {2: [], 4: []}
    for i in range(16):
        trial, end = whole[i], STEPS
        for rung, values in rungs.items():
            values.append(curve(trial.params["x"])[rung - 1])
            if sorted(values).index(values[-1]) >= max(len(values) // 2, 1):
                end = rung
                break
        assert max(trial.curve) == end and (trial.status is TrialState.PRUNED) == (end < STEPS)
    assert min(t.value for t in map(whole.__getitem__, range(16))) == whole.best.value
    with Study(SPACE, asha, tmp_path / "study.db", seed=2) as study:
        study.optimize(jhpo.host(trains), budget=7)
    with Study.load(tmp_path / "study.db") as study:
        study.optimize(jhpo.host(trains), budget=16)
        same(study, whole)
    random = Study(SPACE, jhpo.ASHA(max_steps=9))
    with pytest.raises(InvalidArgument, match="early_stop: expected None beside ASHA"):
        random.optimize(jhpo.host(trains), budget=4, early_stop=RULE)
    with pytest.raises(InvalidArgument, match="objective: expected a trainable"):
        random.optimize(lambda hp: hp["x"], budget=4)
    with pytest.raises(InvalidArgument, match="strategy: expected one that stops nobody"):
        jhpo.run(jhpo.ASHA(max_steps=9), lambda hp: hp["x"], SPACE, 2, jax.random.key(0))
    with pytest.raises(InvalidArgument, match="proposer: expected a strategy that can be asked"):
        jhpo.ASHA(proposer=jhpo.Greedy(4))
