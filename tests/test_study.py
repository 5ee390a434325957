"""Studies: ask and tell, failures, queues, generations closed early, resume bit for bit."""

from __future__ import annotations

import math
import os
import sqlite3
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import (
    ChangedSpace,
    InvalidArgument,
    InvalidParameters,
    JhpoError,
    SpaceExhausted,
    StorageError,
    TrialConflict,
)
from jhpo.storage.worker import is_dead, worker_name
from jhpo.trial import TrialState

SPACE = jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "y": jhpo.Float(-1.0, 1.0), "k": jhpo.Choice(["a", "b"])})
GREEDY = jhpo.Greedy(8)


def objective(hp):
    return (hp["x"] - 0.3) ** 2 + hp["y"] ** 2 + jnp.where(hp["k"] == 0, 1.0, 0.0)


def noisy(hp, key):
    return hp["x"] ** 2 + 0.1 * jax.random.normal(key)


def on_host(params):
    return (params["x"] - 0.3) ** 2 + params["y"] ** 2 + (params["k"] == "a")


def columns(study):
    table = study.history.table
    return {
        "value": table.value.array.copy(), "unit": table.unit.array.copy(), "state": table.state.array.copy(),
        "generation": table.generation.array.copy(), "member": table.member.array.copy(),
    }  # fmt: skip


def assert_same(a, b, rows=None):
    for (name, x), y in zip(columns(a).items(), columns(b).values()):
        np.testing.assert_array_equal(x[:rows], y[:rows], err_msg=name)


def assert_same_state(a, b):
    """The strategies stand at the same place, to the bit."""
    for x, y in zip(jax.tree.leaves(a.ledger.searcher().mark()), jax.tree.leaves(b.ledger.searcher().mark())):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


# -- ask and tell -------------------------------------------------------------------------------------------------


def test_ids_are_contiguous_and_params_are_host_values():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    trials = study.ask(6)
    assert [t.id for t in trials] == list(range(6))
    assert all(isinstance(t.params["x"], float) and t.params["k"] in ("a", "b") for t in trials)
    assert all(t.state is TrialState.RUNNING for t in trials)
    assert len({t.seed for t in trials}) == 6
    study.tell(trials[0], 1.0)
    study.tell(1, 0.5)
    study.tell(trials[2:4], [0.25, math.nan])
    assert study.best.id == 2 and study.best.value == 0.25
    assert [t.id for t in study.top(9)] == [2, 1, 0]
    assert study.evaluations == 4


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
    assert study[bad.id].state is TrialState.FAILED
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
    with pytest.raises(InvalidArgument, match="id below 2"):
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
    with pytest.raises(InvalidParameters):
        study.enqueue({"x": 0.0})


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


def test_a_generational_strategy_gives_its_generation_and_closes_early_only_when_asked_again():
    study = jhpo.Study(SPACE, GREEDY)
    first = study.ask(100)
    assert [t.generation for t in first] == [0] * 8
    for trial in first[:6]:
        study.tell(trial, on_host(trial.params))
    second = study.ask(3)  # two are pending: the generation is closed without them
    assert [t.generation for t in second] == [1] * 3
    study.tell(first[6], on_host(first[6].params))  # late, and kept
    assert study[6].state is TrialState.COMPLETE
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
    for call in (study.plot, study.report):
        with pytest.raises(jhpo.MissingExtra, match=r"pip install 'jhpo\[plot\]'"):
            call()


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


# -- optimize ---------------------------------------------------------------------------------------------------


def test_budget_is_met_exactly_and_counts_the_whole_study():
    study = jhpo.Study(SPACE, GREEDY)
    assert study.optimize(objective, budget=20).evaluations == 20
    assert study.optimize(objective, budget=20).stopped == "evaluations: 20 of 20 done"
    assert study.optimize(objective, budget=33).evaluations == 13
    whole = jhpo.Study(SPACE, GREEDY)
    whole.optimize(objective, budget=33)
    assert_same(study, whole)


def test_every_stop_rule_gives_its_reason():
    heard = []
    study = jhpo.Study(SPACE, GREEDY)
    assert study.optimize(objective, generations=2, callback=heard.append).stopped.startswith("generations: 2")
    assert [u.evaluations for u in heard] == [8, 16] and heard[-1].best == study.best.value
    assert study.optimize(objective, target=1e-3).stopped.startswith("target")
    assert study.best.value <= 1e-3
    assert study.optimize(lambda hp: hp["x"] * 0.0 + 5.0, patience=3).stopped.startswith("patience")
    assert study.optimize(objective, seconds=1e-6).stopped.startswith("seconds")
    assert len(study.history.notes) == 4


def test_an_interrupted_study_says_so_and_goes_on(tmp_path):
    def stop_at(update):
        if update.generation == 3:
            raise KeyboardInterrupt

    with jhpo.Study(SPACE, GREEDY, tmp_path / "a.db") as study:
        with pytest.raises(KeyboardInterrupt):
            study.optimize(objective, budget=64, callback=stop_at)
        assert study.evaluations == 24 and study.history.notes[-1]["stopped"] == "interrupted"
        assert len(study.ledger.log.load_snapshots()) == 1
    whole = jhpo.Study(SPACE, GREEDY)
    whole.optimize(objective, budget=64)
    with jhpo.Study.load(tmp_path / "a.db") as study:
        study.optimize(objective, budget=64)
        assert_same(study, whole)


def test_failed_members_are_kept_with_a_reason_and_a_failed_generation_is_survived():
    study = jhpo.Study(SPACE, GREEDY)
    study.optimize(lambda hp: jnp.where(hp["x"] > 0, jnp.nan, hp["x"] ** 2), budget=64)
    assert {t.reason for t in study.failures} == {"the objective returned nan"}
    assert all(t.params["x"] <= 0 for t in study.top(100)) and len(study) == 64
    lost = jhpo.Study(SPACE, GREEDY)
    assert lost.optimize(lambda hp: hp["x"] * jnp.nan, budget=24).evaluations == 24
    assert len(lost.failures) == 24 and lost.top() == []
    lost.optimize(objective, budget=64)
    assert math.isfinite(lost.best.value)


def test_one_compilation_of_the_objective_and_one_of_the_strategy(count_compilations):
    strategy = jhpo.Greedy(11)
    space = jhpo.Space({"u": jhpo.Float(-1.0, 1.0)})

    def parabola(hp):
        return hp["u"] ** 2

    with count_compilations() as first:
        jhpo.Study(space, strategy, seed=0).optimize(parabola, budget=110)
    assert sorted(first.names) == ["jit(_evaluate_program)", "jit(_turn)"] or first.total == 2, first.names
    with count_compilations() as second:
        jhpo.Study(space, jhpo.Greedy(11), seed=1).optimize(parabola, budget=110)
    assert second.total == 0, second.names


def test_replicates_average_the_noise():
    study = jhpo.Study(SPACE, jhpo.RandomSearch(8), replicates=4)
    study.optimize(noisy, budget=16)
    variance = study.history.table.extra["variance"].array
    assert variance.shape == (16,) and (variance > 0).all()


class Line:
    """A trainable: gradient descent on ``(w - target)^2`` from a random start."""

    steps = 20
    target = 0.5

    def init(self, hp, key):
        return jax.random.normal(key)

    def step(self, hp, state, t):
        return state - hp["rate"] * 2.0 * (state - self.target)

    def evaluate(self, hp, state):
        return (state - self.target) ** 2


def test_trained_states_of_the_best_trials():
    space = jhpo.Space({"rate": jhpo.Float(1e-3, 0.4, log=True)})
    study = jhpo.Study(space, jhpo.RandomSearch(8), seed=3)
    study.optimize(Line(), budget=16)
    top = study.top(3)
    states = study.states(Line(), top)
    for trial, state in zip(top, states):
        start = float(jax.random.normal(study.key(trial)))
        expected = 0.5 + (start - 0.5) * (1.0 - 2.0 * trial.params["rate"]) ** 20
        assert float(state) == pytest.approx(expected, abs=1e-5)
        assert trial.value == pytest.approx((float(state) - 0.5) ** 2, abs=1e-6)
    assert study.states(Line(), []) == []


def test_strategies_may_fix_the_randomness_of_their_members():
    @jhpo.strategy
    class Fixed(jhpo.RandomSearch):
        def evaluation_ids(self, state, ids):
            return jnp.zeros_like(ids) + jnp.uint32(77)

    study = jhpo.Study(jhpo.Space({"rate": jhpo.Float(1e-3, 1e-2)}), Fixed(4))
    study.optimize(Line(), budget=8)
    assert (study.history.table.stream.array == 77).all()
    (state,) = study.states(Line(), study.top(1))
    start = float(jax.random.normal(jax.random.fold_in(study.root, 77)))
    rate = study.best.params["rate"]
    assert float(state) == pytest.approx(0.5 + (start - 0.5) * (1.0 - 2.0 * rate) ** 20, abs=1e-5)


# -- storage and resume -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["random", "greedy", "pso"])
def test_a_resumed_study_is_the_one_that_never_stopped(tmp_path, name):
    strategy = jhpo.make_strategy(name, {"population": 8})
    whole = jhpo.Study(SPACE, strategy, seed=5)
    whole.optimize(noisy, budget=80)
    path = tmp_path / "a.db"
    for budget in (20, 24, 57, 80):
        with jhpo.Study(SPACE, strategy, path, seed=5, resume=True) as part:
            part.optimize(noisy, budget=budget)
    with jhpo.Study.load(path) as loaded:
        assert_same(whole, loaded)
        assert_same_state(whole, loaded)


def test_folding_the_log_and_a_snapshot_give_the_same_state(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=64)
    with jhpo.Study.load(path) as by_snapshot:
        assert by_snapshot.ledger.log.load_snapshots()
        by_snapshot.ledger.searcher()
        connection = sqlite3.connect(tmp_path / "copy.db")
        sqlite3.connect(path).backup(connection)
        connection.execute("DELETE FROM jhpo_snapshot")
        connection.commit()
        connection.close()
        with jhpo.Study.load(tmp_path / "copy.db") as by_fold:
            assert by_fold.ledger.log.load_snapshots() == []
            assert_same_state(by_snapshot, by_fold)


def test_a_damaged_snapshot_is_ignored(tmp_path):
    path = tmp_path / "a.db"
    whole = jhpo.Study(SPACE, GREEDY)
    whole.optimize(objective, budget=80)
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=64)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE jhpo_snapshot SET body = x'00ff'")
    connection.commit()
    connection.close()
    with jhpo.Study.load(path) as study:
        study.optimize(objective, budget=80)
        assert_same(whole, study)


def test_ask_and_tell_resumes_with_what_was_pending(tmp_path):
    path = tmp_path / "a.db"
    whole = jhpo.Study(SPACE, GREEDY, seed=2)
    for _ in range(40):
        (trial,) = whole.ask()
        whole.tell(trial, on_host(trial.params))
    for stop in range(40):
        with jhpo.Study(SPACE, GREEDY, path, seed=2, resume=True) as study:
            (trial,) = study.ask()
            assert trial.id == stop
            if stop % 3 == 0:
                study.requeue()  # as if this process had died here
                (trial,) = study.ask()
                assert trial.id == stop and trial.attempt == 1
            study.tell(trial, on_host(trial.params))
    with jhpo.Study.load(path) as study:
        assert_same(whole, study)


def test_late_results_and_foreign_ones_fold_to_the_same_state(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path, seed=4) as study:
        study.absorb([{"x": 0.2, "y": 0.1, "k": "b"}], [0.01])
        pending = []
        for _ in range(6):
            trials = study.ask(8)
            pending.append(trials[0])
            study.tell(trials[1:], [on_host(t.params) for t in trials[1:]])
            if len(pending) > 2:
                late = pending.pop(0)
                study.tell(late, on_host(late.params))
        study.ask(1)
        study.refresh()
        with jhpo.Study.load(path) as folded:
            assert_same(study, folded)
            assert_same_state(study, folded)


def test_the_measured_layout_is_stored_and_used_again(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=16, chunk=4)
        assert study.history.layouts["population"]["chunk"] == 4
    with jhpo.Study.load(path) as study:
        study.optimize(objective, budget=32)
        assert study.history.layouts["population"]["chunk"] == 4


def test_a_study_is_not_overwritten_by_accident(tmp_path):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path, seed=1) as study:
        study.optimize(objective, budget=16)
    with pytest.raises(StorageError, match="resume"):
        jhpo.Study(SPACE, GREEDY, path, seed=1)
    for change, words in (
        ({"strategy": jhpo.Greedy(16)}, "population: was 8, now 16"),
        ({"seed": 2}, "seed"),
        ({"direction": "maximize"}, "direction"),
    ):
        arguments = {"strategy": GREEDY, "seed": 1} | change
        with pytest.raises(InvalidArgument, match=words):
            jhpo.Study(SPACE, arguments.pop("strategy"), path, resume=True, **arguments)


def test_a_changed_space_is_refused_with_the_difference(tmp_path):
    path = tmp_path / "a.db"
    jhpo.Study(SPACE, GREEDY, path).close()
    other = jhpo.Space({"x": jhpo.Float(-1.0, 2.0), "z": jhpo.Float(-1.0, 1.0), "k": jhpo.Choice(["a", "b"])})
    with pytest.raises(ChangedSpace) as info:
        jhpo.Study(other, GREEDY, path, resume=True)
    for words in ("x: high was 1.0, now 2.0", "y: removed", "z: added"):
        assert words in str(info.value)
    with pytest.raises(ChangedSpace):
        jhpo.Study.load(path, space=other)


def test_a_space_with_constraints_has_to_be_given_again(tmp_path):
    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}, constraints=[positive])
    with jhpo.Study(space, "random", tmp_path / "a.db") as study:
        study.optimize(lambda hp: hp["x"], budget=8)
    with pytest.raises(StorageError, match="space="):
        jhpo.Study.load(tmp_path / "a.db")
    with jhpo.Study.load(tmp_path / "a.db", space=space) as study:
        assert study.best.params["x"] >= 0
    with jhpo.Study.load(tmp_path / "a.db", read_only=True) as study:
        assert len(study) == 8


def positive(hp):
    return hp["x"]


def test_two_studies_on_one_storage_share_the_work(tmp_path):
    path = tmp_path / "a.db"
    a = jhpo.Study(SPACE, jhpo.RandomSearch(4), path)
    b = jhpo.Study.load(path)
    ids = [study.ask()[0].id for study in (a, b, b, a, a)]
    assert ids == list(range(5))
    b.tell(0, 0.5)
    with pytest.raises(TrialConflict):
        a.tell(0, 0.6)
    a.tell(1, 0.25)
    b.refresh()
    assert b.best.id == 1
    alone = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    assert [t.params for t in alone.ask(5)] == [a[i].params for i in range(5)]
    a.close()
    b.close()


def test_a_lease_that_ran_out_is_handed_on_and_given_up_in_the_end(tmp_path):
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4), tmp_path / "a.db", lease=1e-3, max_retry=2)
    import time

    (first,) = study.ask()
    for attempt in (1, 2):
        time.sleep(2e-3)
        (again,) = study.ask()
        assert (again.id, again.attempt, again.params) == (0, attempt, first.params)
    with pytest.raises(TrialConflict, match="another worker"):
        study.tell(first, 0.5)
    time.sleep(2e-3)
    (other,) = study.ask()
    assert other.id == 1
    assert study[0].state is TrialState.FAILED and "lost 3 times" in study[0].reason
    with pytest.raises(TrialConflict, match="lost 3 times"):
        study.tell(again, 0.5)


def test_workers_are_known_by_more_than_their_pid():
    me = worker_name()
    host, pid, start = me.split("/")
    assert int(pid) == os.getpid() and not is_dead(me)
    assert is_dead(f"{host}/{pid}/1")  # the pid was taken by a younger process
    assert is_dead(f"{host}/{2**22 + 1}/{start}")
    assert is_dead(f"{host}/{os.getppid()}/1")
    assert not is_dead(f"elsewhere/{pid}/{start}")


def test_precision_of_the_first_process_is_kept(tmp_path, x64):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, GREEDY, path) as study:
        study.optimize(objective, budget=24)
        assert study.ledger.searcher().units.dtype == np.float64
    with jax.enable_x64(False), jhpo.Study.load(path) as study:
        study.ask(1)
        assert study.ledger.searcher().units.dtype == np.float64
