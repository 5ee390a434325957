"""The trials of a study, written: ask and tell, the queue, results from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from jhpo.curves.rules import EarlyStop
from jhpo.errors import InvalidParameters, check_integer, encodable, invalid
from jhpo.evaluation.measures import measure_constraints
from jhpo.evaluation.outcome import Outcome, in_width
from jhpo.keys import trial_key
from jhpo.process.switches import with_transfers
from jhpo.space.points import each, read_point, read_points, there
from jhpo.strategies.early_stop import rule_of
from jhpo.study import events
from jhpo.study.absorbed import given_results, warn_of_repeats
from jhpo.study.asked import Asked
from jhpo.study.events import Append, Results
from jhpo.study.found import Found, Handed
from jhpo.study.referee import Referee
from jhpo.study.results import collect, keep_names, number_of, numbers_of, pack_results, with_curves, with_names
from jhpo.trial import Trial
from jhpo.values.notes import noted
from jhpo.values.pytrees import HP
from jhpo.words.advice import advised

M = TypeVar("M", Trial, Handed)
_SAMPLES = 64  # random candidates for what is missing of a partly given point


class Book(Found):
    """A `jhpo.Study` without `optimize` and reports; see there for the arguments."""

    @advised
    def ask(self, n: int = 1, *, budget: int | None = None, early_stop: EarlyStop | str | None = None) -> list[Trial]:
        """Up to `n` trials to evaluate: first those given back by lost workers and enqueued ones, then new ones.

        A generational strategy needs its generation's results before it can propose more: `ask` then returns
        what is left of the generation. Asked again while all of it is pending, it closes the generation without
        the pending members (their results are still kept, and count as late ones).

        Args:
            n: the most trials to return.
            budget: limit on the trials of the whole study, finished and in flight, over all workers; ``[]`` once it
                is reached.
            early_stop: the rule behind ``trial.should_stop()``, such as `jhpo.MedianStopping`; ``trial.report(step,
                value)`` stores intermediate values with or without one. See `tell` for trials that it stops.

        Raises:
            SpaceExhausted: a finite search has no point left.
            InvalidArgument: an invalid argument.
        """
        check_integer("n", n)
        referee = Referee(self._ledger, rule_of(self.strategy, early_stop, self.objectives))
        if budget is None:
            return Asked(self.take(n, lambda: n, referee))
        check_integer("budget", budget)
        return Asked(self.take(n, lambda: budget - self.evaluations - self._ledger.held(), referee))

    def take(
        self,
        n: int,
        room: Callable[[], int],
        referee: Referee | None = None,
        *,
        attended: bool = False,
        held: dict[int, int] | None = None,
    ) -> list[Trial]:
        """`ask` for at most `room()` trials, counted inside the transaction.

        Args:
            n: the most trials to return.
            room: how many there may be.
            referee: of their reports; None if they make none.
            attended: whether `optimize` monitors the trials.
            held: trials to their attempts; the new ones are added before they are stored, as Ctrl-C comes at any time.
        """
        return self._take(n, room, attended, held, lambda ids: self._trials(ids, referee))

    def take_plain(self, n: int, room: Callable[[], int], held: dict[int, int]) -> list[Handed]:
        """`take` for `optimize`, with only what a function that reports nothing needs: a third of the time."""
        return self._take(n, room, True, held, self._handed)

    def _take(
        self,
        n: int,
        room: Callable[[], int],
        attended: bool,
        held: dict[int, int] | None,
        of: Callable[[list[int]], list[M]],
    ) -> list[M]:
        with self._ledger.transaction() as append:
            self._ledger.give_back_lost(append)
            n = min(n, room())
            if n < 1:
                return []
            ids = self._ledger.claim(append, n)
            while len(ids) < n:
                taken = self._ledger.hand_out(append, n - len(ids), bool(ids))
                if not len(taken):
                    break
                ids.extend(taken)
            self._ledger.attend(ids, attended)
            found = of(ids)
            if held is not None:
                held.update({trial.id: trial.attempt for trial in found})
            return found

    @advised
    def tell(
        self,
        trial: Trial | int | Sequence[Trial | int],
        value: Any = None,
        *,
        error: str | BaseException | None = None,
        grad: Any = None,
        pruned: bool = False,
    ) -> None:
        """Store the result of a trial, or of several (sequences of equal length: one transaction).

        Anything but a finite number makes the trial FAILED, with the reason kept; so does `error`. A dict
        ``{"value": ..., "constraint": [...], "cost": ...}`` carries more. Several objectives are told as a tuple or
        a dict by name; if one is not finite, the others are kept. Telling the same again changes nothing.

        Args:
            trial: a trial that was handed out, or its id.
            value: a number, or a dict as above.
            error: why the trial failed, instead of a value: a text, or the exception.
            grad: gradient of the value with respect to the unit coordinates, ``float[d]``.
            pruned: the trial was stopped early: it is PRUNED, its value is the last that it reported. A trial that
                ``should_stop()`` has ended is so anyway.

        Raises:
            TrialConflict: the trial was told something else before, or it was handed to another worker since.
            InvalidArgument: no such trial, it was never handed out, or a value beside `error` or `pruned`.
        """
        with self._ledger.transaction() as append:
            told = collect(self.history.table, self.space.dim, trial, value, error, grad, self.objectives, pruned)
            if told:
                self._append_told(append, [t.id for t in told], [t.outcome for t in told])

    @advised
    def tell_outcomes(self, trials: Sequence[Trial | Handed], outcomes: Sequence[Outcome]) -> None:
        """Store an executor's results, except those of trials that were handed to other workers meanwhile."""
        with self._ledger.transaction() as append:
            runs = self._ledger.all_run([t.id for t in trials], [t.attempt for t in trials])
            ids = [t.id for t, there in zip(trials, runs) if there]
            if ids:
                self._append_told(append, ids, [outcome for outcome, there in zip(outcomes, runs) if there])

    def _append_told(self, append: Append, told: Sequence[int], outcomes: Sequence[Outcome]) -> None:
        ids = np.asarray(told, np.int64)
        results = self._results(append, outcomes, self.history.table.unit.array[ids])
        append(events.Tell(ids, results, time.time()))

    def _results(self, append: Append, outcomes: Sequence[Outcome], units: np.ndarray) -> Results:
        """Outcomes as the results of an event; stores the names of several objectives when they are first seen."""
        objectives, count = self.objectives, 1
        if objectives is not None:
            outcomes, names = with_names(outcomes, objectives.names)
            count = objectives.named(names).count
            if objectives.names is None:
                keep_names(names, append)
        outcomes, _ = in_width(outcomes, self.history.table.measured(self.space.num_constraints))
        return pack_results(outcomes, measure_constraints(self.space, units), self.space.dim, count)

    @advised
    def enqueue(self, params: HP) -> int:
        """Put hyperparameters of your own in the queue; the next `ask` hands them out. Returns the trial's id.

        Args:
            params: all values, some of them (``{"lr": 0.1}``), or a trial: the strategy chooses the others, now. A
                value that matters only under a condition brings its parents with it.

        Raises:
            InvalidParameters: `params` is outside the space, or no feasible completion was found.
        """
        params = read_point(self.space, params)
        given, exact = self.space.encode_some(params), self.space.exact(params)
        try:
            unit = self.space.encode(params)
        except InvalidParameters:
            unit = None  # `encode_some` accepted what is given, so something is missing
        else:
            self.space.validate(params)
        with self._ledger.transaction() as append:
            unit = self._completed(given) if unit is None else unit
            trial_id = self.history.table.size
            append(events.Enqueue(trial_id, unit[None], time.time(), [exact]))
            return trial_id

    @with_transfers
    def _completed(self, given: np.ndarray) -> np.ndarray:
        """`given` with coordinates that the strategy chooses in place of NaN, other ones for each trial."""
        number = self.history.table.size
        samples = np.asarray(self.space.sample_unit(trial_key(self.root, number), _SAMPLES))
        points = self._ledger.follower().completions(given, samples, number, self.history.table)
        if not self.space.has_constraints:
            return points[0]
        feasible = np.flatnonzero((np.asarray(self.space.unit_constraint(jnp.asarray(points))) >= 0).all(axis=-1))
        if not len(feasible):
            raise invalid("params", "values that some feasible point has", "none that was found", InvalidParameters)
        return points[feasible[0]]

    @advised
    def absorb(self, params: Sequence[HP], values: Sequence[Any] | None = None, source: str = "given") -> list[int]:
        """Add finished results from elsewhere (a warm start); the strategy learns from them.

        Args:
            params: hyperparameters, one dict for each result; or trials, a whole study, or a table of pandas or polars
                with a column for each parameter (``study.to_frame()`` of another study has them as ``param_lr``).
            values: their values, each as for `tell`; None for those of trials or of a study, with failures and
                measured constraints, of the trials that were finished and trained to the end.
            source: where they come from; stored in the log.

        Returns:
            The ids of the new trials.

        Raises:
            InvalidParameters: a point outside the space.
            InvalidArgument: not as many values as points, no lists of them, or no values of points that bring none.
        """
        if not isinstance(source, str) or source != encodable(source):
            raise invalid("source", "text", source)
        params, outcomes = given_results(params, values, self.directions, self.objectives)
        points = [there(self.space, point) for point in read_points(self.space, params)]
        ids = self.absorb_outcomes(points, outcomes, source) if points else []
        warn_of_repeats(self.history.table, ids)
        return ids

    def absorb_outcomes(
        self,
        params: Sequence[HP],
        outcomes: Sequence[Outcome],
        source: str,
        curves: Sequence[Mapping[int, float]] | None = None,
    ) -> list[int]:
        """`absorb` for results that were judged, with their learning curves: values by step."""
        units = np.stack(each("params", list(params), self.space.encode))
        with self._ledger.transaction() as append:
            first = self.history.table.size
            results = self._results(append, outcomes, units)
            if curves is not None and any(curves):
                results = with_curves(results, curves)
            exact = [self.space.exact(p) for p in params]
            append(events.Attach(first, units, results, time.time(), source, exact))
            return list(range(first, first + len(units)))

    @advised
    def note(
        self, values: Mapping[str, Any] | None = None, /, *, trial: Trial | int | None = None, **more: Any
    ) -> None:
        """Keep plain values by name with the study, or with one of its trials; see `Trial.note`.

        Args:
            values: by name.
            trial: a trial, or its id, in whatever state; None for the study itself, see `notes`.
            more: likewise, as named arguments.

        Raises:
            InvalidArgument: as of `Trial.note`; or no such trial.

        >>> import jhpo
        >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}), "random")
        >>> study.note(dataset="digits", version=3)
        >>> study.tell(study.ask()[0], 0.5)
        >>> study.note({"looks good": True}, trial=study.best)
        >>> study.notes, study.best.notes
        ({'dataset': 'digits', 'version': 3}, {'looks good': True})
        """
        if isinstance(values, Trial):
            note = f"a trial goes by name: note({{...}}, trial={values.id})"
            raise invalid("values", "notes by name", type(values).__name__, note=note)
        found = noted(values, more)
        with self._ledger.transaction() as append:
            which = -1
            if trial is not None:
                which = number_of("trial", trial, len(self))
            append(events.Note(which, found, time.time()))

    @advised
    def requeue(self, ids: Sequence[Trial | int] | None = None) -> list[int]:
        """Return running trials (all, or `ids`) to the queue, whose workers are known to be gone; gives their ids."""
        wanted = None if ids is None else numbers_of(ids)
        with self._ledger.transaction() as append:
            running = sorted(self.history.running)
            unknown = [] if wanted is None else [i for i in wanted if i not in running]
            if unknown:
                raise invalid("ids", f"running trials ({running[:10]})", unknown)
            chosen = running if wanted is None else wanted
            if chosen:
                self._ledger.give_back(append, chosen, lost=False)
            return chosen
