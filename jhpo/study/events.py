"""The events of a study's log, one class for each kind: what happened, in the fields that are stored.

A log entry is a kind and a body, a map of plain values and arrays; `jhpo.study.bodies` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

_LEFT_OUT = {"left_out": True}  # marks a field that is not stored where it has its default


@dataclass(frozen=True, eq=False)
class Results:
    """Results of k trials, one row each."""

    value: np.ndarray  # float64[k], in the user's own sign; not finite where the trial failed
    reasons: dict[int, str]  # of failures, by row
    grad: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)  # float[k, d], of the unit coordinates
    constraint: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)  # float[k, c], feasible where >= 0
    cost: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)  # float[k]
    variance: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)  # float[k], of the value, from replicates
    # float64[k, m] with several objectives, in the user's own signs; `value` is the first, NaN if any is not finite
    values: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)
    pruned: Sequence[int] = field(default=(), metadata=_LEFT_OUT)  # rows of trials that were stopped early
    # of trainables that could be: int64[k, r] the steps at which they were judged, -1 where one was not trained so far;
    # float64[k, r] the values there; int64[k, r] the widths of the programs, None for curves from elsewhere
    steps: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)
    curve: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)
    widths: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)

    EXTRAS: ClassVar[tuple[str, ...]] = ("grad", "constraint", "cost", "variance", "values")
    STAGES: ClassVar[tuple[str, ...]] = ("steps", "curve", "widths")

    def row(self, place: int) -> Results:
        """The results of one of the trials."""
        reasons = {int(k): v for k, v in self.reasons.items()}
        extras = {name: getattr(self, name) for name in self.EXTRAS + self.STAGES}
        return Results(
            np.asarray(self.value)[place : place + 1],
            {0: reasons[place]} if place in reasons else {},
            **{k: None if x is None else np.asarray(x)[place : place + 1] for k, x in extras.items()},
            pruned=[0] * (place in self.pruned),
        )


class Event:
    """Something that happened to a study."""

    kind: ClassVar[str]


@dataclass(frozen=True, eq=False)
class Begin(Event):
    """The first event: what is searched, and how."""

    kind = "study"
    space: str  # JSON
    strategy: dict[str, Any]  # see `jhpo.storage.spec`
    seed: int
    direction: str  # "minimize" or "maximize"; "several" where there are several objectives
    replicates: int
    x64: bool  # whether the strategy computes in float64, fixed for the study
    created: float = 0.0  # seconds since the epoch
    versions: dict[str, str] = field(default_factory=dict)
    directions: list[str] | None = field(default=None, metadata=_LEFT_OUT)  # of several objectives
    names: list[str] | None = field(default=None, metadata=_LEFT_OUT)  # of several objectives, if given
    folds: int = field(default=1, metadata=_LEFT_OUT)  # of a cross-validation
    fold_by_fold: bool = field(default=False, metadata=_LEFT_OUT)  # steps are folds
    settings: dict[str, str] | None = field(default=None, metadata=_LEFT_OUT)  # of JAX, see `header.settings`


@dataclass(frozen=True, eq=False)
class Ask(Event):
    """New trials were handed out: rows of the open generation, or the first ones of the next."""

    kind = "ask"
    generation: int
    rows: int  # of the whole generation
    member: int  # first row
    id: int  # first trial
    units: np.ndarray  # float[k, d]
    worker: str
    time: float
    streams: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)  # [k], ids that make the keys
    horizon: float = field(default=1.0, metadata=_LEFT_OUT)  # share of the training


@dataclass(frozen=True, eq=False)
class Batch(Event):
    """New trials were evaluated at once; the fields of an `Ask`, and their results."""

    kind = "batch"
    generation: int
    rows: int
    member: int
    id: int
    units: np.ndarray
    results: Results
    time: float  # when it began
    end: float
    streams: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)
    horizon: float = field(default=1.0, metadata=_LEFT_OUT)
    step: int = field(default=0, metadata=_LEFT_OUT)  # at which their training was paused
    widths: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)  # int[k], of the programs, where it was
    evolve: bool = field(default=False, metadata=_LEFT_OUT)  # they take over from one another later, see `Rung`


@dataclass(frozen=True, eq=False)
class Rung(Event):
    """Some trials of the last generation were trained on and are the next one; the others were stopped."""

    kind = "rung"
    generation: int
    rows: int  # of the whole generation; the first k were trained
    ids: np.ndarray  # int[k], trials
    step: int  # to which they were trained
    horizon: float  # the share of the training
    widths: np.ndarray  # int[k], of the programs that trained them
    results: Results
    time: float  # when it began
    end: float
    sources: np.ndarray | None = field(
        default=None, metadata=_LEFT_OUT
    )  # int[k], trials whose training they went on with
    units: np.ndarray | None = field(default=None, metadata=_LEFT_OUT)  # float[k, d], with these hyperparameters


@dataclass(frozen=True, eq=False)
class Tell(Event):
    """Trials that had been handed out are finished."""

    kind = "tell"
    ids: np.ndarray  # int[k]
    results: Results
    time: float


@dataclass(frozen=True, eq=False)
class Thaw(Event):
    """Some members of a study that freezes and thaws them were trained on by a part; new ones are among them."""

    kind = "thaw"
    generation: int
    ids: np.ndarray  # int64[n], trial of each row of the generation; -1 where it was empty
    id: int  # first new trial
    units: np.ndarray  # float[b, d], of the new ones
    steps: np.ndarray  # int64[k], to which the rows that were not empty were trained
    length: int  # steps of a whole training
    results: Results  # of these rows
    time: float  # when it began
    end: float


@dataclass(frozen=True, eq=False)
class Report(Event):
    """A trial that runs reported an intermediate value."""

    kind = "report"
    id: int
    step: int
    value: float  # in the user's own sign
    time: float
    more: dict[str, float] = field(default_factory=dict, metadata=_LEFT_OUT)  # other measurements


@dataclass(frozen=True, eq=False)
class Note(Event):
    """Values were noted about a trial or the study."""

    kind = "note"
    id: int  # trial; -1 for the study
    notes: dict[str, str]  # JSON text by name
    time: float


@dataclass(frozen=True, eq=False)
class Enqueue(Event):
    """Points given by the user were put in the queue."""

    kind = "enqueue"
    id: int  # first trial
    units: np.ndarray  # float[k, d]
    time: float
    exact: Sequence[dict[str, Any]] = field(default=(), metadata=_LEFT_OUT)  # numbers as given, by dotted name
    horizon: float = field(default=1.0, metadata=_LEFT_OUT)


@dataclass(frozen=True, eq=False)
class Attach(Event):
    """Finished trials were added, from elsewhere or from behind a repaired gap."""

    kind = "attach"
    id: int  # first trial
    units: np.ndarray  # float[k, d]
    results: Results
    time: float
    source: str = ""
    exact: Sequence[dict[str, Any]] = field(default=(), metadata=_LEFT_OUT)
    horizon: float = field(default=1.0, metadata=_LEFT_OUT)


@dataclass(frozen=True, eq=False)
class Claim(Event):
    """Waiting trials were handed out."""

    kind = "claim"
    ids: list[int]
    worker: str
    time: float


@dataclass(frozen=True, eq=False)
class Requeue(Event):
    """Running trials returned to the queue."""

    kind = "requeue"
    ids: list[int]
    lost: bool  # their workers were lost; otherwise they were given back
    time: float


@dataclass(frozen=True, eq=False)
class Layout(Event):
    """An evaluator chose its layout: chunk and devices."""

    kind = "layout"
    name: str
    layout: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Stop(Event):
    """A call of `optimize` ended."""

    kind = "stop"
    stopped: str
    evaluations: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0
    time: float = 0.0
    compile_running: float | None = field(default=None, metadata=_LEFT_OUT)  # of compile_seconds, while trials ran
    store_seconds: float | None = field(default=None, metadata=_LEFT_OUT)  # reading and writing the log
    store_running: float | None = field(default=None, metadata=_LEFT_OUT)  # of store_seconds, while trials ran


@dataclass(frozen=True, eq=False)
class Repair(Event):
    """A damaged storage was rewritten."""

    kind = "repair"
    text: str


_ALL = (Begin, Ask, Batch, Rung, Thaw, Report, Note, Tell, Enqueue, Attach, Claim, Requeue, Layout, Stop, Repair)
KINDS: dict[str, type[Event]] = {cls.kind: cls for cls in _ALL}
Append = Callable[[Event], None]
