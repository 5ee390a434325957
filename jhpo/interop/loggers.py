"""Callbacks that write a search to TensorBoard, Weights & Biases or MLflow.

Each is a callback of `Study.optimize`, `jhpo.minimize` and `jhpo.maximize`: after every generation it writes the
progress (evaluations, best). With a ``study`` it also writes each trial that has finished since: its hyperparameters,
value, learning curve and notes.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from jhpo.errors import MissingExtra, invalid
from jhpo.interop.scalars import scalars
from jhpo.search.meter import Update
from jhpo.study.study import Study
from jhpo.trial import Trial
from jhpo.words.markup import cut

if TYPE_CHECKING:
    from collections.abc import Iterator


_LONGEST_NAME, _LONGEST_TAG = 250, 5000  # characters that MLflow takes


class Logger:
    """A callback that hears of the progress, and of every finished trial once.

    Args:
        study: whose trials are logged, those that finished before included; None for the progress alone.

    Raises:
        InvalidArgument: not a study.
    """

    def __init__(self, study: Study | None = None) -> None:
        if study is not None and not isinstance(study, Study):
            raise invalid("study", "a jhpo.Study or None", study)
        self._study, self._logged = study, np.zeros(0, np.bool_)

    def __call__(self, update: Update) -> None:
        progress = {"evaluations": float(update.evaluations), "seconds": update.seconds, "best": update.best}
        self.progress({name: v for name, v in progress.items() if math.isfinite(v)}, update.evaluations)
        for trial in self._fresh():
            self.trial(trial, self._parameters(trial), self._values(trial))

    def progress(self, values: dict[str, float], step: int) -> None:
        """Write numbers of the whole search after so many evaluations."""
        raise TypeError(f"{type(self).__name__} must define 'progress'")

    def trial(self, trial: Trial, parameters: dict[str, Any], values: dict[str, float]) -> None:
        """Write a finished trial, with its hyperparameters and finite values by name."""
        raise TypeError(f"{type(self).__name__} must define 'trial'")

    def _fresh(self) -> Iterator[Trial]:
        if self._study is None:
            return
        done = self._study.history.table.done()
        logged = np.concatenate([self._logged, np.zeros(len(done) - len(self._logged), np.bool_)])
        self._logged = done.copy()
        for number in np.flatnonzero(done & ~logged).tolist():
            yield self._study[number]

    def _parameters(self, trial: Trial) -> dict[str, Any]:
        assert self._study is not None
        space, found = self._study.space, self._study.space.flat(trial.params)
        shaped = {name: p.shape for name, p in zip(space.names, space.parameters) if name in found}
        return {label: item for n, shape in shaped.items() for label, item in scalars(n, found[n], shape)}

    def _values(self, trial: Trial) -> dict[str, float]:
        assert self._study is not None
        objectives = self._study.objectives
        labels = ("value",) if objectives is None else objectives.labels
        return {label: float(v) for label, v in zip(labels, trial.values) if math.isfinite(v)}


class TensorBoard(Logger):
    """Scalars, and the "hparams" page with a row for each trial.

    Args:
        writer: a ``SummaryWriter`` of tensorboardX or of ``torch.utils.tensorboard``; close it yourself.
        study: see `Logger`.

    >>> from tensorboardX import SummaryWriter
    >>> import jhpo, tempfile
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}), "random")
    >>> with tempfile.TemporaryDirectory() as folder, SummaryWriter(folder) as writer:
    ...     study.optimize(jhpo.host(lambda hp: hp["x"] ** 2), 4, callback=TensorBoard(writer, study)).evaluations
    4
    """

    def __init__(self, writer: Any, study: Study | None = None) -> None:
        super().__init__(study)
        if not hasattr(writer, "add_scalar") or not hasattr(writer, "add_hparams"):
            raise invalid("writer", "a SummaryWriter of tensorboardX or PyTorch", writer)
        self._writer = writer
        self._run_named = "name"  # as tensorboardX calls the argument
        if "run_name" in inspect.signature(writer.add_hparams).parameters:  # of PyTorch
            self._run_named = "run_name"

    def progress(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"search/{name}", value, step)

    def trial(self, trial: Trial, parameters: dict[str, Any], values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"trial/{name}", value, trial.id)
        for step, value in trial.curve.items():
            self._writer.add_scalar(f"curve/{trial.id}", value, step)
        plain = {n: v if isinstance(v, (bool, int, float, str)) else str(v) for n, v in parameters.items()}
        self._writer.add_hparams(plain, values, **{self._run_named: f"trial-{trial.id}"})
        for name, value in trial.notes.items():
            self._writer.add_text(f"note/{name}", _text(value), trial.id)


class WandB(Logger):
    """Progress as ``search/...``, and a log entry for each trial: ``trial/id``, ``trial/value``, ``param/lr``, ...

    Args:
        run: what ``wandb.init`` returns (``mode="offline"`` needs no network); finish it yourself.
        study: see `Logger`.
    """

    def __init__(self, run: Any, study: Study | None = None) -> None:
        super().__init__(study)
        if not hasattr(run, "define_metric"):
            raise invalid("run", "what wandb.init returns", run)
        self._run = run
        run.define_metric("search/evaluations")
        run.define_metric("search/*", step_metric="search/evaluations")
        run.define_metric("trial/id")
        run.define_metric("trial/*", step_metric="trial/id")
        run.define_metric("param/*", step_metric="trial/id")
        run.define_metric("note/*", step_metric="trial/id")

    def progress(self, values: dict[str, float], step: int) -> None:
        self._run.log({f"search/{name}": value for name, value in values.items()})

    def trial(self, trial: Trial, parameters: dict[str, Any], values: dict[str, float]) -> None:
        entry = {"trial/id": trial.id, "trial/status": trial.status.name.lower()}
        entry |= {f"trial/{name}": value for name, value in values.items()}
        entry |= {f"param/{name}": value for name, value in parameters.items()}
        self._run.log(entry | {f"note/{name}": value for name, value in trial.notes.items()})


class MLflow(Logger):
    """Metrics of the active run, and a nested run for each trial with its parameters, metrics and learning curve.

    MLflow allows no brackets in names: the entries of an array are ``w.0``, ``w.1``, ...

    Args:
        study: see `Logger`.

    Raises:
        MissingExtra: MLflow is not installed.
    """

    def __init__(self, study: Study | None = None) -> None:
        super().__init__(study)
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtra("MLflow is not installed: pip install 'jhpo[mlflow]'") from error
        self._mlflow = mlflow

    def progress(self, values: dict[str, float], step: int) -> None:
        self._mlflow.log_metrics(values, step=step)

    def trial(self, trial: Trial, parameters: dict[str, Any], values: dict[str, float]) -> None:
        tags = {"status": trial.status.name.lower()} | ({"reason": trial.reason} if trial.reason else {})
        with self._mlflow.start_run(run_name=f"trial-{trial.id}", nested=True, tags=tags):
            self._mlflow.log_params({_allowed(name): value for name, value in parameters.items()})
            self._mlflow.log_metrics({_allowed(name): value for name, value in values.items()})
            for step, value in trial.curve.items():
                self._mlflow.log_metric("curve", value, step=step)
            for name, value in trial.notes.items():
                self._mlflow.set_tag(cut(_allowed(f"note.{name}"), _LONGEST_NAME), cut(_text(value), _LONGEST_TAG))


def _text(value: Any) -> str:
    """A note as text: JSON, but text as it is."""
    return value if isinstance(value, str) else json.dumps(value)


def _allowed(name: str) -> str:
    """A name that MLflow takes.

    >>> _allowed("w[1, 2]"), _allowed("a=b")
    ('w.1.2', 'a_b')
    """
    return re.sub(r"[^\w\-. :/]", "_", name.replace(", ", ".").replace("[", ".").replace("]", ""))
