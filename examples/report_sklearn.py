"""A scikit-learn model that reports its accuracy after each epoch, and is stopped where others did better.

    jhpo tune examples/report_sklearn.py --storage mlp.db      # then: jhpo show mlp.db --plot curves
    python examples/report_sklearn.py

The second argument of the objective is the trial. Reports are stored as they come; a worker that is killed begins its
trial anew, everything else goes on where it was.
"""

from __future__ import annotations

import os
from typing import Any

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import jhpo

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
EPOCHS, BUDGET = (4, 8) if FAST else (27, 60)
IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = IMAGES / 16.0

space = jhpo.Space(
    {
        "lr": jhpo.Float(1e-5, 1e-1, log=True),
        "alpha": jhpo.Float(1e-7, 1e-1, log=True),
        "width": jhpo.Int(8, 128, log=True),
        "batch": jhpo.Int(16, 256, log=True),
    }
)


def accuracy(params: dict[str, Any], trial: jhpo.Trial) -> float:
    """Train epoch by epoch; the validation accuracy of each is reported."""
    model = MLPClassifier(
        (params["width"],), learning_rate_init=params["lr"], alpha=params["alpha"], batch_size=params["batch"],
        random_state=trial.id,
    )  # fmt: skip
    score = 0.0
    for epoch in range(1, EPOCHS + 1):
        model.partial_fit(IMAGES[:1200], LABELS[:1200], classes=range(10))
        score = float(model.score(IMAGES[1200:], LABELS[1200:]))
        trial.report(epoch, score, loss=float(model.loss_))
        if trial.should_stop():
            break
    return score


objective = jhpo.host(accuracy, workers=2, kind="process")
tuning = jhpo.Tuning(
    objective, space, jhpo.BayesOpt(), budget=BUDGET, direction="maximize",
    early_stop=jhpo.MedianStopping(min_trials=5),
)  # fmt: skip


def main() -> None:
    """Tune, once to the end and once with early stopping, and count the epochs that it saved."""
    for rule in (None, tuning.early_stop):
        study = jhpo.Study(space, tuning.strategy, seed=0, direction="maximize")
        summary = study.optimize(objective, BUDGET, early_stop=rule)
        epochs = sum(len(study[i].curve) for i in range(len(study)))
        print(
            f"{type(rule).__name__}: {epochs} epochs, {len(study.pruned)} of {len(study)} trials stopped early, "
            f"{summary.seconds:.0f} s; best {study.best.value:.4f}"
        )
        print("  its curve:", {epoch: round(value, 3) for epoch, value in study.best.curve.items()})


if __name__ == "__main__":  # worker processes import this file, and must not start the search again
    main()
