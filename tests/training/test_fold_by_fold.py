"""One fold after the other: members are stopped between folds, and each fold is what a training of its own gives."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import KFold

import jhpo
from jhpo.curves import Curve, RacingStopping
from jhpo.curves.racing import student_tail
from jhpo.trial import TrialState
from tests.selection import slow_except
from tests.training.test_crossvalidation import L2, SPACE, Noisy, X, Y, plain_loop, regression, sgd
from tests.training.test_crossvalidation import LINE as MODEL

ORDERED = {"splits": "ordered"}


def running(folds) -> Curve:
    """The curve of a trial with these values on its folds."""
    curve = Curve()
    for k in range(1, len(folds) + 1):
        curve.append(k, float(np.mean(folds[:k])))
    return curve


def searched(**options):
    return jhpo.minimize(
        regression(**ORDERED), SPACE, jhpo.RandomSearch(8), budget=16, folds=4, fold_by_fold=True, **options
    )


@pytest.fixture(scope="module")
def raced():
    return searched(early_stop="racing")


def test_folds_are_those_of_trainings_by_themselves(raced) -> None:
    history, curves = raced.history, raced.curves
    lr = [SPACE.decode(unit)["lr"] for unit in history.units]

    def make(**more):
        return jhpo.supervised(MODEL, sgd, "regression", batch_size=8, steps=6, **more)

    each = plain_loop(make, list(KFold(4).split(X)), (X, Y), lr, history.ids)
    run = np.rint(history.horizon * 4).astype(int)
    assert curves.steps.tolist() == [1, 2, 3, 4] and set(run) > {4} and 4 in run
    np.testing.assert_array_equal(history.pruned, run < 4)
    for row, count in enumerate(run):
        means = np.cumsum(each[row, :count]) / np.arange(1, count + 1)
        np.testing.assert_allclose(list(curves.of(row).values()), means, rtol=1e-4, atol=1e-6)
        if count > 1:
            variance = each[row, :count].var(ddof=1) / count
            np.testing.assert_allclose(history.variance[row], variance, rtol=1e-2, atol=1e-8)
        else:
            assert np.isnan(history.variance[row])
    # the best of all was never stopped, and a stopped trial counts as if all folds had been run
    assert run[np.argmin(each.mean(axis=1))] == 4
    assert raced.value == pytest.approx(each.mean(axis=1).min(), rel=1e-4)
    for row in np.flatnonzero(run < 4).tolist():
        there = [i for i in range(8 if row < 8 else 16) if run[i] == 4]
        leader = each[min(there, key=lambda i: each[i].mean())]
        gain = leader.mean() - leader[: run[row]].mean()
        assert history.value[row] == pytest.approx(each[row, : run[row]].mean() + gain, rel=1e-3, abs=1e-5)
    assert raced.steps == run.sum() < 0.8 * 64 and raced.folds == f"{run.sum()} of 64" in repr(raced)
    (top,) = raced.top(1)
    assert top.state.params["w"].shape == (4, 3)


def test_without_a_rule_it_is_the_cross_validation_side_by_side(raced) -> None:
    plain = jhpo.minimize(regression(**ORDERED), SPACE, jhpo.RandomSearch(8), budget=16, folds=4)
    one_by_one = searched()
    np.testing.assert_allclose(one_by_one.history.value, plain.history.value, rtol=1e-5)
    np.testing.assert_allclose(one_by_one.history.variance, plain.history.variance, rtol=1e-3, atol=1e-9)
    whole = raced.history.horizon == 1.0
    np.testing.assert_allclose(raced.history.value[whole], plain.history.value[whole], rtol=1e-5)
    a, b = (found.top(1)[0].state.params["w"] for found in (one_by_one, plain))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", slow_except({"racing"}, ["racing", "halving"]))
def test_a_stored_study_goes_on_bit_for_bit(kind, tmp_path) -> None:
    strategy: Any = jhpo.SuccessiveHalving(6, eta=2, min_steps=1)
    options: dict[str, Any] = {}
    if kind == "racing":
        strategy, options = jhpo.PSO(6), {"early_stop": "racing(chance=0.3)"}
    study = {"folds": 4, "fold_by_fold": True, "seed": 2}
    whole = jhpo.Study(L2, strategy, **study)
    whole.optimize(Noisy(), budget=18, **options)
    path = tmp_path / "study.db"
    with jhpo.Study(L2, strategy, path, **study) as first:
        first.optimize(Noisy(), budget=18, generations=2, **options)
    with pytest.raises(jhpo.InvalidArgument, match="fold_by_fold: expected that of the stored study, True, got False"):
        jhpo.Study(L2, strategy, path, folds=4, seed=2, resume=True)
    with jhpo.Study.load(path) as again:
        assert again.fold_by_fold
        again.optimize(Noisy(), budget=18, **options)
        trials, expected = list(again), list(whole)
        assert [t.curve for t in trials] == [t.curve for t in expected]
        for name in ("unit", "value", "state"):
            pair = (getattr(one.history.table, name).array for one in (again, whole))
            np.testing.assert_array_equal(*pair)
        assert max(again.best.curve) == 4 and "folds='4 of 4'" in repr(again.best)
        some = next(t for t in trials if t.folds in ("1 of 4", "2 of 4", "3 of 4"))
        frame = again.to_frame()
        assert frame["folds"].tolist() == [max(t.curve) for t in trials] and some.folds in some._repr_html_()
        assert (some.status is TrialState.PRUNED) == (kind == "racing")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            states = again.states(Noisy(), [again.best, some])
        assert [s["w"].shape for s in states] == [(4, 3), (4, 3)]
        if kind == "racing":
            alone = jhpo.minimize(Noisy(), L2, strategy, budget=18, folds=4, fold_by_fold=True, seed=2, **options)
            np.testing.assert_array_equal(alone.history.value, whole.history.table.value.array)


def test_halving_over_folds_inside_a_program() -> None:
    halving = jhpo.SuccessiveHalving(6, eta=2, min_steps=1)
    found = jhpo.minimize(Noisy(), L2, halving, budget=6, folds=4, fold_by_fold=True)
    _, traces = jhpo.run(halving, Noisy(), L2, 3, jax.random.key(0), folds=4, fold_by_fold=True)
    sizes = [trace.value.shape[1] for trace in traces]
    assert sizes == np.isfinite(found.curves.value).sum(axis=0).tolist() and sizes[0] == 6 > sizes[-1]
    for k, trace in enumerate(traces):
        np.testing.assert_allclose(trace.value[0], found.curves.value[trace.ids[0], k], rtol=1e-5)


def test_a_race_is_a_paired_test_of_a_finite_population() -> None:
    for freedom in range(1, 9):
        for t in (0.0, 0.4, 2.5, 12.0):
            assert student_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-9, abs=1e-12)
    leader, trial = np.array([0.3, 0.5, 0.4, 0.1, 0.2]), np.array([0.36, 0.52, 0.49])
    # two trials: nothing is known of others, and K not before the leader has more folds
    for folds, finite in ((3, 1.0), (5, 1.0 - 3.0 / 5.0)):
        chance = stats.t.sf(
            np.mean(trial - leader[:3]) / np.sqrt(np.var(trial - leader[:3], ddof=1) / 3 * finite), 2
        )  # fmt: skip
        others = [running(leader[:folds])]
        stopped = [RacingStopping(c).stops(running(trial), others, 2) for c in (0.98 * chance, 1.02 * chance)]
        assert stopped == [False, True] and 0.001 < chance < 0.4
    assert not RacingStopping(0.4, min_folds=4).stops(running(trial), [running(leader)], 2)
    assert not RacingStopping(0.4).stops(running(leader[:3]), [running(trial)], 2), "a leader goes on"


def test_few_of_the_best_trials_are_stopped() -> None:
    """Simulated races: who would have won is stopped about as seldom as `chance` says, and most others are."""
    rng, rule, lost, run = np.random.default_rng(0), RacingStopping(0.05), 0, 0
    for _ in range(200):
        values = rng.normal(size=(12, 1)) + rng.normal(size=5) + 0.7 * rng.normal(size=(12, 5))
        alive, curves = np.ones(12, bool), [Curve() for _ in range(12)]
        for k in range(1, 6):
            for i in np.flatnonzero(alive):
                curves[i].append(k, values[i, :k].mean())
            judged = [i for i in np.flatnonzero(alive) if k < 5]
            stops = [rule.stops(curves[i], curves[:i] + curves[i + 1 :], k - 1) for i in judged]
            run += alive.sum()
            alive[[i for i, stop in zip(judged, stops) if stop]] = False
        lost += not alive[np.argmin(values.mean(axis=1))]
    assert lost <= 0.12 * 200 and run < 0.75 * 200 * 60


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"folds": 1, "fold_by_fold": True}, "fold_by_fold: expected folds of at least 2 beside it, got 'folds=1'"),
        ({"folds": 3, "fold_by_fold": 1}, "fold_by_fold: expected True or False, got 1"),
        ({"folds": 3, "early_stop": "racing"}, "early_stop: expected a rule for steps of training, or folds=5"),
        (
            {"folds": 3, "fold_by_fold": True, "strategy": jhpo.PopulationBasedTraining(4, exchange=1)},
            "fold_by_fold: expected False with PopulationBasedTraining, whose members change hyperparameters",
        ),
        (
            {"folds": 3, "fold_by_fold": True, "strategy": jhpo.FreezeThaw(2)},
            "fold_by_fold: expected False with FreezeThaw, which extrapolates learning curves",
        ),
        ({"folds": 3, "fold_by_fold": True, "early_stop": "racing(chance=0.6)"}, "chance: expected"),
    ],
)  # fmt: skip
def test_bad_input_says_what_to_change(call, message) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=message):
        jhpo.minimize(regression(), SPACE, **{"strategy": jhpo.RandomSearch(2), "budget": 2} | call)


def test_nothing_compiles_for_each_fold_or_generation(count_compilations) -> None:
    searched(early_stop="racing")
    with count_compilations() as seen:
        searched(early_stop="racing", key=jax.random.key(5))
    assert seen.total <= 1, seen.names


def test_a_failed_fold_is_a_failed_trial() -> None:
    class Broken(Noisy):
        """Not finite where the penalty is small, on the second fold."""

        def on_fold(self, part):
            return Broken(part.train, part.valid)

        def evaluate(self, hp, state):
            bad = (hp["l2"] < 1.0) & (self.valid[0] == 10)
            return jnp.where(bad, jnp.nan, super().evaluate(hp, state))

    found = jhpo.minimize(
        Broken(), L2, jhpo.SobolSearch(8), budget=8, folds=4, fold_by_fold=True, early_stop="racing(min_folds=3)"
    )
    bad = np.array([L2.decode(unit)["l2"] < 1.0 for unit in found.history.units])
    assert bad.any() and not bad.all()
    np.testing.assert_array_equal(np.isnan(found.history.value), bad)
    np.testing.assert_allclose(found.history.horizon[bad], 0.5)
