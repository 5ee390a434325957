"""`SearchCV` beside scikit-learn's own searches, and in scikit-learn's checks of estimators."""

from __future__ import annotations

import pickle  # noqa: TID251 what scikit-learn's users do with estimators

import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument, InvalidSpace

sklearn = pytest.importorskip("sklearn")
from scipy.stats import loguniform  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.dummy import DummyClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.model_selection import GridSearchCV, ShuffleSplit  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler, StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from jhpo.sklearn import SearchCV  # noqa: E402

X, Y = load_iris(return_X_y=True)
C = jhpo.Float(1e-2, 1e2, log=True)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([SearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, "random", budget=2, cv=2, random_state=0)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([
    SearchCV(Ridge(), {"alpha": jhpo.Float(0.1, 1.0)}, jhpo.PSO(3), budget=3, cv=2),
    SearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": C}, "bayes", budget=2, cv=2, error_score="raise"),
    SearchCV(LogisticRegression(), {"C": C}, budget=2, cv=2, scoring=["accuracy", "f1_macro"], refit="accuracy"),
])  # fmt: skip
def test_scikit_learns_checks_of_other_kinds(estimator, check):
    check(estimator)


def test_a_grid_gives_what_grid_search_cv_gives():
    grid = {
        "svc__C": [0.1, 1.0, 10.0],
        "svc__kernel": ["rbf", "linear"],
        "standardscaler": [MinMaxScaler(), "passthrough"],
    }
    pipe = make_pipeline(StandardScaler(), SVC())
    theirs = GridSearchCV(pipe, grid, cv=3, return_train_score=True).fit(X, Y)
    mine = SearchCV(pipe, grid, "grid", budget=99, cv=3, return_train_score=True).fit(X, Y)
    key = lambda p: (p["svc__C"], p["svc__kernel"], str(p["standardscaler"]))  # noqa: E731
    order = [[key(p) for p in mine.cv_results_["params"]].index(key(p)) for p in theirs.cv_results_["params"]]
    assert len(order) == len(mine.cv_results_["params"]) == 12
    for name in ("split0_test_score", "mean_test_score", "std_test_score", "mean_train_score", "rank_test_score"):
        np.testing.assert_array_equal(mine.cv_results_[name][order], theirs.cv_results_[name])
    assert set(mine.cv_results_) == set(theirs.cv_results_) and mine.best_score_ == theirs.best_score_
    assert mine.score(X, Y) == mine.best_estimator_.score(X, Y) and mine.classes_.tolist() == [0, 1, 2]
    assert mine.study_.best.value == mine.best_score_ and len(mine.study_) == 12


def test_any_sequence_is_a_choice_and_levels_are_joined():
    pipe = make_pipeline(StandardScaler(), SVC())
    space = {"svc": {"degree": range(2, 4), "C": np.array([0.1, 1.0])}}
    found = SearchCV(pipe, space, "grid", cv=2).fit(X, Y)
    assert {p["svc__degree"] for p in found.cv_results_["params"]} == {2, 3} and found.best_params_["svc__C"] == 1.0


def test_every_candidate_has_the_same_folds_and_a_seed_repeats_the_search():
    splitter = ShuffleSplit(2, test_size=0.2)  # other folds in every call of `split`
    search = SearchCV(DummyClassifier(), {"constant": jhpo.Int(0, 2)}, jhpo.PSO(3), budget=6, cv=splitter)
    found = search.fit(X, Y).cv_results_
    assert len(found["params"]) == 6 and len(set(found["split0_test_score"])) == 1
    seeded = SearchCV(LogisticRegression(), {"C": C}, "random", budget=3, cv=2, random_state=3)
    a, b = clone(seeded).fit(X, Y), clone(seeded).fit(X, Y)
    assert a.best_params_ == b.best_params_ and a.cv_results_["params"] == b.cv_results_["params"]


def test_nested_and_conditional_spaces_failures_and_pickles():
    space = jhpo.Space({"svc": {
        "kernel": jhpo.Choice(["poly", "rbf"]), "degree": jhpo.Int(1, 2, when={"svc.kernel": "poly"}),
        "C": jhpo.Choice([1.0, -1.0]),
    }})  # fmt: skip
    search = SearchCV(make_pipeline(StandardScaler(), SVC()), space, "random", budget=12, cv=2, random_state=1)
    with pytest.warns(UserWarning) as warned:
        search.fit(X, Y)
    assert any("fits failed" in str(w.message) for w in warned)
    results = search.cv_results_
    bad = np.asarray([p["svc__C"] < 0 for p in results["params"]])
    assert 0 < bad.sum() < 12 and np.isnan(results["mean_test_score"]).tolist() == bad.tolist()
    assert len(search.study_.failures) == bad.sum() and search.best_params_["svc__C"] == 1.0
    assert all(("svc__degree" in p) == (p["svc__kernel"] == "poly") for p in results["params"])
    assert results["param_svc__degree"].mask.tolist() == [p["svc__kernel"] == "rbf" for p in results["params"]]
    again = pickle.loads(pickle.dumps(search))  # noqa: S301 our own bytes
    assert (again.predict(X) == search.predict(X)).all() and not hasattr(again, "study_")
    with pytest.raises(ValueError, match="C"):
        clone(search).set_params(error_score="raise").fit(X, Y)


@pytest.mark.slow
def test_several_scores():
    scores = {"scoring": ["accuracy", "neg_log_loss"], "cv": 2, "budget": 3, "random_state": 0}
    search = SearchCV(LogisticRegression(), {"C": C}, "random", refit="neg_log_loss", **scores).fit(X, Y)
    assert search.best_score_ == search.cv_results_["mean_test_neg_log_loss"].max() == search.study_.best.value
    two = lambda estimator, x, y: {"a": estimator.score(x, y), "b": -1.0}  # noqa: E731
    search = SearchCV(LogisticRegression(), {"C": C}, "random", refit="a", **scores | {"scoring": two}).fit(X, Y)
    assert search.multimetric_ and search.best_score_ == search.study_.best.value
    search = SearchCV(LogisticRegression(), {"C": C}, "random", refit=False, **scores | {"scoring": two}).fit(X, Y)
    assert search.study_.best.value == search.cv_results_["mean_test_a"].max()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"space": {"C": 1.0}}, InvalidSpace, "C: expected a parameter"),
        ({"space": {"C": loguniform(0.1, 1.0)}}, InvalidSpace, "is jhpo.Float"),
        ({"space": {"svc": {"C": 1.0}}}, InvalidSpace, "svc.C: expected a parameter"),
        ({"space": {"C": []}}, InvalidSpace, "choices: expected a list of at least one value"),
        ({"space": {"c": C}}, ValueError, "Invalid parameter 'c'"),
        ({"strategy": "hypergradient"}, InvalidArgument, "strategy: expected one that learns from values"),
        ({"strategy": "hyperband"}, InvalidArgument, "strategy: expected one that learns from values"),
        ({"strategy": "none"}, InvalidArgument, "strategy: expected one of"),
        ({"budget": 0}, ValueError, "budget"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        SearchCV(
            **{"estimator": LogisticRegression(), "space": {"C": C}, "strategy": "random", "cv": 2} | arguments
        ).fit(X, Y)


@pytest.mark.parametrize("space_of", [jhpo.Space, dict])
def test_estimators_as_choices_with_hyperparameters_of_their_own(space_of) -> None:
    svm, linear = SVC(), LogisticRegression(max_iter=500)
    gamma = jhpo.Float(0.01, 1.0, when={"svc": svm})
    space = space_of({"svc": jhpo.Choice([svm, linear]), "svc__gamma": gamma, "svc__C": C})
    search = SearchCV(make_pipeline(StandardScaler(), SVC()), space, "random", budget=6, cv=2, random_state=0).fit(X, Y)
    kinds = {type(params["svc"]) for params in search.cv_results_["params"]}
    assert kinds == {SVC, LogisticRegression}
    for params in search.cv_results_["params"]:
        assert ("svc__gamma" in params) == isinstance(params["svc"], SVC)
    again = clone(search)
    assert again.space is not space and again.fit(X, Y).best_score_ == search.best_score_ > 0.8


@pytest.mark.parametrize("refit", [False, lambda results: int(results["rank_test_f1_macro"].argmin())])
def test_of_several_scores_the_first_is_maximised_where_none_is_named(refit) -> None:
    scores = {"scoring": ["accuracy", "f1_macro"], "budget": 3, "cv": 2}
    search = SearchCV(LogisticRegression(), {"C": C}, "random", refit=refit, **scores).fit(X, Y)
    assert search.study_.best.value == search.cv_results_["mean_test_accuracy"].max()
    assert hasattr(search, "best_params_") == callable(refit)
