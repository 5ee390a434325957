"""What of a study survives the way to Optuna and back: states, curves, constraints, names, trials that wait."""

from __future__ import annotations

import pytest

import jhpo
from jhpo.errors import InvalidArgument

optuna = pytest.importorskip("optuna")
from jhpo.interop.optuna import JhpoSampler, distribution_of, from_optuna, parameter_of, run, to_optuna  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)


def states(trials):
    return [t.state.name for t in trials]


def test_pruned_trials_keep_their_curves_there_and_back():
    def reports(trial):
        x = trial.suggest_float("x", 0.0, 1.0)
        if trial.number == 3:
            raise optuna.TrialPruned
        for step in range(5):
            trial.report(x + step, step)
            if step == 2 and trial.number % 2:
                raise optuna.TrialPruned
        if trial.number == 4:
            raise RuntimeError("broken")
        return x

    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    source.optimize(reports, n_trials=8, catch=RuntimeError)
    mine = from_optuna(source, strategy="random")
    names = {"COMPLETE": "COMPLETE", "PRUNED": "PRUNED", "FAIL": "FAILED"}
    assert [mine[i].status.name for i in range(8)] == [names[t.state.name] for t in source.trials]
    assert [mine[i].curve for i in range(8)] == [t.intermediate_values for t in source.trials]
    assert [t.id for t in mine.pruned] == [1, 3, 5, 7] and mine[1].value == source.trials[1].value
    assert mine[3].reason == "pruned before its first report" and mine[4].reason == "failed in Optuna"
    assert mine.best.value == source.best_value and len(mine.history.table.width) == 0
    back = to_optuna(mine)
    for theirs, again in zip(source.trials, back.trials):
        assert (again.state, again.values, again.params) == (theirs.state, theirs.values, theirs.params)
        assert again.intermediate_values == theirs.intermediate_values
    assert [t.curve for t in (from_optuna(back)[i] for i in range(8))] == [mine[i].curve for i in range(8)]
    # a strategy learns from what a pruned trial was worth, as with early_stop=
    learner = from_optuna(source, strategy=jhpo.Greedy(4))
    assert learner.ask(1) and learner.evaluations == 8


def test_an_imported_study_is_stored_and_opened_again(tmp_path):
    source = optuna.create_study()
    source.enqueue_trial({"x": 0.25})
    source.optimize(lambda t: t.report(2.0, 7) or t.suggest_float("x", 0.0, 1.0), n_trials=2)
    source.enqueue_trial({"x": 0.5})
    with from_optuna(source, strategy="random", storage=tmp_path / "a.db") as study:
        before = [repr((study[i], study[i].curve)) for i in range(3)]
        assert study[0].curve == {7: 2.0}
    with jhpo.Study.load(tmp_path / "a.db") as study:
        assert [repr((study[i], study[i].curve)) for i in range(3)] == before and len(study) == 3
        assert study.ask(1)[0].params == {"x": 0.5}  # it waited


def test_trials_that_wait_run_or_have_nothing():
    source = optuna.create_study()
    source.optimize(lambda t: t.suggest_float("x", 0.0, 1.0) + t.suggest_float("y", 0.0, 1.0), n_trials=2)
    source.enqueue_trial({"x": 0.5, "y": 0.25})
    source.enqueue_trial({"x": 0.75})
    asked = [source.ask(), source.ask()]
    asked[1].suggest_float("x", 0.0, 1.0)
    source.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"note": "n"}))
    source.enqueue_trial({"x": 0.125}, user_attrs={"by": "hand"})
    source.set_user_attr("model", object())
    with pytest.warns(UserWarning) as warned:
        mine = from_optuna(source, strategy="random")
    text = str(warned[0].message)
    assert "2 running trials" in text and "1 trial without parameters" in text and "['model']" in text
    (queued,) = mine.ask(1)
    assert queued.notes == {"by": "hand"} and mine.notes == {}
    assert len(mine) == 3 and queued.params["x"] == 0.125 and 0.0 <= queued.params["y"] <= 1.0
    mine.enqueue({"x": 0.5, "y": 0.5})
    there = to_optuna(mine)
    assert states(there.trials) == ["COMPLETE", "COMPLETE", "RUNNING", "WAITING"]
    assert there.ask().suggest_float("x", 0.0, 1.0) == 0.5
    moments = [t.datetime_complete - t.datetime_start for t in there.trials[:2]]
    assert all(moment.total_seconds() >= 0 for moment in moments)


def test_a_study_comes_back_into_its_own_space():
    space = jhpo.Space({
        "w": jhpo.Float(0.0, 1.0, shape=(2,)),
        "net": jhpo.Choice([(8, 8), (16,)]), "b": jhpo.Float(0.9, 0.9999, scale="reverse_log", when={"net": [(16,)]}),
        "size": jhpo.Ordinal([1, 2, 8]), "deep": [jhpo.Int(1, 64, log=True), jhpo.Choice([None, True, 1])],
        "kinds": jhpo.Choice(["a", (1, 2)], shape=(2,)),
    })  # fmt: skip
    study = jhpo.Study(space, "random", seed=3, directions={"error": "minimize", "speed": "maximize"})
    for k, trial in enumerate(study.ask(12)):
        if k == 5:
            study.tell(trial, error="out of paper")
        else:
            limit = {"constraint": [0.5 - k / 10, float("nan") if k == 7 else 1.0]}
            study.tell(trial, {"value": {"error": k / 8, "speed": trial.params["w"][0]}, **limit})
    back = from_optuna(to_optuna(study), space=space, strategy="random")
    assert back.objectives == study.objectives
    mine, theirs = ([s[i] for i in range(12)] for s in (study, back))
    assert [repr(t.params) for t in mine] == [repr(t.params) for t in theirs]
    assert [(t.status, t.reason) for t in mine] == [(t.status, t.reason) for t in theirs]
    assert [t.values for t in mine if not t.reason] == [t.values for t in theirs if not t.reason]
    assert [t.id for t in back.pareto()] == [t.id for t in study.pareto()]
    short = jhpo.Space({"w": jhpo.Float(0.0, 1.0, shape=(2,))})
    with pytest.raises(InvalidArgument, match="trial 0 of the Optuna study"):
        from_optuna(to_optuna(study), space=short, strategy="random")


def test_members_that_were_stopped_at_a_rung_are_pruned_there():
    class Line:
        steps = 8

        def init(self, hp, key):
            return hp["x"]

        def step(self, hp, state, t):
            return 0.9 * state

        def evaluate(self, hp, state):
            return state

    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), jhpo.SuccessiveHalving(8, eta=2, min_steps=2))
    study.optimize(Line(), budget=8)
    made = to_optuna(study)
    assert made.best_value == study.best.value and states(made.trials).count("PRUNED") == 6
    assert [t.value for t in made.trials] == [study[i].value for i in range(8)]
    assert [t.intermediate_values for t in made.trials] == [study[i].curve for i in range(8)]
    assert from_optuna(made, strategy="random").best.value == study.best.value


def test_other_measurements_become_user_attributes():
    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random")
    (trial,) = study.ask(1)
    trial.report(3, 0.5, accuracy=0.75)
    study.tell(trial, 0.25)
    assert to_optuna(study).trials[0].user_attrs == {"jhpo_id": 0, "accuracy": {"3": 0.75}}


def test_user_attributes_are_notes_there_and_back(tmp_path):
    source = optuna.create_study()

    def objective(trial):
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.set_user_attr("parts", {"a": [1, None, x]})
        if trial.number == 1:
            raise optuna.TrialPruned
        return x

    source.optimize(objective, n_trials=3)
    source.set_user_attr("team", "blue")
    from_optuna(source, strategy="random", storage=tmp_path / "a.db").close()
    with jhpo.Study.load(tmp_path / "a.db") as mine:
        assert [t.notes for t in mine] == [t.user_attrs for t in source.trials] and mine.notes == {"team": "blue"}
        trial = mine.ask()[0]
        trial.report(1, 0.5, parts=2.0)
        trial.note(parts=3)
        there = to_optuna(mine)
    assert there.user_attrs == source.user_attrs
    assert [t.user_attrs["parts"] for t in there.trials] == [*(t.user_attrs["parts"] for t in source.trials), 3]
    assert there.trials[3].user_attrs["parts_reported"] == {"1": 2.0}
    assert [t.notes for t in from_optuna(there, strategy="random")] == [t.user_attrs for t in source.trials]


@pytest.mark.filterwarnings("ignore:The distribution is specified")
@pytest.mark.parametrize("step", [0.25, 0.1, 0.3])
def test_floats_with_a_step_stay_what_they_are(step):
    distribution = optuna.distributions.FloatDistribution(0.5, 0.5 + 7 * step, step=step)
    parameter = parameter_of("v", distribution)
    again = distribution_of("v", parameter)
    assert isinstance(again, optuna.distributions.FloatDistribution) and parameter_of("v", again).key == parameter.key
    uneven = distribution_of("v", jhpo.Ordinal([0.1, 0.2, 0.4]))
    assert isinstance(uneven, optuna.distributions.CategoricalDistribution)


def breaks_at_first(trial):
    n = trial.suggest_int("n", 1, 9)
    if trial.number == 1:
        raise RuntimeError("before y")
    return n + trial.suggest_float("y", 0.0, 1.0)


def test_values_of_a_grid_may_be_written_with_fewer_digits():
    """Optuna takes 0.3 for 3 * 0.1."""

    def objective(trial):
        return abs(trial.suggest_float("x", 0.0, 1.0, step=0.1) - 0.3) + trial.suggest_float("y", 0.0, 1.0)

    source = optuna.create_study(sampler=JhpoSampler(jhpo.RandomSearch(4)))
    source.optimize(objective, n_trials=2)
    source.enqueue_trial({"x": 0.3, "y": 0.0})
    (waiting,) = from_optuna(source, strategy="random").ask(1)
    assert waiting.params == {"x": 3 * 0.1, "y": 0.0}
    source.optimize(objective, n_trials=2)
    assert source.sampler.inner.best.value == 0.0 and len(source.sampler.inner) == 4


def test_a_trial_that_broke_off_says_nothing_about_conditions():
    source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    source.optimize(breaks_at_first, n_trials=6, catch=RuntimeError)
    assert len({t.params["n"] for t in source.trials}) > 2
    for space in (from_optuna(source).space, run(breaks_at_first, 8, "random", trace=4).space):
        assert all(not parameter.when for parameter in space.parameters)
