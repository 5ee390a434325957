"""Populations of JAX models, cross-validated in one program, as a scikit-learn estimator."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, MissingExtra, invalid, nothing_is_said
from jhpo.evaluation.ensemble import Ensemble, ensemble_of
from jhpo.evaluation.population import Population
from jhpo.interop.search_cv import ClonesSpace, as_space
from jhpo.process.switches import with_transfers
from jhpo.space.parameters import Parameter
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy
from jhpo.strategies.usual import usual
from jhpo.study.study import Study
from jhpo.training.folds import given_folds
from jhpo.training.metrics import NAMES, direction_of, measure
from jhpo.training.supervised import Supervised
from jhpo.words.advice import advised

try:
    from sklearn.base import BaseEstimator, _fit_context
    from sklearn.metrics import accuracy_score, r2_score
    from sklearn.model_selection import check_cv
    from sklearn.utils import ClassifierTags, RegressorTags, Tags, check_random_state
    from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise MissingExtra("jhpo.sklearn needs scikit-learn: pip install 'jhpo[sklearn]'") from error

_CLASSES, _NUMBERS = "classification", "regression"
_NOT_PICKLED = ("study_", "model_")  # they hold functions, locks and compiled programs


def _floats() -> np.dtype[Any]:
    """JAX's default float."""
    return np.dtype(jnp.result_type(float))


def _cells(values: Sequence[Any]) -> np.ma.MaskedArray[Any, Any]:
    """``object[n]``: values, masked where there is none; arrays and tuples are cells, too."""
    cells = np.empty(len(values), object)
    for place, value in enumerate(values):
        cells[place] = value
    return np.ma.masked_array(cells, [value is np.ma.masked for value in values])


def _classifies(search: PopulationSearchCV) -> bool:
    return search.kind == _CLASSES


@advised
class PopulationSearchCV(ClonesSpace, BaseEstimator):
    """Search for the hyperparameters of a JAX model by cross-validation: all candidates and folds in one program.

    Where `jhpo.sklearn.SearchCV` fits scikit-learn's estimators one by one, this trains a whole generation of flax (or
    equinox, or plain JAX) models on every fold at once. It takes the place of a classifier or regressor in pipelines,
    in ``cross_val_score`` and behind ``clone``.

    Args:
        task: ``task(x, y)`` returns a `jhpo.supervised` task of these data, without ``valid``. `x` are floats (a model
            of tokens casts them back), for classification `y` are labels 0, 1, ..., whatever the classes are called.
            Define it at the top level of a module if the search is to be pickled.
        space: a `jhpo.Space`, or a dict of parameters, in which a list is a choice.
        strategy: an instance or a registered name, also one that needs gradients or pauses members; by default as in
            `jhpo.minimize`.
        kind: "classification" or "regression".
        budget: number of candidates.
        cv: as in ``GridSearchCV``: number of folds (5), a splitter, or pairs of index arrays.
        scoring: the metric that is tuned, a name of ``jhpo.metrics.NAMES`` ("accuracy", "f1", "r2", ...); that of the
            task by default, its validation loss. It is computed in the program that trains.
        refit: whether to train the best on all rows, for `predict`.
        ensemble: how many of the best are trained on all rows and predict together.
        random_state: an integer, a ``RandomState`` or None, from which the search's seed is drawn.

    Attributes:
        best_params_, best_score_, best_index_, n_splits_, classes_, n_features_in_, feature_names_in_: as in
            ``GridSearchCV``. Scores are the higher the better: a loss has a minus sign.
        cv_results_: "params", "mean_test_score", "std_test_score", "rank_test_score", a "param_<name>" for each
            parameter, and "horizon": the share of the training after which a candidate was measured. A candidate
            that diverged has NaN.
        model_: the `jhpo.Ensemble` of the trained models, with their states.
        study_: the `jhpo.Study`, for its figures, report and importance. Pickles lack it.

    Raises:
        InvalidArgument: by `fit`, a task that is no `jhpo.supervised` task of this kind, or an unknown metric.
        JhpoError: by `fit`, if every candidate failed.

    >>> import jhpo, optax
    >>> from sklearn.datasets import load_iris
    >>> def task(x, y):
    ...     model = jhpo.masked_mlp([8], [8], outputs=3)
    ...     return jhpo.supervised(model, lambda hp: optax.adam(hp["lr"]), train=(x, y), batch_size=None, steps=60)
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-3, 0.1, log=True)})
    >>> search = PopulationSearchCV(task, space, budget=16, cv=3, random_state=0)
    >>> bool(search.fit(*load_iris(return_X_y=True)).score(*load_iris(return_X_y=True)) > 0.9)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        "task": [callable],
        "space": [dict, Space],
        "strategy": [str, Strategy, None],
        "kind": [StrOptions({_CLASSES, _NUMBERS})],
        "budget": [Interval(numbers.Integral, 1, None, closed="left")],
        "cv": ["cv_object", HasMethods("split")],
        "scoring": [StrOptions(set(NAMES)), None],
        "refit": ["boolean"],
        "ensemble": [Interval(numbers.Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        task: Callable[[np.ndarray, np.ndarray], Supervised],
        space: Space | Mapping[str, Parameter | list[Any]],
        strategy: Strategy | str | None = None,
        *,
        kind: str = _CLASSES,
        budget: int = 64,
        cv: Any = None,
        scoring: str | None = None,
        refit: bool = True,
        ensemble: int = 1,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.task, self.space, self.strategy, self.kind = task, space, strategy, kind
        self.budget, self.cv, self.scoring = budget, cv, scoring
        self.refit, self.ensemble, self.random_state = refit, ensemble, random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        if _classifies(self):
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        else:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
            tags.target_tags.multi_output = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    @with_transfers
    def fit(self, X: Any, y: Any, groups: Any = None) -> PopulationSearchCV:
        """Search, and train the best on all rows; `groups` are for the splitter."""
        X, y = validate_data(
            self, X, y, dtype=_floats(), allow_nd=True, ensure_min_samples=2, y_numeric=not _classifies(self),
            multi_output=not _classifies(self),
        )  # fmt: skip
        targets = self._targets(y)
        splits = list(check_cv(self.cv, targets, classifier=_classifies(self)).split(X, targets, groups))
        self.n_splits_, self._data = len(splits), (X, targets)
        task = self._made()
        folded = dataclasses.replace(task, splits=given_folds(splits, len(X)))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        direction = direction_of(task) or "minimize"
        self._space = as_space(self.space)
        strategy = usual(self._space, self.budget) if self.strategy is None else self.strategy
        self.study_ = Study(self._space, strategy, seed=seed, direction=direction, folds=self.n_splits_)
        with nothing_is_said():  # but by the error that there is no best
            self.study_.optimize(folded, self.budget)
        self._keep_results(1.0 if direction == "maximize" else -1.0)
        if self.refit:
            trials = self.study_.top(self.ensemble)
            self._units = np.stack([trial.unit for trial in trials])
            whole = dataclasses.replace(task, valid=task.train)
            ids = np.arange(len(trials), dtype=np.uint32)
            self._states = Population(whole, self._space).states(self._units, ids, self.study_.root)
            self.model_ = self._ensemble(task)
        return self

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Labels 0, 1, ..., or the numbers."""
        if not _classifies(self):
            return y.astype(_floats())
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: expected at least two classes, got the class {self.classes_[0]!r} alone")
        return labels

    def _made(self) -> Supervised:
        """The task of the training data."""
        task = self.task(*self._data)
        if not isinstance(task, Supervised) or task.valid is not None:
            raise invalid("task", "a function task(x, y) that returns jhpo.supervised(..., train=(x, y))", task)
        if task.task not in (self.kind, None):
            raise invalid("kind", f"that of the task, {task.task!r}", self.kind)
        return task if self.scoring is None else task.with_metric(self.scoring)

    def _keep_results(self, sign: float) -> None:
        """Set ``cv_results_`` and what follows from it; `sign` turns values into scores."""
        study = self.study_
        table, trials = study.history.table, [study[number] for number in range(len(study))]
        score = sign * table.value.array
        horizon = table.horizon.array.copy()
        # the variance of the mean over the folds, as the deviation that scikit-learn gives
        spread = np.sqrt(table.extra["variance"].array * (self.n_splits_ - 1)) if "variance" in table.extra else None
        # measured after the longest training first, failures last
        order = np.lexsort((-np.nan_to_num(score, nan=-np.inf), -horizon))
        rank = np.empty(len(score), np.int32)
        rank[order] = np.arange(1, len(score) + 1)
        flat = [self._space.flat(trial.params) for trial in trials]
        self.cv_results_: dict[str, Any] = {
            f"param_{name}": _cells([params.get(name, np.ma.masked) for params in flat]) for name in self._space.names
        }
        self.cv_results_ |= {
            "params": [trial.params for trial in trials], "mean_test_score": score, "rank_test_score": rank,
            "std_test_score": np.full(len(score), np.nan) if spread is None else spread, "horizon": horizon,
        }  # fmt: skip
        best = study.best
        self.best_index_, self.best_params_, self.best_score_ = best.id, best.params, sign * best.value

    def _ensemble(self, task: Supervised) -> Ensemble:
        return ensemble_of(task, self._space, self._units, self._states)

    @with_transfers
    def _outputs(self, X: Any) -> np.ndarray:
        """Probabilities ``[n, classes]``, or numbers like the targets."""
        if not self.refit:
            raise InvalidArgument("refit: expected True for a search that predicts, got False")
        check_is_fitted(self, "_units")
        X = validate_data(self, X, reset=False, dtype=_floats(), allow_nd=True)
        if not hasattr(self, "model_"):  # unpickled
            self.model_ = self._ensemble(self._made())
        return np.asarray(self.model_.predict(X))

    def predict(self, X: Any) -> np.ndarray:
        """Classes, or numbers like the targets: float64, as scikit-learn's are, though computed in JAX's precision."""
        outputs = self._outputs(X)
        if _classifies(self):
            return self.classes_[outputs.argmax(axis=-1).reshape(-1)]
        return outputs.reshape(len(outputs), *self._data[1].shape[1:]).astype(np.float64)

    @available_if(_classifies)
    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, ``[n, classes]``."""
        return self._outputs(X)

    def score(self, X: Any, y: Any) -> float:
        """The score of ``scoring``, the higher the better; by default accuracy, or R² for regression."""
        if self.scoring is None:
            return float((accuracy_score if _classifies(self) else r2_score)(y, self.predict(X)))
        if not _classifies(self):
            found = measure(self.scoring, self.predict(X), y)
        else:
            missing = np.setdiff1d(y, self.classes_)
            if len(missing):
                raise ValueError(f"y: expected the classes that were fitted, got {missing[0]!r}")
            found = measure(self.scoring, self._outputs(X), np.searchsorted(self.classes_, y))
        return found if NAMES[self.scoring] == "maximize" else -found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in _NOT_PICKLED}
