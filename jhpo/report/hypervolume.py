"""The hypervolume of a study's front: the volume of the objective space that its trials dominate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import JhpoError, invalid
from jhpo.kernels import hypervolume as kernel
from jhpo.kernels.internals import float_precision
from jhpo.keys import root_key
from jhpo.objectives import front, reference_point
from jhpo.process.switches import with_transfers
from jhpo.report.trials import Trials

_CHECKPOINTS = 64  # points of a figure


class Hypervolume(NamedTuple):
    """The volume between a front and a reference point."""

    value: float
    reference: tuple[float, ...]  # in the user's own signs
    error: float  # standard error, 0 where the value is exact: up to four objectives


_exact = jax.jit(kernel.hypervolume)
_sampled = jax.jit(kernel.sampled_hypervolume)


def hypervolume(trials: Trials, reference: Sequence[float] | None = None) -> Hypervolume:
    """The hypervolume of the trials' front.

    Exact for two to four objectives, estimated from 65,536 samples beyond.

    Args:
      trials: trials with several objectives.
      reference: one value per objective. Trials that are not better in every objective do not count; without others
        the hypervolume is 0. If None, the worst values on the front plus a tenth of its extents. To compare two
        studies, give both the same one.

    Raises:
      InvalidArgument: `reference` does not have one finite number per objective.
      JhpoError: there is one objective only, or no feasible trial to choose a reference from.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Int(0, 1)}), "grid", directions=["minimize", "maximize"])
    >>> for trial in study.ask(2):
    ...     study.tell(trial, (trial.params["x"], trial.params["x"]))
    >>> hypervolume(study.trials, [2.0, -1.0])
    Hypervolume(value=3.0, reference=(2.0, -1.0), error=0.0)
    """
    if trials.objectives is None:
        raise JhpoError("a hypervolume needs several objectives: Study(..., directions=[...])")
    signs, trials = trials.objectives.signs, trials.still()
    values = trials.minimised(trials.front())
    if reference is None:
        if not len(values):
            raise JhpoError("no successful trial yet, so no reference point: give one as reference=")
        at = reference_point(values)
    else:
        at = signs * _checked(reference, len(signs))
    value, error = volume(values, at)
    return Hypervolume(value, tuple((signs * at).tolist()), error)


def _checked(reference: Sequence[float], count: int) -> np.ndarray:
    try:
        at = np.asarray(reference, np.float64)
    except (TypeError, ValueError, OverflowError):
        at = np.empty(0)
    if at.shape != (count,) or not np.isfinite(at).all():
        raise invalid("reference", f"{count} finite numbers, one for each objective", reference)
    return at


@with_transfers
def volume(values: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Hypervolume and standard error of ``float64[n, m]`` values to be minimised."""
    counts = (values < reference).all(axis=1)
    if not counts.any():
        return 0.0, 0.0
    values = values[counts][front(values[counts])]
    # scaled to the unit box and padded to multiples of 32 rows, to compile few programs
    low = values.min(axis=0)
    side = reference - low
    rows = np.pad((values - low) / side, [(0, -len(values) % 32), (0, 0)], constant_values=2.0)
    with float_precision(True):
        points, one = jnp.asarray(rows), jnp.ones(len(side))
        if len(side) <= kernel.EXACT:
            share, error = float(_exact(points, one)), 0.0
        else:
            found = _sampled(points, one, root_key(0))
            share, error = float(found[0]), float(found[1])
    return share * float(np.prod(side)), error * float(np.prod(side))


@with_transfers
def over_trials(trials: Trials, reference: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of trials and the hypervolume after each; by default with the reference point of the final front.

    Args:
      trials: trials with several objectives.
      reference: ``float64[m]``, to be minimised.
    """
    ids = trials.table.successes()
    if not len(ids):
        raise JhpoError("no successful trial yet, so no hypervolume")
    at = reference_point(trials.minimised(trials.front())) if reference is None else reference
    counts = np.unique(np.linspace(1, trials.table.size, min(_CHECKPOINTS, trials.table.size)).astype(int))
    values = trials.minimised(ids)
    best, found = np.empty((0, len(at))), []
    for before, count in zip(np.concatenate([[0], counts[:-1]]), counts):
        best = np.concatenate([best, values[(ids >= before) & (ids < count)]])
        best = best[front(best)]
        found.append(volume(best, at)[0])
    return counts, np.asarray(found)
