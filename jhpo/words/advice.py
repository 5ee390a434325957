"""Names that jhpo does not have are answered by those it has: misspelt ones, and what other libraries call them."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# public names, as other libraries call them
_ELSEWHERE = {
    "bayesianoptimization": "BayesOpt",
    "categorical": "Choice",
    "createstudy": "Study",
    "fmin": "minimize",
    "integer": "Int",
    "loadstudy": "Study.load",
    "loguniform": "Float(low, high, log=True)",
    "randint": "Int",
    "real": "Float",
    "searchspace": "Space",
    "uniform": "Float",
}

# Arguments as Optuna, scikit-optimize, Ray Tune, Hyperopt, BoTorch, SciPy and scikit-learn call them; those of jhpo, of
# which the first that a function has is meant; and what to say where it has none of them.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (
        "n_trials num_trials total_trials max_trials trials max_evals n_evals max_evaluations evaluations n_calls "
        "num_samples n_samples n_iter num_iter max_fun maxfev",
        "budget evaluations",
        "evaluations are counted by minimize(..., budget=...), study.optimize(..., budget=...)",
    ),
    (
        "max_iter maxiter n_iterations num_iterations iterations n_generations num_generations max_generations",
        "generations budget",
        "the length of a search is that of minimize(..., budget=...), study.optimize(..., budget=...)",
    ),
    (
        "timeout time_budget time_budget_s max_time time_limit max_seconds",
        "seconds timeout",
        "time is limited by minimize(..., seconds=...), study.optimize(..., seconds=...)",
    ),
    (
        "n_jobs num_workers n_workers max_workers parallelism concurrency max_concurrent max_concurrent_trials "
        "parallel workers",
        "workers n_jobs",
        "JAX functions run in parallel anyway, others by jhpo.host(objective, workers=...)",
    ),
    (
        "direction mode maximize maximise minimize minimise is_maximize",
        "direction",
        "a search is jhpo.minimize, jhpo.maximize or Study(..., direction='maximize')",
    ),
    (
        "random_state random_seed seed rng rstate prng_key key generator",
        "seed key random_state",
        "the seed is that of minimize(..., seed=...), Study(..., seed=...)",
    ),
    (
        "sampler algo algorithm search_alg search_algorithm suggest method searcher optimizer strategy",
        "strategy search optimizer method",
        "a strategy is an argument of minimize, run and Study",
    ),
    (
        "pruner scheduler early_stopping early_stopper stopper pruning",
        "early_stop",
        "what stops trials early is minimize(..., early_stop=...), study.optimize(..., early_stop=...)",
    ),
    (
        "search_space param_space parameter_space dimensions bounds pbounds params parameters param_distributions "
        "param_grid distributions domain config space",
        "space",
        "the space is an argument of minimize, run and Study",
    ),
    (
        "func fun fn f function loss_fn loss_function objective_function obj_func target_function fitness trainable "
        "task objective",
        "objective trainable fn task",
        "the objective is an argument of minimize, run and study.optimize",
    ),
    ("callbacks logger loggers on_trial_end", "callback", "callbacks are those of minimize and study.optimize"),
    (
        "show_progress_bar show_progressbar progress progressbar progress_bar verbose disp",
        "callback=jhpo.ProgressBar()",
        "progress is shown by minimize(..., callback=jhpo.ProgressBar())",
    ),
    (
        "x0 points_to_evaluate initial_points init_points initial_params initial_guess enqueue",
        "start initial",
        "first points are those of minimize(..., start=...), study.enqueue(...)",
    ),
    (
        "n_initial_points n_startup_trials n_random_starts num_initialization_trials num_initial_points n_init",
        "initial min_trials",
        "the number of first points is an option of a strategy: BayesOpt(initial=...)",
    ),
    ("study_name name experiment_name", "storage", "a study has the name of its file: Study(..., storage='name.db')"),
    ("storage local_dir storage_path", "storage", "results are stored by a study: Study(..., storage='name.db')"),
    ("load_if_exists", "resume", "a stored study is continued by Study(..., resume=True)"),
    ("catch raise_on_error error_score", "catch", "an exception of a jhpo.host objective is a failed trial"),
    (
        "popsize pop_size population_size n_particles num_particles swarm_size n_individuals",
        "population batch",
        "the size of a population is an option of a strategy: PSO(population=...)",
    ),
    ("batch_size q num_points n_points n_suggestions count k", "batch n population chunk", ""),
    ("cv n_folds n_splits num_folds k_folds", "folds", "folds are those of minimize(..., folds=...) and Study"),
    ("n_repeats num_repeats repeats num_seeds n_seeds", "replicates", "repetitions are minimize(..., replicates=...)"),
    ("scoring metric_name score", "metric", "the name of the value is minimize(..., metric=...)"),
    ("target_value goal loss_threshold f_min threshold", "target", "a value to stop at is minimize(..., target=...)"),
    ("n_no_improve no_improvement n_iter_no_change", "patience", "patience is that of minimize and study.optimize"),
    ("tol ftol xtol", "tolerance", "tolerance is that of minimize and study.optimize"),
    ("resources_per_trial", "resources", "what a trial needs is jhpo.host(objective, kind='ray', resources=...)"),
    ("gpu gpus device", "devices", "devices are those of minimize and study.optimize"),
    ("reduction_factor", "eta", ""),
    ("grace_period min_resource min_resources min_budget n_warmup_steps", "min_steps", ""),
    ("max_t max_resource max_resources max_budget", "max_steps", ""),
    ("n_min_trials min_samples_required", "min_trials", ""),
    ("percentile", "quantile", ""),
    ("w", "inertia", ""),
    ("c1", "cognitive", ""),
    ("c2", "social", ""),
    ("lr", "learning_rate tx", ""),
    ("mutation differential_weight scale_factor", "f", ""),
    ("recombination crossover crossover_rate crossover_prob", "cr crossover", ""),
    ("sigma0", "sigma", ""),
    ("lower lb min minimum", "low", ""),
    ("upper ub max maximum", "high", ""),
    ("log_scale log10", "log", ""),
    ("values categories options sequence", "choices value", ""),
    ("step", "step", "a Float has no steps: Int(..., step=...), or a list of values"),
    ("state", "error", ""),
    ("task loss_fn loss_function criterion", "loss", ""),
    (
        "constraint constraints constraint_values constraints_func outcome_constraints",
        "constraints",
        "a limit on hyperparameters is Space(..., constraints=[...]), a measured one a part of the value: "
        "{'value': ..., 'constraint': [...]}",
    ),
    (
        "directions",
        "directions",
        "each objective's direction is said to minimize(..., directions=['maximize', ...]), run and Study",
    ),
    ("stop", "stop", "a rule of your own is that of minimize(..., stop=...), study.optimize(..., stop=...)"),
    ("keep", "keep", "what is kept is said to minimize(..., keep=...) and run; a study keeps every trial"),
    ("chunk", "chunk", "members at once are those of minimize(..., chunk=...), study.optimize(..., chunk=...)"),
    ("fold_by_fold", "fold_by_fold", "folds are those of minimize(..., fold_by_fold=...) and Study"),
    ("static", "static", "a Python number in the objective is jhpo.Ordinal(range(2, 9), static=True)"),
)


def answer(name: str, there: Iterable[str]) -> str:
    """What is meant by an argument that a function does not have, as the end of an error; "" if nobody knows.

    >>> answer("n_trials", ["objective", "budget"]), answer("buget", ["objective", "budget"])
    ('did you mean budget?', 'did you mean budget?')
    >>> answer("n_trials", ["population"])
    'evaluations are counted by minimize(..., budget=...), study.optimize(..., budget=...)'
    >>> answer("early_stop", ["space", "storage"])
    'what stops trials early is minimize(..., early_stop=...), study.optimize(..., early_stop=...)'
    """
    own = {_bare(each): each for each in there}
    known = [  # jhpo's own names too: early_stop is an argument of optimize, and was given to Study
        (ours.split(), sentence) for others, ours, sentence in _MEANINGS if name.lower() in f"{others} {ours}".split()
    ]
    for ours, _ in known:
        for each in ours:
            if _bare(each.partition("=")[0]) in own:
                return f"did you mean {each}?"
    for _, sentence in known:
        if sentence:
            return sentence
    close = difflib.get_close_matches(_bare(name), own, 1, 0.7)
    return f"did you mean {own[close[0]]}?" if close else ""


def meant(name: str, there: Iterable[str]) -> str:
    """The public names that may have been meant by another one, as a part of an error.

    >>> meant("Uniform", ["Float"]), meant("minimise", ["minimize", "Study"])
    ('; did you mean Float?', '; did you mean minimize?')
    """
    if name.startswith("_"):  # asked for by tools, not by people
        return ""
    low, written = name.lower(), {public.lower(): public for public in there}
    if _bare(name) in _ELSEWHERE:
        return f"; did you mean {_ELSEWHERE[_bare(name)]}?"
    begun = [
        each for each in written if min(len(each), len(low)) > 2 and (each.startswith(low) or low.startswith(each))
    ]
    close = dict.fromkeys([*difflib.get_close_matches(low, written, 3, 0.7), *begun])
    return "" if not close else "; did you mean " + " or ".join(written[each] for each in close) + "?"


def _bare(name: str) -> str:
    return name.lower().replace("_", "")


def advised(target: F) -> F:
    """Decorator of functions, methods and classes: an error about their arguments says which ones may have been meant.

    It names the class that was called, as users know it, also if a method is inherited from a part of it. Errors from
    inside of the call stay as they are.

    >>> class Part:
    ...     @advised
    ...     def run(self, budget): ...
    >>> class Whole(Part): ...
    >>> Whole().run(n_trials=3)
    Traceback (most recent call last):
    ...
    TypeError: Whole.run() got an unexpected keyword argument 'n_trials'; did you mean budget?
    """
    if isinstance(target, type):
        made: Any = target
        made.__init__ = advised(made.__init__)
        return target

    @functools.wraps(target)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return target(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # the function was called
            text = _explained(str(error), target, args)
        raise TypeError(text)

    return wrapper  # type: ignore[return-value]


def _explained(text: str, target: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """Python's message on a call, with the class that was called and what may have been meant."""
    first = args[0] if args else None
    owner = first if isinstance(first, type) else type(first)
    method: Any = getattr(owner, target.__name__, None)
    if inspect.unwrap(method) is inspect.unwrap(target):
        text = re.sub(r"^[\w.<>]+\(\)", f"{owner.__qualname__}.{target.__name__}()", text)
    unknown = re.match(r".* got an unexpected keyword argument '(\w+)'", text)
    if unknown is None:
        return text
    advice = answer(unknown[1], inspect.signature(target).parameters)
    return unknown[0] + f"; {advice}" * bool(advice)  # later versions of Python name an argument of their own there
