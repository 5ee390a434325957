"""A search with cross-validation as a scikit-learn estimator."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jhpo.errors import InvalidSpace, MissingExtra, SpaceExhausted, invalid
from jhpo.interop.values_only import values_only
from jhpo.space.listed import Choice
from jhpo.space.parameters import Parameter
from jhpo.space.space import Space
from jhpo.space.tree import as_parameter
from jhpo.strategies.base import Strategy
from jhpo.study.study import Study
from jhpo.trial import Trial
from jhpo.words.advice import advised

try:
    from sklearn.model_selection._search import BaseSearchCV
    from sklearn.utils import check_random_state, get_tags
    from sklearn.utils._param_validation import Interval
except ImportError as error:
    raise MissingExtra("jhpo.sklearn needs scikit-learn: pip install 'jhpo[sklearn]'") from error


class ClonesSpace:
    """Part of an estimator whose ``space`` may be a dict: scikit-learn's ``clone`` copies it in one piece.

    By itself it copies the parts of a dict one by one, and a condition on an estimator would name another copy of it
    than the choice has.
    """

    space: Any

    def __sklearn_clone__(self) -> Any:
        made = super().__sklearn_clone__()  # type: ignore[misc]
        made.space = copy.deepcopy(self.space)
        return made


@advised
class SearchCV(ClonesSpace, BaseSearchCV):
    """Search for the hyperparameters of a scikit-learn estimator by cross-validation, with any strategy of jhpo.

    It has the arguments, methods and attributes of ``RandomizedSearchCV``, and takes its place in pipelines, in
    ``cross_val_score`` and behind ``clone``. All candidates are scored on the same folds, also with a splitter that
    shuffles. A candidate that cannot be fitted gets ``error_score``; where that is NaN, the strategy is told a failure.

    The fits and scores of one generation run in parallel (``n_jobs``). "bayes" proposes one candidate at a time: with
    more jobs than folds use ``jhpo.BayesOpt(batch=4)``, or a strategy that works in generations.

    Args:
        estimator: what is tuned; an estimator with ``fit``, and with ``score`` if ``scoring`` is None.
        space: a `jhpo.Space`, or a dict of parameters by the names of ``estimator.get_params()``
            (``{"svc__C": jhpo.Float(1e-3, 1e3, log=True), "svc__kernel": ["rbf", "poly"]}``). A list, or another
            sequence, is a choice. A parameter whose condition does not hold keeps the value that it has in
            ``estimator``. Levels are joined: ``{"svc": {"C": ...}}`` is ``svc__C``.
        strategy: an instance or a registered name; it has to learn from the values of whole trainings.
        budget: number of candidates; fewer are tried only if a finite space ends before.
        scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score: as in
            ``RandomizedSearchCV``. With several scores, ``refit`` names the one that is maximised.
        random_state: an integer, a ``RandomState`` or None, from which the strategy's seed is drawn.

    Attributes:
        cv_results_, best_estimator_, best_params_, best_score_, best_index_: as in ``RandomizedSearchCV``, and so are
            ``n_splits_``, ``scorer_``, ``refit_time_``, ``multimetric_``, ``classes_``, ``n_features_in_`` and
            ``feature_names_in_``.
        study_: the `jhpo.Study`, for its figures, report and importance; it is left out of pickles.

    Raises:
        InvalidArgument: by `fit`, a strategy that needs gradients or shorter trainings, or several scores without the
            name of one in ``refit``.
        InvalidSpace: by `fit`, a dict whose values are neither parameters nor lists.

    >>> import jhpo
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> space = {"C": jhpo.Float(1e-3, 1e3, log=True), "solver": ["lbfgs", "newton-cg"]}
    >>> search = SearchCV(LogisticRegression(max_iter=500), space, "random", budget=8, cv=3, random_state=0)
    >>> bool(search.fit(*load_iris(return_X_y=True)).best_score_ > 0.95)
    True
    """

    _parameter_constraints: dict[str, Any] = {
        **BaseSearchCV._parameter_constraints,
        "space": [dict, Space],
        "strategy": [str, Strategy],
        "budget": [Interval(numbers.Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        space: Space | Mapping[str, Parameter | list[Any]],
        strategy: Strategy | str = "bayes",
        *,
        budget: int = 32,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[..., int] = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        random_state: int | np.random.RandomState | None = None,
        error_score: float | str = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator=estimator, scoring=scoring, n_jobs=n_jobs, refit=refit, cv=cv, verbose=verbose,
            pre_dispatch=pre_dispatch, error_score=error_score, return_train_score=return_train_score,
        )  # fmt: skip
        self.space = space
        self.strategy = strategy
        self.budget = budget
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = get_tags(self.estimator).target_tags.multi_output
        return tags

    def _run_search(self, evaluate_candidates: Callable[..., dict[str, Any]]) -> None:
        """Ask, evaluate a generation at a time, tell; called by ``fit``."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.study_ = Study(as_space(self.space), values_only(self.strategy), seed=seed, direction="maximize")
        self._metric()
        folds = _Folds(self._checked_cv_orig)
        while trials := self._ask():
            candidates = [_settings(self.study_.space, t) for t in trials]
            results = evaluate_candidates(candidates, cv=folds)
            scores = results[f"mean_test_{self._metric(results)}"][-len(trials) :]
            self.study_.tell(trials, scores.tolist())

    def _ask(self) -> list[Trial]:
        try:
            return self.study_.ask(self.study_.strategy.population, budget=self.budget)
        except SpaceExhausted:
            return []

    def _metric(self, results: Mapping[str, Any] | None = None) -> str:
        """The name of the score that is maximised; a callable `scoring` shows its names in the results only."""
        several = isinstance(self.scoring, (list, tuple, set, dict))
        if results is not None:
            several = "mean_test_score" not in results
        if not several:
            return "score"
        if isinstance(self.refit, str):
            return self.refit
        if self.refit is not False and not callable(self.refit):
            raise invalid("refit", "the name of the score to maximise, as there are several", self.refit)
        if isinstance(self.scoring, (list, tuple, dict)):
            return next(iter(self.scoring))  # the first, where scikit-learn has none either
        return next(name.removeprefix("mean_test_") for name in results or () if name.startswith("mean_test_"))

    def __getstate__(self) -> dict[str, Any]:
        """Without the study, which holds locks and compiled programs."""
        return {name: value for name, value in super().__getstate__().items() if name != "study_"}


class _Folds:
    """A splitter that splits once: the same folds for every candidate."""

    def __init__(self, splitter: Any) -> None:
        self._splitter = splitter
        self._made: list[tuple[np.ndarray, np.ndarray]] | None = None

    def split(self, X: Any, y: Any = None, **options: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if self._made is None:
            self._made = list(self._splitter.split(X, y, **options))
        return iter(self._made)


def as_space(space: Space | Mapping[str, Any]) -> Space:
    """A space, also from a dict of parameters and lists of choices, perhaps nested.

    Raises:
        InvalidSpace: a value that is neither.
    """
    return space if isinstance(space, Space) else Space({str(k): _parameter(str(k), v) for k, v in space.items()})


def _parameter(name: str, value: Any) -> Any:
    if isinstance(value, Parameter):
        return value
    if isinstance(value, Mapping):
        return {str(k): _parameter(f"{name}.{k}", v) for k, v in value.items()}
    if isinstance(value, np.ndarray) or (isinstance(value, Sequence) and not isinstance(value, str)):
        return Choice(list(value))
    expected = "a parameter (jhpo.Float, Int, Choice, Ordinal) or a list"
    raise invalid(name, expected, value, InvalidSpace, note=as_parameter(value))


def _settings(space: Space, trial: Trial) -> dict[str, Any]:
    """A trial's hyperparameters as arguments of ``set_params``: the levels of a nested space are joined by ``__``."""
    return {name.replace(".", "__"): value for name, value in space.flat(trial.params).items()}
