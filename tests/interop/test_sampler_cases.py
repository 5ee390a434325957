"""Optuna's own conformance suite for samplers, for every strategy that can be one."""

from __future__ import annotations

import gc
import itertools

import jax
import pytest

import jhpo

optuna = pytest.importorskip("optuna")
cases = pytest.importorskip("optuna.testing.pytest_samplers")
from jhpo.interop.optuna import JhpoSampler  # noqa: E402
from tests.selection import slow_except  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.ERROR)

STRATEGIES = {
    "random": jhpo.RandomSearch(4), "pso": jhpo.PSO(4), "de": jhpo.DifferentialEvolution(4), "bayes": jhpo.BayesOpt(),
    "sobol": jhpo.SobolSearch(4), "grid": jhpo.GridSearch(), "greedy": jhpo.Greedy(4), "cmaes": jhpo.CMAES(4),
    "chain": jhpo.Chain("random(population=4)", "bayes", evaluations=4, horizon=1.0), "nsga2": jhpo.NSGA2(4),
}  # fmt: skip
QUICK = slow_except({"random"}, ("random", "pso", "de"))
SEVERAL = [name for name, strategy in STRATEGIES.items() if strategy.several]

_count = itertools.count(1)


@pytest.fixture(autouse=True)
def forget_programs_of_other_spaces():
    """Nearly every case has a space of its own, and a process has room for some tens of thousands of memory maps."""
    yield
    if next(_count) % 20 == 0:
        jax.clear_caches()
        gc.collect()


@pytest.mark.slow
class TestEveryCase(cases.BasicSamplerTestCase, cases.RelativeSamplerTestCase):  # type: ignore[name-defined]
    @pytest.fixture(params=STRATEGIES)
    def sampler(self, request):
        return lambda: JhpoSampler(STRATEGIES[request.param], seed=0)


class TestOneObjective(cases.SingleOnlySamplerTestCase):  # type: ignore[name-defined]
    @pytest.fixture(params=[name for name in STRATEGIES if name not in SEVERAL])
    def sampler(self, request):
        return lambda: JhpoSampler(STRATEGIES[request.param], seed=0)


class TestSeveralObjectives(cases.MultiObjectiveSamplerTestCase):  # type: ignore[name-defined]
    @pytest.fixture(params=[pytest.param(n, marks=[] if n == "nsga2" else pytest.mark.slow) for n in SEVERAL])
    def sampler(self, request):
        return lambda: JhpoSampler(STRATEGIES[request.param], seed=0)


class Quick(cases.BasicSamplerTestCase, cases.RelativeSamplerTestCase):  # type: ignore[name-defined]
    """Without the cases that go through all pairs of distributions, a new program each."""

    test_combination_of_different_distributions_objective = None
    test_sample_relative_numerical = None
    test_sample_relative_mixed = None
    test_single_parameter_objective = None
    test_dynamic_range_objective = None

    def test_all_kinds_together_and_ranges_that_move(self, sampler):
        def objective(trial, low, high):
            x = trial.suggest_float("x", low, high) + trial.suggest_int("n", low, high)
            x += trial.suggest_float("log", 1e-7, 10.0, log=True) + trial.suggest_int("wide", 1, 100, log=True)
            x += trial.suggest_float("step", -10.2, 10.2, step=0.1) + trial.suggest_int("odd", 3, 9, step=2)
            return x + trial.suggest_categorical("kind", [0, 1, 2])

        study = optuna.create_study(sampler=sampler())
        study.optimize(lambda trial: objective(trial, 0, 10), n_trials=6)
        study.optimize(lambda trial: objective(trial, 20, 30), n_trials=2)
        assert [t.state.name for t in study.trials] == ["COMPLETE"] * 8
        assert len({tuple(t.params.values()) for t in study.trials}) == 8
        assert all(type(t.params[name]) is float for t in study.trials for name in ("x", "log", "step"))
        assert all(type(t.params[name]) is int for t in study.trials for name in ("n", "wide", "odd", "kind"))


class TestQuick(Quick):
    @pytest.fixture(params=QUICK)
    def sampler(self, request):
        return lambda: JhpoSampler(STRATEGIES[request.param], seed=0)


@pytest.mark.slow
class TestQuickBayes(Quick):
    """The most expensive strategy to compile: without the cases whose kind others show."""

    test_conditional_parameter_objective = None
    test_trial_relative_params = None
    test_nan_objective_value = None

    @pytest.fixture
    def sampler(self):
        return lambda: JhpoSampler("bayes", seed=0)
