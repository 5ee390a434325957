"""Studies: ask and tell, failures, queues, generations closed early."""

from __future__ import annotations

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import (
    InvalidArgument,
    InvalidParameters,
    JhpoError,
    SpaceExhausted,
    TrialConflict,
)
from jhpo.trial import TrialState
from tests.study.studies import GREEDY, SPACE, objective, on_host


def test_ids_are_contiguous_and_params_are_host_values():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    trials = study.ask(6)
    assert [t.id for t in trials] == list(range(6))
    assert all(isinstance(t.params["x"], float) and t.params["k"] in ("a", "b") for t in trials)
    assert all(t.status is TrialState.RUNNING for t in trials)
    assert len({t.seed for t in trials}) == 6
    study.tell(trials[0], 1.0)
    study.tell(1, 0.5)
    study.tell(trials[2:4], [0.25, math.nan])
    assert study.best.id == 2 and study.best.value == 0.25
    assert [t.id for t in study.top(9)] == [2, 1, 0]
    assert study.evaluations == 4


def test_trials_are_a_sequence_as_a_study_is():
    study = jhpo.Study(SPACE, "random")
    assert len(study.trials) == 0 and list(study.trials) == []
    study.ask(4)
    trials = study.trials
    assert len(trials) == 4 and [t.id for t in trials] == [0, 1, 2, 3]
    assert trials[-1].params == study[3].params and [t.id for t in trials[1:3]] == [1, 2]
    with pytest.raises(IndexError):
        trials[4]


def test_a_trials_key_follows_from_seed_and_id():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4), seed=7)
    trial = study.ask(3)[2]
    expected = jax.random.fold_in(jax.random.key(7), 2)
    np.testing.assert_array_equal(jax.random.key_data(study.key(trial)), jax.random.key_data(expected))
    high, low = np.asarray(jax.random.key_data(expected)).tolist()
    assert trial.seed == (high << 32) | low


def test_maximisation_flips_the_sign_once():
    low = jhpo.Study(SPACE, GREEDY, seed=3)
    high = jhpo.Study(SPACE, GREEDY, seed=3, direction="maximize")
    low.optimize(objective, budget=64)
    high.optimize(lambda hp: -objective(hp), budget=64)
    np.testing.assert_array_equal(low.history.table.value.array, -high.history.table.value.array)
    assert high.best.value == -low.best.value
    assert [t.id for t in high.top(3)] == [t.id for t in low.top(3)]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"), (None, "None"), ("0.5", "'0.5'"), (1j, "complex"),
        ([0.1, 0.2], "shape"), (np.zeros((2, 2)), "shape"), (np.array("x"), "array"),
        pytest.param(object(), "object", id="object"), (True, "True"),
        ({"loss": 1.0}, "'value'"), ({"value": math.nan}, "nan"), ({"value": 1.0, "constraint": "x"}, "constraint"),
        pytest.param(10**400, "too large", id="huge"),
    ],
    ids=repr,
)  # fmt: skip
def test_anything_but_a_finite_number_fails_with_a_reason(value, words):
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    good, bad = study.ask(2)
    study.tell(bad, value)
    study.tell(good, 1e308)
    assert study[bad.id].status is TrialState.FAILED
    import re

    assert re.search(words, study[bad.id].reason), study[bad.id].reason
    assert study.best.value == 1e308


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.array([0.5]), jnp.asarray(0.5), jnp.bfloat16(0.5)])
def test_numbers_of_every_kind_are_taken(value):
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    study.tell(study.ask(1)[0], value)
    assert study.best.value == float(np.asarray(value, np.float64).reshape(()))


def test_telling_again_is_harmless_if_equal_and_refused_if_not():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    trial, failed = study.ask(2)
    study.tell(trial, 0.5)
    study.tell(trial, 0.5)
    study.tell(failed, error="broke")
    study.tell(failed, error="broke")
    with pytest.raises(TrialConflict, match=r"trial 0 .*0\.5.*refused: 0\.6"):
        study.tell(trial, 0.6)
    with pytest.raises(TrialConflict, match="broke"):
        study.tell(failed, 0.1)
    with pytest.raises(InvalidArgument, match=r"in \[0, 1\], got 2"):
        study.tell(2, 0.1)
    with pytest.raises(InvalidArgument, match="as many values"):
        study.tell([trial, failed], [0.1])
    with pytest.raises(InvalidArgument, match="trial"):
        study.tell(-1, 0.1)
    assert study.evaluations == 2


def test_enqueued_points_come_first_and_once():
    study = jhpo.Study(SPACE, GREEDY)
    params = {"x": 0.5, "y": -0.5, "k": "b"}
    assert study.enqueue(params) == 0
    with pytest.raises(TrialConflict, match="queue"):
        study.tell(0, 1.0)
    first, second = study.ask(2)
    assert first.id == 0 and first.generation == -1 and second.generation == 0
    assert first.params["x"] == pytest.approx(0.5) and first.params["k"] == "b"
    study.tell(first, 0.0)
    assert study.best.id == 0
    with pytest.raises(InvalidParameters, match="x"):
        study.enqueue({"x": 3.0, "y": 0.0, "k": "a"})
    with pytest.raises(InvalidParameters, match="z"):
        study.enqueue({"z": 0.0})


def test_a_result_does_not_copy_the_queue():
    study = jhpo.Study(SPACE, GREEDY)
    for x in (0.1, 0.2, 0.3):
        study.enqueue({"x": x, "y": 0.0, "k": "a"})
    queue = study.history.waiting
    (first,) = study.ask(1)
    study.tell(first, 0.0)
    assert study.history.waiting is queue and queue == [1, 2]  # with 100,000 points a copy takes milliseconds


def test_enqueued_points_are_evaluated_by_optimize():
    study = jhpo.Study(SPACE, GREEDY)
    study.enqueue({"x": 0.3, "y": 0.0, "k": "b"})
    summary = study.optimize(objective, budget=20)
    assert summary.evaluations == 20 and study.best.id == 0
    assert study.best.value < 1e-12


def test_foreign_results_count_as_trials():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    ids = study.absorb([{"x": 0.1, "y": 0.0, "k": "a"}, {"x": 0.2, "y": 0.0, "k": "b"}], [0.5, math.nan], "elsewhere")
    assert ids == [0, 1] and study.best.id == 0 and [t.id for t in study.failures] == [1]
    with pytest.raises(InvalidArgument, match="values"):
        study.absorb([{"x": 0.1, "y": 0.0, "k": "a"}], [])
    with pytest.raises(InvalidParameters):
        study.absorb([{"x": 7.0, "y": 0.0, "k": "a"}], [1.0])
    with pytest.raises(InvalidParameters, match=r"values of \['y'\], got \['k', 'x'\]; .*enqueue and start="):
        study.absorb([{"x": 0.1, "y": math.nan, "k": "a"}], [1.0])


@pytest.mark.parametrize("as_list", [False, True])
def test_a_study_brings_its_results_along(as_list):
    def limited(params):
        return {"value": params["x"] ** 2, "constraint": [params["x"] - 0.3]}

    old = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    old.optimize(jhpo.host(on_host if as_list else limited), budget=6)
    old.tell(old.ask(1)[0], error="diverged")
    old.ask(1)  # is running
    new = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    assert new.absorb(list(old) if as_list else old) == list(range(7))
    assert [t.params for t in new] == [t.params for t in old][:7]
    assert new.best.value == old.best.value and new.best.params == old.best.params
    assert [t.reason for t in new.failures] == ["diverged"]
    assert new.failures[0].id == 6
    assert new.absorb([]) == []
    found = jhpo.minimize(objective, SPACE, jhpo.RandomSearch(4), budget=4)
    assert new[new.absorb(found.top(2))[0]].value == found.value


def test_results_that_are_absorbed_twice_are_said_to_be(tmp_path):
    old = jhpo.Study(SPACE, "random")
    old.optimize(jhpo.host(on_host), budget=4)
    old.tell(old.ask(1)[0], error="diverged")
    with jhpo.Study(SPACE, "random", tmp_path / "new.db") as new:
        assert new.absorb(old) == [0, 1, 2, 3, 4]  # no warning
    with jhpo.Study.load(tmp_path / "new.db") as new:
        with pytest.warns(UserWarning, match="holds these 5 results already, and now twice.*`if not len"):
            new.absorb(old)
        new.absorb([t.params for t in list(old)[:4]], [0.1, 0.2, 0.3, 0.4])  # of a random objective
        new.absorb(list(old)[:1])  # may be meant


def test_members_that_were_paused_are_not_absorbed_as_if_they_had_ended():
    class Descent:
        steps = 9

        def init(self, hp, key):
            return jnp.float32(1.0)

        def step(self, hp, state, t):
            return state + 1.0 + hp["x"]  # the sooner it is measured, the better

        def evaluate(self, hp, state):
            return state

    old = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), jhpo.SuccessiveHalving(9, min_steps=1))
    old.optimize(Descent(), budget=9)
    new = jhpo.Study(old.space, "random")
    assert len(new.absorb(old)) == sum(t.horizon == 1.0 for t in old) == 1
    assert new.best.value == old.best.value > min(t.value for t in old)


def test_results_of_other_objectives_are_not_absorbed():
    old = jhpo.Study(SPACE, jhpo.RandomSearch(4), direction="maximize")
    old.optimize(jhpo.host(on_host), budget=2)
    with pytest.raises(
        InvalidArgument, match="params: expected a study of the same directions, minimize, got 'maximize'"
    ):
        jhpo.Study(SPACE, "random").absorb(old)
    two = jhpo.Study(SPACE, "random", directions=["minimize", "minimize"])
    with pytest.raises(InvalidArgument, match="params: expected trials with 2 values"):
        two.absorb(list(old))
    with pytest.raises(InvalidArgument, match="values: expected a value for each point"):
        two.absorb([t.params for t in old])
    two.optimize(jhpo.host(lambda params: (params["x"], params["y"])), budget=3)
    again = jhpo.Study(SPACE, "random", directions=["minimize", "minimize"])
    again.absorb(two)
    assert [list(t.values) for t in again] == [list(t.values) for t in two]


def test_values_of_several_objectives_are_absorbed_and_told_by_name():
    old = jhpo.Study(SPACE, "random", directions={"near": "minimize", "far": "maximize"})
    old.optimize(jhpo.host(lambda params: {"near": params["x"], "far": 10.0 + params["y"]}), budget=3)
    for given in (old, list(old)):
        new = jhpo.Study(SPACE, "random", directions={"far": "maximize", "near": "minimize"})
        new.absorb(given)
        assert [(t.values["near"], t.values["far"]) for t in new] == [tuple(t.values) for t in old]
    new.absorb([old[0].params], [old[0].values])
    trial = new.ask(1)[0]
    new.tell(trial, old[0].values)
    assert new[3].values == new[trial.id].values == new[0].values
    unnamed = jhpo.Study(SPACE, "random", directions=["minimize", "maximize"])
    unnamed.absorb(old)
    assert unnamed[0].values == old[0].values and unnamed[0].values.names == ("near", "far")
    for ways in ({"near": "minimize", "wide": "maximize"}, {"near": "maximize", "far": "minimize"}):
        other = jhpo.Study(SPACE, "random", directions=ways)
        with pytest.raises(InvalidArgument, match=r"same directions, \{'near': .*, got \{'near': 'minimize'"):
            other.absorb(old)
    with pytest.raises(InvalidArgument, match=r"params: expected trials with the values \['wide', 'near'\], got Trial"):
        jhpo.Study(SPACE, "random", directions={"wide": "maximize", "near": "minimize"}).absorb(list(old))
    same = jhpo.Study(SPACE, "random", directions={"far": "minimize", "near": "minimize"})
    with pytest.raises(InvalidArgument, match="params: expected a study of the same directions"):
        same.absorb(old)


def test_a_generational_strategy_gives_its_generation_and_closes_early_only_when_asked_again():
    study = jhpo.Study(SPACE, GREEDY)
    first = study.ask(100)
    assert [t.generation for t in first] == [0] * 8
    for trial in first[:6]:
        study.tell(trial, on_host(trial.params))
    second = study.ask(3)  # two are pending: the generation is closed without them
    assert [t.generation for t in second] == [1] * 3
    study.tell(first[6], on_host(first[6].params))  # late, and kept
    assert study[6].status is TrialState.COMPLETE
    rest = study.ask(100)
    assert [t.generation for t in rest] == [1] * 5
    study.tell(second + rest, [on_host(t.params) for t in second + rest])
    assert study.ask(1)[0].generation == 2


def test_steady_strategies_go_on_while_trials_are_pending():
    study = jhpo.Study(SPACE, jhpo.SobolSearch(4))
    assert [t.generation for t in study.ask(10)] == [0] * 4 + [1] * 4 + [2] * 2


def test_a_finite_search_ends():
    space = jhpo.Space({"k": jhpo.Choice(["a", "b", "c"]), "n": jhpo.Int(1, 2)})
    study = jhpo.Study(space, jhpo.GridSearch(population=4))
    summary = study.optimize(lambda hp: jnp.float32(hp["n"]), budget=100)
    assert len(study) == 6 and "exhausted" in summary.stopped
    assert len({(t.params["k"], t.params["n"]) for t in study.top(6)}) == 6
    with pytest.raises(SpaceExhausted, match="6"):
        study.ask()


def test_constraints_decide_what_is_best():
    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}, constraints=[lambda hp: hp["x"] - 0.5])
    study = jhpo.Study(space, jhpo.RandomSearch(4))
    study.enqueue({"x": 0.75})
    for trial in study.ask(8):
        study.tell(trial, trial.params["x"])
    assert all(t.params["x"] >= 0.5 for t in study.top(8))
    unconstrained = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    a, b = unconstrained.ask(2)
    unconstrained.tell([a, b], [{"value": 0.1, "constraint": [-1.0]}, {"value": 0.2, "constraint": [0.0]}])
    assert unconstrained.best.id == b.id


def test_queries_of_an_empty_study():
    study = jhpo.Study(SPACE)
    assert len(study) == 0 and study.top() == [] and study.failures == []
    with pytest.raises(JhpoError, match="no successful trial"):
        _ = study.best
    with pytest.raises(InvalidArgument, match="trial_id"):
        _ = study[0]
    assert len(study.to_frame()) == 0


def test_frame_and_plots():
    space = jhpo.Space({"opt": jhpo.Choice(["sgd", "adam"]), "b2": jhpo.Float(0.9, 0.999, when={"opt": "adam"})})
    study = jhpo.Study(space, jhpo.RandomSearch(8))
    for trial in study.ask(8):
        study.tell(trial, trial.params.get("b2", math.nan))
    frame = study.to_frame()
    assert list(frame["id"]) == list(range(8))
    assert {"value", "state", "param_opt", "param_b2", "generation", "reason"} <= set(frame.columns)
    sgd = frame["param_opt"] == "sgd"
    assert frame["param_b2"].isna().equals(sgd) and (frame["state"][sgd] == "FAILED").all()
    for kind in ("history", "parallel", "slice", "edf"):
        assert len(study.plot(kind).data) >= 1
    np.testing.assert_array_equal(study.plot("history").data[0].y, frame["value"])
    with pytest.raises(InvalidArgument, match="kind"):
        study.plot("pie")
    with pytest.raises(JhpoError, match="at least 8 successful trials"):
        study.plot("importance")


def test_importance_finds_what_matters_and_goes_on_the_page(tmp_path):
    space = jhpo.Space({
        "x": jhpo.Float(-1.0, 1.0), "idle": jhpo.Float(-1.0, 1.0), "kind": jhpo.Choice(["a", "b", "c"]),
        "only_a": jhpo.Float(0.0, 1.0, when={"kind": "a"}),
    })  # fmt: skip
    study = jhpo.Study(space, "random", direction="maximize")
    study.optimize(lambda hp: -(hp["x"] ** 2) - jnp.where(hp["kind"] == 2, 2.0, 0.0), budget=512)
    shares = study.importance()
    assert sum(shares.values()) == pytest.approx(1.0) and min(shares.values()) >= 0
    assert shares["x"] > 0.5 and shares["kind"] > 5 * max(shares["idle"], shares["only_a"])
    assert list(study.plot("importance").data[0].y)[-1] == "x", "the longest bar is on top"
    study.enqueue({"x": 0.0, "idle": 0.0, "kind": "c"})
    study.tell(study.ask(1), [None], error="<diverged>")
    page = study.report(tmp_path / "study.html").read_text()
    for words in ("Optimization history", "Importance", "Parallel coordinates", "maximize", "&lt;diverged&gt;"):
        assert words in page
    with pytest.raises(jhpo.StorageError, match="cannot write"):
        study.report(tmp_path / "nowhere" / "study.html")
    with pytest.raises(InvalidArgument, match="quantile"):
        study.importance(0.0)


def test_missing_extras_say_what_to_install(monkeypatch):
    study = jhpo.Study(SPACE)
    for module in ("pandas", "plotly", "plotly.graph_objects"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(jhpo.MissingExtra, match=r"pip install 'jhpo\[pandas\]'"):
        study.to_frame()
    with pytest.raises(jhpo.MissingExtra, match=r"pip install 'jhpo\[plot\]'"):
        study.plot()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(jhpo.MissingExtra, match=r"pip install 'jhpo\[report\]'"):
        study.report()


@pytest.mark.parametrize(
    "bad",
    [
        {"space": {"x": 1}}, {"strategy": "nope"}, {"strategy": 3}, {"seed": -1}, {"seed": 2**32}, {"seed": 0.5},
        {"direction": "up"}, {"replicates": 0}, {"lease": 0}, {"max_retry": -1},
    ],
    ids=str,
)  # fmt: skip
def test_bad_arguments_are_named(bad):
    arguments = {"space": SPACE, "strategy": "random"} | bad
    with pytest.raises(InvalidArgument, match=next(iter(bad))):
        jhpo.Study(**arguments)


def test_bad_budgets_are_named():
    study = jhpo.Study(SPACE)
    for bad in ({"budget": 0}, {"budget": 2.5}, {"seconds": -1.0}, {}):
        with pytest.raises(InvalidArgument, match=next(iter(bad), "budget")):
            study.optimize(objective, **bad)
    with pytest.raises(InvalidArgument, match="n: expected"):
        study.ask(0)


@pytest.mark.parametrize("values", [{"value": [0.5, 0.5], "constraint": [[1.0], [1.0]]}, {0.5, 0.25}, "ab", 0.5])
def test_values_of_several_trials_are_in_an_order(values):
    study = jhpo.Study(SPACE, jhpo.RandomSearch(2))
    with pytest.raises(InvalidArgument, match="value: expected a list of values, one for each of the 2 trials"):
        study.tell(study.ask(2), values)
    assert {trial.status for trial in study} == {TrialState.RUNNING}
    points = [trial.params for trial in study]
    with pytest.raises(InvalidArgument, match="values: expected a list, an entry for each result"):
        study.absorb(points, values)


@pytest.mark.parametrize("grad", ["ab", {"x": 1.0}, [None, "x", 0.0]])
def test_a_gradient_that_is_none_is_named(grad):
    study = jhpo.Study(SPACE, jhpo.RandomSearch(2))
    trials = study.ask(2)
    with pytest.raises(InvalidArgument, match=r"grad: expected an array of shape \(3,\)"):
        study.tell(trials[0], 0.5, grad=grad)
    with pytest.raises(InvalidArgument, match=r"grad: expected (a list of|as many|an array)"):
        study.tell(trials, [0.5, 0.5], grad=grad)


def test_several_trials_may_be_stopped_early_together():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(2))
    trials = study.ask(2)
    trials[0].report(1, 0.5)
    study.tell(trials, pruned=True)
    assert [trial.value for trial in study.pruned][:1] == [0.5] and len(study.pruned) == 2


def test_a_trial_that_is_none_of_the_study_is_named():
    def looks(study, trial):
        objective = jhpo.host(on_host)
        return [
            lambda: study[trial], lambda: study.key(trial), lambda: study.note(a=1, trial=trial),
            lambda: study.tell(trial, 0.5), lambda: study.states(objective, [trial]),
        ]  # fmt: skip

    empty, one = jhpo.Study(SPACE, "random"), jhpo.Study(SPACE, "random")
    later = jhpo.Study(SPACE, jhpo.RandomSearch(4)).ask(4)[3]
    one.ask(1)
    for study, trial, said in ((empty, 0, "none yet, got 0"), (one, 1, r"in \[0, 0\], got 1"), (one, later, "got 3")):
        for look in looks(study, trial):
            with pytest.raises(InvalidArgument, match=rf"trial.*: expected .*{said}"):
                look()
