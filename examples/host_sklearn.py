"""A scikit-learn model: an objective that is not a JAX program, evaluated by worker processes.

    jhpo tune examples/host_sklearn.py --storage svc.db     # Ctrl-C, then the same with --resume
    python examples/host_sklearn.py

The kernel is a choice of strings, and parameters that belong to one kernel exist only with it. A failure or a time-out
costs its own trial.
"""

from __future__ import annotations

import os
from typing import Any

from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

import jhpo

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
rows = 200 if FAST else 1500

space = jhpo.Space(
    {
        "kernel": jhpo.Choice(["linear", "rbf", "poly"]),
        "C": jhpo.Float(1e-3, 1e3, log=True),
        "gamma": jhpo.Float(1e-5, 1.0, log=True, when={"kernel": ["rbf", "poly"]}),
        "degree": jhpo.Int(2, 5, when={"kernel": "poly"}),
    }
)


def accuracy(params: dict[str, Any]) -> float:
    """Mean accuracy of a three-fold cross-validation; ``params`` are plain values, inactive ones are absent."""
    images, labels = load_digits(return_X_y=True)
    return float(cross_val_score(SVC(**params), images[:rows] / 16.0, labels[:rows], cv=3).mean())


objective = jhpo.host(accuracy, workers=2, kind="process", timeout=60.0)
tuning = jhpo.Tuning(objective, space, jhpo.PSO(8), budget=8 if FAST else 96, direction="maximize")


def main() -> None:
    """Tune, starting with a point that is known to be good, and print the trials."""
    study = jhpo.Study(space, tuning.strategy, seed=0, direction=tuning.direction)
    study.enqueue({"kernel": "rbf", "C": 1.0, "gamma": 0.02})
    summary = study.optimize(objective, tuning.budget)
    print(f"{summary.evaluations} models in {summary.seconds:.0f} s ({summary.stopped})")
    for trial in study.top(3):
        print(f"accuracy {trial.value:.4f} with {trial.params}")
    for trial in study.failures:
        print(f"trial {trial.id} failed: {trial.reason}")


if __name__ == "__main__":  # worker processes import this file, and must not start the search again
    main()
