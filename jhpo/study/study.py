"""`Study`: stored trials, and a strategy that continues bit for bit."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jhpo.errors import JhpoError
from jhpo.evaluation.ensemble import Ensemble, ensemble_of
from jhpo.evaluation.evaluators import Objective
from jhpo.evaluation.lineage import lineage_of, schedule_of
from jhpo.process.interrupts import interruptible
from jhpo.report.hypervolume import Hypervolume, hypervolume
from jhpo.report.importance import importance
from jhpo.space.serialize import serializable
from jhpo.storage.spec import described
from jhpo.study.book import Book
from jhpo.study.loop import optimize
from jhpo.study.results import number_of
from jhpo.study.states import trained_states
from jhpo.training.crossvalidation import in_folds
from jhpo.training.objective import as_trainable
from jhpo.training.replay import Schedule
from jhpo.trial import Trial
from jhpo.values.pytrees import State
from jhpo.words.attributes import Advising
from jhpo.words.markup import counted, table

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from jhpo.report.figures import Drawing
    from jhpo.report.page import About

# frames, figures and pages are imported where they are made: they take a fifth of the time of `import jhpo; jhpo.Study`
BEST = 20  # rows of a page's table of the best trials


class Study(Book, Advising):
    """A search whose results are stored, and which can be resumed.

    Every acknowledged result is in the storage before the call returns. The strategy's state is rebuilt from the
    log of results, so a killed study continues as if it had never stopped. Several processes may work on one stored
    study.

    Args:
        space: what is searched.
        strategy: an instance or a registered name; by default the stored one, or `BayesOpt()` if the study is new.
        storage: path of a SQLite file or a database URL; None keeps the study in memory.
        seed: root of every random stream, in [0, 2^32); trial i has the key ``fold_in(key(seed), i)``.
        direction: "minimize" or "maximize".
        directions: for several objectives, instead of `direction`: ``{"error": "minimize", "params": "minimize"}``, or
            ``["minimize", "maximize"]``, where the first dict that is told gives the names. See `pareto` and `knee`.
        replicates: evaluations of each member by `optimize` (JAX objectives); the strategy sees mean and variance.
        folds, fold_by_fold: parts of the data on which each member is trained and measured, see `jhpo.minimize`.
        resume: continue the study that the storage holds, if any; without it a stored study is an error.
        lease: seconds after which a silent worker's trial is handed out again; None waits forever for workers on
            other machines (dead ones on this machine are noticed at once). A live process renews its lease in the
            background, however long its trials take.
        max_retry: how often a trial is handed out again before it counts as failed.
        shared: the processes of `jax.distributed` run this study together, on ``optimize(..., devices=jax.devices())``:
            all of them make the same calls, and process 0 alone opens the storage. Without it processes that open one
            storage are workers, each with trials of its own.

    Raises:
        InvalidArgument: an invalid argument.
        StorageError: the storage cannot be used, or holds a study already.
        ChangedSpace: `resume` with another space; the message lists the differences.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}), "random", seed=1)
    >>> for trial in study.ask(3):
    ...     study.tell(trial, trial.params["x"] ** 2)
    >>> study.best.value < 1.0, len(study)
    (True, 3)
    """

    @interruptible()
    def states(self, objective: Objective, trials: Sequence[Trial | int], *, metric: str | None = None) -> list[State]:
        """Trained states of trials (``study.top(5)``), recomputed from their keys; None for host objectives.

        Each is the state that was evaluated: it is trained in a program of the same width, and a `UserWarning` tells
        if its value differs from the trial's (on another device, say). With replicates, it is that of replicate 0;
        with folds those of all folds, stacked.

        Args:
            objective: the one that was optimised.
            trials: trials of this study, or their ids.
            metric: name of the value if the evaluation returns several; by default the one that was optimised.
        """
        ids = [number_of("trials", trial, len(self)) for trial in trials]
        return serializable(trained_states(self, objective, ids, metric)) if ids else []

    def ensemble(self, objective: Objective, k: int = 8, *, metric: str | None = None) -> Ensemble:
        """The k best trials, or as many as there are, trained again, as one predictor; see `Result.ensemble`.

        Args:
            objective: the one that was optimised.
            k: how many.
            metric: as of `states`.

        Raises:
            InvalidArgument: an objective that cannot predict.
            JhpoError: no trial succeeded.
        """
        trials = self.top(k)
        if not trials:
            raise JhpoError("there is no ensemble: every trial failed or violated a constraint")
        trainable = as_trainable(in_folds(objective, self.folds))
        units = self.history.table.unit.array[[trial.id for trial in trials]]
        return ensemble_of(trainable, self.space, units, self.states(objective, trials, metric=metric))

    def schedule(self, trial: Trial | int | None = None) -> Schedule:
        """The hyperparameters with which a member of an evolving population was trained; see `Result.schedule`.

        Args:
            trial: a trial of this study, or its id; the best by default.

        Raises:
            InvalidArgument: no such trial, or one whose hyperparameters stayed the same.
            JhpoError: a search whose members keep their hyperparameters, or one in which nobody succeeded.
        """
        lineage = lineage_of(self.history.table)
        if lineage is None:
            raise JhpoError("there are no schedules: the members of this study keep their hyperparameters")
        trial = self.best if trial is None else trial
        return schedule_of(self.space, lineage, number_of("trial", trial, len(self)))

    def to_frame(self, curves: bool = False) -> pd.DataFrame:
        """All trials as a pandas DataFrame: ``id``, ``value``, ``state``, ``param_<name>``, ...

        With several objectives, ``value`` becomes ``value_<name>``, or ``value_0``, ``value_1``, ... without names.

        Args:
            curves: the learning curves instead, one row per intermediate value: ``id``, ``step``, ``value``, ``state``,
                and a column for every other measurement that was reported.
        """
        from jhpo.report import frame

        return frame.to_frame(self.trials, curves)

    def figure(self, kind: str = "history", **options: Any) -> Drawing:
        """A figure of `jhpo.figures` by its name, see `plot`: its frame, its plotly figure, its SVG elements."""
        from jhpo.report import figures

        return figures.draw(self, kind, **options)

    def plot(self, kind: str = "history", **options: Any) -> go.Figure:
        """A plotly figure: "history", "parallel", "slice", "contour", "rank", "edf", "importance" or "model".

        Where trainings were paused also "curves" and "population", of evolving populations "schedules", with gradients
        "gradients". With several objectives: "pareto" (the front in 2-d, 3-d or parallel coordinates) or "hypervolume"
        (by trials). For all: "timeline", "failures" and "times".

        Args:
            kind: which figure.
            options: of the function of `jhpo.figures`, ``params=["lr", "width"]`` for example.
        """
        return self.figure(kind, **options).to_plotly()

    def report(self, path: str | os.PathLike[str] = "study.html", *, interactive: bool = False) -> Path:
        """Write one page with the study in words, the best trials, the failures and every figure; returns its path.

        The page needs no network and no other file.

        Args:
            path: of the page.
            interactive: include plotly, so that a button makes a figure interactive; adds two megabytes.

        Raises:
            MissingExtra: jinja2, or plotly for an interactive page, is not installed.
            StorageError: the page cannot be written.
        """
        from jhpo.report.page import write_report

        return write_report(self.trials, self._listed(), path, self.about(str(path)), interactive)

    def _listed(self) -> list[Trial]:
        """The best trials, or the front."""
        return self.top(BEST) if self.objectives is None else self.pareto()

    def page(self, *, live: bool = False, home: str = "") -> str:
        """The page of `report` as text.

        Args:
            live: the page asks its server for news, see `jhpo.cli.serve`.
            home: address of a list of all studies, for a link.
        """
        from jhpo.report.page import render

        return render(self.trials, self._listed(), self.about()._replace(home=home), live=live)

    def about(self, output: str = "study.html") -> About:
        """What a page says about the study beside its trials."""
        from jhpo.report.page import About

        url, strategy = self._ledger.log.url, described(self.history.header["strategy"])
        if url is None:
            return About("Study in memory", strategy)
        return About(Path(url).name, strategy, shlex.join(["jhpo", "report", url, "--output", output]))

    def __repr__(self) -> str:
        return f"<{self._title}>"

    @property
    def _title(self) -> str:
        about, finished = self.about(), counted(self.evaluations, "trial")
        return f"{about.name}: {about.strategy}, {', '.join(self.directions)}, {finished} finished"

    def _repr_html_(self) -> str:
        head = ["trial", *self.trials.labels, *self.space.names]
        best = self._listed()[:5] if len(self.history.table.successes()) else []
        flat = [self.space.flat(t.params) for t in best]
        rows = [[t.id, *t.values, *(p.get(n, "") for n in self.space.names)] for t, p in zip(best, flat)]
        return table(head, rows, self._title)

    def hypervolume(self, reference: Sequence[float] | None = None) -> Hypervolume:
        """The volume that the front dominates up to a reference point; see `jhpo.report.hypervolume`."""
        return hypervolume(self.trials, reference)

    def importance(self, quantile: float = 0.1) -> dict[str, float]:
        """Share of each parameter in how the best trials differ from the others; see `jhpo.report.importance`."""
        return importance(self.trials, quantile)

    optimize = optimize
