"""Names that are not there: arguments and classes as other libraries call them, or misspelt."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import jhpo
from jhpo.interop.optuna import JhpoSampler, from_optuna, run
from tests.test_mistakes import SPACE, Descent, asked_with


def bowl(hp: Any) -> Any:
    return hp["lr"]


def study() -> Any:
    return asked_with("random")


# what is called, by which name, an argument that it does not have, and what may have been meant
FOREIGN: list[tuple[Callable[[], Any], str, str, str]] = [
    (lambda: partial(jhpo.minimize, bowl, SPACE, "pso"), "minimize", "n_trials", "did you mean budget?"),
    (lambda: partial(jhpo.minimize, bowl, SPACE), "minimize", "n_jobs", "JAX functions run in parallel anyway"),
    (lambda: partial(jhpo.minimize, bowl, SPACE), "minimize", "direction", "a search is jhpo.minimize, jhpo.maximize"),
    (lambda: partial(jhpo.minimize, bowl, SPACE), "minimize", "verbose", "did you mean callback=jhpo.ProgressBar()?"),
    (lambda: partial(jhpo.minimize, bowl, SPACE), "minimize", "buget", "did you mean budget?"),
    (lambda: partial(jhpo.maximize, bowl, SPACE), "maximize", "sampler", "did you mean strategy?"),
    (lambda: partial(jhpo.run, "pso", bowl, SPACE, 3), "run", "random_state", "did you mean key?"),
    (lambda: partial(jhpo.Study, SPACE), "Study.__init__", "load_if_exists", "did you mean resume?"),
    (lambda: partial(jhpo.Study, SPACE), "Study.__init__", "early_stop", "what stops trials early is minimize("),
    (lambda: jhpo.Study.load, "Study.load", "study_name", "did you mean storage?"),
    (lambda: partial(study().optimize, bowl), "Study.optimize", "timeout", "did you mean seconds?"),
    (lambda: study().ask, "Study.ask", "n_points", "did you mean n?"),
    (lambda: partial(study().tell, 0, 1.0), "Study.tell", "state", "did you mean error?"),
    (lambda: partial(study().tell, 0, 1.0), "Study.tell", "constraint", "a limit on hyperparameters is Space("),
    (lambda: partial(study().absorb, [], []), "Study.absorb", "constraints", "a limit on hyperparameters is Space("),
    (lambda: study().enqueue, "Study.enqueue", "param", "did you mean params?"),
    (lambda: partial(jhpo.Tuning, bowl, SPACE), "Tuning.__init__", "max_evals", "did you mean budget?"),
    (lambda: jhpo.Tuning(bowl, SPACE).run, "Tuning.run", "max_evals", "did you mean budget?"),
    (lambda: jhpo.PSO, "PSO.__init__", "n_particles", "did you mean population?"),
    (lambda: jhpo.CMAES, "CMAES.__init__", "seed", "the seed is that of minimize(..., seed=...)"),
    (lambda: jhpo.BayesOpt, "BayesOpt.__init__", "n_initial_points", "did you mean initial?"),
    (lambda: jhpo.ASHA, "ASHA.__init__", "reduction_factor", "did you mean eta?"),
    (lambda: partial(jhpo.sklearn.SearchCV, None, {}), "SearchCV.__init__", "n_iter", "did you mean budget?"),
    (lambda: partial(run, bowl), "run", "n_trials", "did you mean budget?"),
    (lambda: partial(from_optuna, None), "from_optuna", "sampler", "did you mean strategy?"),
    (lambda: partial(JhpoSampler, "pso"), "JhpoSampler.__init__", "random_state", "did you mean seed?"),
    (lambda: partial(jhpo.host, bowl), "host", "n_jobs", "did you mean workers?"),
    (lambda: partial(jhpo.hypergrad, Descent(), {}, None), "hypergrad", "max_t", ""),
    (lambda: jhpo.supervised, "supervised", "task", "did you mean loss?"),
    (lambda: jhpo.Choice, "Choice.__init__", "chioces", "did you mean choices?"),
    (lambda: partial(jhpo.Ordinal, [1]), "Ordinal.__init__", "names", ""),
    (lambda: partial(jhpo.Float, 0, 1), "Float.__init__", "step", "a Float has no steps"),
    (lambda: partial(jhpo.Int, 2, 8), "Int.__init__", "static", "a Python number in the objective is jhpo.Ordinal("),
]


@pytest.mark.parametrize(
    ("called", "name", "argument", "meant"), FOREIGN, ids=[f"{name}-{argument}" for _, name, argument, _ in FOREIGN]
)
def test_arguments_by_the_names_of_other_libraries(called: Any, name: str, argument: str, meant: str) -> None:
    message = f"{name}() got an unexpected keyword argument '{argument}'" + f"; {meant}" * bool(meant)
    with pytest.raises(TypeError, match=f"^{re.escape(message)}" + "$" * (not meant)):
        called()(**{argument: 1})


def test_options_of_a_tuning_name_its_method() -> None:
    tuning = jhpo.Tuning(bowl, SPACE, "random", budget=2)
    for name, advice in (("direction", "it is an argument of Tuning"), ("buget", r"did you mean budget\?")):
        with pytest.raises(TypeError, match=rf"^Tuning\.run\(\) got an unexpected .* '{name}'; {advice}$"):
            tuning.run(**{name: 1})


def test_options_of_a_strategy_as_text_by_the_names_of_other_libraries() -> None:
    with pytest.raises(jhpo.InvalidArgument, match=r"popsize: expected one of .*, got 5; did you mean population\?"):
        jhpo.strategies.strategy_from_text("pso(popsize=5)")


def test_calls_without_an_argument_name_the_class_that_was_called() -> None:
    with pytest.raises(TypeError, match=r"^Study\.optimize\(\) missing 1 required positional argument: 'objective'$"):
        study().optimize()
    with pytest.raises(TypeError, match=r"^Study\.top\(\) takes from 1 to 2 positional arguments but 3 were given$"):
        study().top(1, 2)


def test_errors_inside_of_a_call_stay_as_they_are() -> None:
    def wrong(params: Any) -> Any:
        return bowl(n_trials=3)  # type: ignore[call-arg]

    with pytest.raises(jhpo.JhpoError, match=r"bowl\(\) got an unexpected keyword argument 'n_trials'"):
        jhpo.minimize(wrong, SPACE, "random", 2)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Sobol", "; did you mean SobolSearch?"),
        ("minimise", "; did you mean minimize?"),
        ("NSGAII", "; did you mean NSGA3 or NSGA2?"),
        ("bayesopt", "; did you mean BayesOpt?"),
        ("Categorical", "; did you mean Choice?"),
        ("LogUniform", "; did you mean Float(low, high, log=True)?"),
        ("Quaternion", ""),
    ],
)
def test_names_that_are_not_there_name_those_that_are(name: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'{re.escape(meant)}$"):
        getattr(jhpo, name)
    assert not hasattr(jhpo, "__wrapped__")
