"""`PopulationSearchCV`: folds side by side, in scikit-learn's tools and checks of estimators."""

from __future__ import annotations

import pickle  # noqa: TID251 what scikit-learn's users do with estimators

import numpy as np
import optax
import pytest

import jhpo
from jhpo.errors import InvalidArgument

sklearn = pytest.importorskip("sklearn")
from sklearn.base import clone, is_classifier, is_regressor  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from jhpo.sklearn import PopulationSearchCV  # noqa: E402

X, LABELS = load_iris(return_X_y=True)
Y = np.array(["setosa", "versicolor", "virginica"])[LABELS]
RATES = {"lr": jhpo.Float(1e-2, 0.5, log=True)}
SPACE = jhpo.Space(RATES)


def classes(x, y):
    model = jhpo.masked_mlp([], [], outputs=max(int(y.max()) + 1, 2))
    return jhpo.supervised(model, lambda hp: optax.adam(hp["lr"]), train=(x, y), batch_size=None, steps=60)


def numbers(x, y):
    targets = y.reshape(len(y), -1)
    model = jhpo.masked_mlp([], [], outputs=targets.shape[1])
    return jhpo.supervised(
        model, lambda hp: optax.adam(hp["lr"]), "regression", train=(x, targets), batch_size=None, steps=60
    )


def test_a_search_is_a_classifier():
    search = PopulationSearchCV(
        classes, SPACE, jhpo.RandomSearch(4), budget=4, cv=StratifiedKFold(3), scoring="accuracy", random_state=0
    )
    pipe = make_pipeline(StandardScaler(), search).fit(X, Y)
    assert is_classifier(search) and search.classes_.tolist() == sorted(set(Y)) and search.n_splits_ == 3
    assert pipe.score(X, Y) == np.mean(pipe.predict(X) == Y) > 0.9
    results = search.cv_results_
    assert search.best_score_ == results["mean_test_score"].max() == results["mean_test_score"][search.best_index_]
    assert search.best_params_ == results["params"][search.best_index_] and results["rank_test_score"].min() == 1
    assert results["param_lr"].tolist() == [p["lr"] for p in results["params"]] and (results["horizon"] == 1).all()
    # the folds are those of the splitter: the same training by hand
    scaled = StandardScaler().fit_transform(X)
    task = jhpo.supervised(
        jhpo.masked_mlp([], [], outputs=3), lambda hp: optax.adam(hp["lr"]), train=(scaled, LABELS), batch_size=None,
        steps=60, metric="accuracy", splits=list(StratifiedKFold(3).split(scaled, LABELS)),
    )  # fmt: skip
    by_hand = jhpo.Study(SPACE, jhpo.RandomSearch(4), seed=search.study_.seed, direction="maximize", folds=3)
    by_hand.optimize(task, 4)
    np.testing.assert_allclose(results["mean_test_score"], by_hand.history.table.value.array, atol=0.02)
    probabilities = search.predict_proba(scaled[:5])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    again = pickle.loads(pickle.dumps(search))  # noqa: S301 our own bytes
    assert (again.predict(scaled) == search.predict(scaled)).all() and not hasattr(again, "study_")


@pytest.mark.slow
def test_regression_groups_ensembles_and_failures():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = x @ np.array([[1.0, 0.0], [2.0, 1.0], [0.0, -1.0]])
    groups = np.arange(60) // 10
    diverges = jhpo.Space({"lr": jhpo.Choice([0.05, 0.1, 1e30])})

    def two(x, y):
        model = jhpo.masked_mlp([], [], outputs=2)
        return jhpo.supervised(
            model, lambda hp: optax.sgd(hp["lr"]), "regression", train=(x, y), batch_size=48, steps=60
        )

    search = PopulationSearchCV(
        two, diverges, "grid", kind="regression", budget=3, cv=GroupKFold(3), ensemble=2, random_state=0
    )
    with pytest.raises(InvalidArgument, match="batch_size: expected at most 40"):
        clone(search).fit(x, y, groups=groups)

    def whole(x, y):
        model = jhpo.masked_mlp([], [], outputs=2)
        tx = lambda hp: optax.sgd(hp["lr"])  # noqa: E731
        return jhpo.supervised(model, tx, "regression", train=(x, y), batch_size=None, steps=60)

    search.set_params(task=whole).fit(x, y, groups=groups)
    assert is_regressor(search) and search.score(x, y) > 0.9 and search.predict(x).shape == (60, 2)
    assert np.isnan(search.cv_results_["mean_test_score"]).sum() == 1 and search.best_score_ < 0.0
    assert search.cv_results_["rank_test_score"][np.isnan(search.cv_results_["mean_test_score"])].tolist() == [3]
    assert len(search.model_) == 2
    scores = cross_val_score(
        PopulationSearchCV(numbers, SPACE, "random", kind="regression", budget=2, cv=2), x, y[:, 0]
    )
    assert scores.shape == (5,)
    # members that are paused are ranked behind those that were trained to the end
    halving = PopulationSearchCV(
        whole, jhpo.Space({"lr": jhpo.Float(1e-3, 0.1)}), jhpo.SuccessiveHalving(4, eta=2, min_steps=10),
        kind="regression", budget=4, cv=2, random_state=0,
    ).fit(x, y)  # fmt: skip
    horizon, rank = halving.cv_results_["horizon"], halving.cv_results_["rank_test_score"]
    assert horizon.min() < 1.0 == horizon[halving.best_index_] and (horizon[np.argsort(rank)][:1] == 1.0).all()


def test_arrays_and_tuples_are_cells_of_the_results():
    space = RATES | {
        "net": jhpo.Choice([(8, 8), (16, 16)], static=True), "scale": jhpo.Float(1.0, 2.0, shape=(2,)),
        "bias": jhpo.Float(1.0, 2.0, shape=(2,), when={"net": (8, 8)}),
    }  # fmt: skip
    found = PopulationSearchCV(classes, space, jhpo.RandomSearch(6), budget=6, cv=2, random_state=0).fit(X, Y)
    results = found.cv_results_
    assert set(results["param_net"]) == {(8, 8), (16, 16)}
    assert [cell.shape for cell in results["param_scale"]] == [(2,)] * 6
    assert results["param_bias"].mask.tolist() == [net == (16, 16) for net in results["param_net"]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"task": lambda x, y: 3.0}, InvalidArgument, "task: expected a function task"),
        ({"task": numbers}, InvalidArgument, "kind: expected that of the task, 'regression'"),
        ({"scoring": "r2"}, InvalidArgument, "metrics: r2: expected one for classification"),
        ({"scoring": "best"}, ValueError, "scoring"),
        ({"budget": 0}, ValueError, "budget"),
        ({"strategy": "none"}, InvalidArgument, "strategy: expected one of"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        PopulationSearchCV(**{"task": classes, "space": SPACE, "strategy": "random", "cv": 2} | arguments).fit(X, Y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([
    PopulationSearchCV(classes, RATES, jhpo.RandomSearch(2), budget=2, cv=2, random_state=0),
    PopulationSearchCV(numbers, RATES, jhpo.RandomSearch(2), kind="regression", budget=2, cv=2, random_state=0),
])  # fmt: skip
def test_scikit_learns_checks(estimator, check):
    """All of them, for classes and for numbers in one or several columns; none is expected to fail."""
    check(estimator)
