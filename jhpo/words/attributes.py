"""Attributes that an object does not have are answered by those it has: misspelt ones, and other libraries' names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

# What Optuna, scikit-optimize, SciPy, Hyperopt, Ray Tune and Ax call them, by class; and what to say
ANSWERS: dict[str, tuple[tuple[str, str], ...]] = {
    "Result": (
        (
            "best_params best_config best_parameters best_hp best_x best_point best_trial best_result best_params_ "
            "params parameters config hp x xbest argmin get_best_result",
            "its hyperparameters are .best, .top(1)[0] has the trained state too",
        ),
        (
            "best_value best_score best_loss best_score_ fun fval loss score func_vals",
            "the value of the best is .value",
        ),
        (
            "trials results df dataframe trials_dataframe to_frame to_dataframe get_dataframe to_pandas to_csv "
            "evaluations all_trials x_iters cv_results_",
            ".history has every evaluation as arrays; a Study has .trials and .to_frame()",
        ),
        ("best_trials pareto_front front", "trials that nothing beats are .pareto(), one in between is .knee()"),
        ("nfev n_trials n_evals nit", "the number of evaluations is len(.history.value)"),
        ("message success status reason", "why the search ended is .stopped"),
        ("plot figure report", "a Study has figures and pages: study.plot(), study.report()"),
        ("save dump to_json", "a Study is a file, jhpo.save_states keeps trained states; a Result can be pickled"),
    ),
    "Study": (
        (
            "best_params best_config best_parameters best_hp best_trial best_result get_best_trial params",
            "the best trial is .best, with .best.params and .best.value",
        ),
        ("best_value best_score best_loss", "the value of the best is .best.value"),
        (
            "best_trials pareto_front front get_best_trials",
            "the best ones are .top(n), of several objectives .pareto() those that nothing beats",
        ),
        (
            "trials_dataframe df dataframe to_dataframe get_dataframe to_pandas to_csv results result get_trials "
            "all_trials cv_results_",
            "its trials are .trials, as arrays .history, as a frame .to_frame()",
        ),
        ("n_trials num_trials", "the number of its trials is len(study)"),
        ("enqueue_trial add_trial suggest_next start initial_points", "points to try are given by .enqueue(params)"),
        ("run fit search minimize maximize fmin launch start_search", "a search is .optimize(objective, budget=...)"),
        ("suggest get_next_trial next propose create_trial", "trials come from .ask(n)"),
        ("observe register complete_trial report_result update", "results are given by .tell(trial, value)"),
        ("stop", "stop rules are arguments of .optimize: budget, seconds, target, patience"),
        (
            "user_attrs set_user_attr set_metadata tags log",
            "plain values are kept by .note(name=value), those of a trial by .note({...}, trial=trial)",
        ),
        ("sampler algorithm", "what proposes the trials is .strategy"),
        ("storage path study_name name", "a study does not tell its storage: it was an argument of Study(...)"),
    ),
    "Trial": (
        ("number trial_id index trial_number tid arm_name", "its number is .id"),
        ("config parameters hp hps hyperparameters arm x kwargs values_dict", "its hyperparameters are .params"),
        ("user_attrs user_attr attrs metadata tags", "plain values beside the result are .notes"),
        ("set_user_attr set_metadata log", "plain values are kept by .note(name=value)"),
        ("score loss result objective_value", "its value is .value"),
        ("should_prune prune", "whether to end it is .should_stop()"),
        ("intermediate_values intermediates", "values by step are .curve"),
        ("tell complete finish", "results are given by study.tell(trial, value)"),
        (
            "suggest_float suggest_int suggest_categorical suggest_uniform suggest_loguniform suggest_discrete_uniform",
            "hyperparameters are declared in a Space and found in .params; jhpo.interop.optuna.run runs functions that "
            "suggest",
        ),
    ),
}


class Advising:
    """A base of classes that say what may have been meant by an attribute that they do not have.

    >>> class Result(Advising):
    ...     best = 1
    >>> Result().best_params
    Traceback (most recent call last):
    ...
    AttributeError: 'Result' object has no attribute 'best_params'; its hyperparameters are .best, .top(1)[0] has the
    trained state too
    """

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or hasattr(type(self), name):  # asked for by tools; a property that failed
                return object.__getattribute__(self, name)
            advice = self._meant(name)
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}" + f"; {advice}" * bool(advice)
            )

    def _meant(self, name: str) -> str:
        """The end of the message about an attribute that is not there."""
        return advice_on(type(self), name, dir(self))


def advice_on(kind: type, name: str, there: Iterable[str] = ()) -> str:
    """What is meant by an attribute that objects of a class do not have; ``there`` are those that they have."""
    for each in kind.__mro__:
        for others, sentence in ANSWERS.get(each.__name__, ()):
            if name.lower() in others.split():
                return sentence
    close = difflib.get_close_matches(name, [own for own in there if not own.startswith("_")], 1, 0.7)
    return f"did you mean .{close[0]}?" if close else ""
