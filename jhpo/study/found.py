"""The trials of a study, read: one by one, the best, the front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.errors import JhpoError, check_integer
from jhpo.evaluation.measures import seeds_of
from jhpo.keys import trial_key
from jhpo.objectives import check_single, knee
from jhpo.report.trials import Trials
from jhpo.space.distinct import first_distinct
from jhpo.study.opened import Opened
from jhpo.study.referee import Referee
from jhpo.study.results import number_of
from jhpo.trial import Trial, TrialState
from jhpo.values.notes import read_notes
from jhpo.values.pytrees import HP
from jhpo.words.advice import advised

_BLOCK = 64


class Handed(NamedTuple):
    """What is evaluated of a trial."""

    id: int
    attempt: int
    params: HP
    seed: int


class Found(Opened):
    """What a `jhpo.Study` has found."""

    _block: tuple[int, list[int]] = (-1, [])  # number and seeds of a block of ids

    def _trial(self, trial_id: int) -> Trial:
        return self._trials([trial_id])[0]

    def _trials(self, ids: Sequence[int], referee: Referee | None = None) -> list[Trial]:
        """Some trials as they are now, able to report if there is a referee."""
        if not ids:
            return []
        table, rows, objectives = self.history.table, np.asarray(ids, np.int64), self.objectives
        params, seeds, attempts = self._content(rows)
        names = None if objectives is None else objectives.names
        reports = None if referee is None else [referee.reports(*pair) for pair in zip(ids, attempts)]
        return table.trials(ids, params, seeds, names, reports)

    def _handed(self, ids: Sequence[int]) -> list[Handed]:
        """What is evaluated of some trials."""
        params, seeds, attempts = self._content(np.asarray(ids, np.int64))
        return list(map(Handed, ids, attempts, params, seeds))

    def _content(self, rows: np.ndarray) -> tuple[list[HP], list[int], list[int]]:
        """Hyperparameters, seeds and numbers of earlier attempts."""
        table, exact = self.history.table, self.history.exact
        units = table.unit.array[rows]
        params = self.space.decode_rows(units)
        if exact:
            for k, i in enumerate(rows.tolist()):
                if i in exact:
                    params[k] = self.space.decode(units[k], exact[i])
        return params, self._seeds(table.streams(rows)), table.attempt.array[rows].tolist()

    def _seeds(self, streams: np.ndarray) -> list[int]:
        """The seeds that belong to ids; those of trials one by one are made ahead, many at once."""
        if len(streams) != 1:
            return seeds_of(self._words, streams)
        block, place = divmod(int(streams[0]), _BLOCK)
        known = self._block
        if known[0] != block:
            known = self._block = (block, seeds_of(self._words, np.arange(_BLOCK) + block * _BLOCK))
        return [known[1][place]]

    def __len__(self) -> int:
        return self.history.table.size

    def __getitem__(self, trial_id: int) -> Trial:
        return self._trial(number_of("trial_id", trial_id, len(self)))

    def __iter__(self) -> Iterator[Trial]:
        """All trials there are now, in the order of their ids."""
        return (self._trial(i) for i in range(len(self)))

    @advised
    def key(self, trial: Trial | int) -> jax.Array:
        """The trial's random key: ``fold_in(key(seed), id)``, unless the strategy fixes its members' randomness."""
        number = number_of("trial", trial, len(self))
        return trial_key(self.root, int(self.history.table.streams(np.asarray([number]))[0]))

    @property
    def evaluations(self) -> int:
        """Finished trials, failed ones included."""
        with self._ledger.lock:
            return self.history.finished

    @property
    def notes(self) -> dict[str, Any]:
        """Plain values by name that `note` has kept with the study."""
        return read_notes(self.history.notes)

    @property
    def pruned(self) -> list[Trial]:
        """Trials that were stopped early, with their curves."""
        return self._trials(self.history.table.in_state(TrialState.PRUNED).tolist())

    @property
    def failures(self) -> list[Trial]:
        """Failed trials with their reasons."""
        return self._trials(self.history.table.in_state(TrialState.FAILED).tolist())

    @property
    def best(self) -> Trial:
        """The best finished, feasible trial of the longest training told so far; its value is always finite.

        Raises:
            JhpoError: there is none yet.
            InvalidArgument: there are several objectives; see `pareto` and `knee`.
        """
        check_single("best", self.objectives, "pareto() gives the front, knee() one trial of it")
        ranked = self.top(1)
        if not ranked:
            raise JhpoError(self._nothing())
        return ranked[0]

    def _nothing(self) -> str:
        """Why there is no best trial: what failed most often, where trials failed."""
        return f"no successful trial yet: {self.trials.why_nothing() if self.evaluations else 'none is finished'}"

    @advised
    def top(self, k: int = 5) -> list[Trial]:
        """The `k` best trials with different hyperparameters, best first; feasible ones only.

        Raises:
            InvalidArgument: there are several objectives; see `pareto`.
        """
        check_integer("k", k)
        check_single("top", self.objectives, "pareto() gives the trials that none other dominates")
        table = self.history.table
        ids = table.ranked(self.sign)  # before the columns, to which other threads may add
        return self._trials(first_distinct(self.space, table.unit.array, ids, k).tolist())

    @property
    def trials(self) -> Trials:
        """All trials, one by one as the study has them, and their columns, which figures and reports are made from."""
        history = self.history
        found = (self.space, history.table, self.direction, history.header, history.stops)
        return Trials(*found, self._trials, self.objectives, history.calls, self.notes, history.exact)

    def pareto(self) -> list[Trial]:
        """The feasible trials that no other dominates, with distinct hyperparameters, sorted by their first value.

        With one objective, the trials of the best value. Empty if every trial failed or violated a constraint.

        >>> import jhpo
        >>> space = jhpo.Space({"x": jhpo.Int(-2, 5)})
        >>> study = jhpo.Study(space, "grid", directions={"near": "minimize", "far": "minimize"})
        >>> for trial in study.ask(8):
        ...     study.tell(trial, {"near": trial.params["x"] ** 2, "far": (trial.params["x"] - 2) ** 2})
        >>> [trial.params["x"] for trial in study.pareto()], study.knee().values
        ([0, 1, 2], Values(near=1.0, far=1.0))
        """
        ids, units = self.trials.front(), self.history.table.unit.array
        return self._trials(first_distinct(self.space, units, ids, max(len(ids), 1)).tolist())

    @advised
    def knee(self, weights: Sequence[float] | None = None) -> Trial:
        """The trial of the front nearest to the best value of every objective, each scaled by the front's extent.

        Args:
            weights: how much each objective counts; equally if None.

        Raises:
            InvalidArgument: not one weight >= 0 for each objective.
            JhpoError: there is no feasible trial yet.
        """
        points = self.pareto()
        if not points:
            raise JhpoError(self._nothing())
        return points[knee(self.trials.minimised(np.asarray([t.id for t in points])), weights)]
