"""Schedules of hyperparameters that a population found, and trainings that follow them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import check_integer, invalid
from jhpo.process.switches import with_transfers
from jhpo.space.space import Space
from jhpo.training.foreign import in_this_trace
from jhpo.training.objective import Objective, as_trainable
from jhpo.training.trainable import Trainable, max_steps, train
from jhpo.training.values import Delegate
from jhpo.values.pytrees import HP, State
from jhpo.values.structure import Structured, structured

# what takes the hyperparameters of a training that has ended
_OF_THE_END = ("predict", "trained_model", "train_loss")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Schedule:
    """Hyperparameters that change during a training, from `Result.schedule`.

    Attributes:
      space: of the hyperparameters.
      steps: ``int64[p]``, the steps at the end of the parts; the last one is the length of the training.
      units: ``float[p, d]``, the point of the unit cube of each part.
      members: ``int64[p]``, the trials that were trained in each part.
      origin: the trial that began: its key is that of the whole training, ``fold_in(root, origin)``.
    """

    space: Space
    steps: np.ndarray
    units: np.ndarray
    members: np.ndarray
    origin: int

    def __repr__(self) -> str:
        return f"Schedule({len(self.steps)} parts of {self.steps[-1]} steps, {self.space!r}, origin={self.origin})"

    @property
    def params(self) -> list[Any]:
        """Decoded hyperparameters of each part."""
        return [self.space.decode(unit) for unit in self.units]

    def of(self, name: str) -> list[Any]:
        """The values of one hyperparameter by its dotted name, a part each; None where its condition does not hold.

        Raises:
          InvalidArgument: there is none of that name.
        """
        if name not in self.space.names:
            raise invalid("name", f"one of {list(self.space.names)}", name)
        return [self.space.flat(params).get(name) for params in self.params]

    def stretched(self, steps: int) -> Schedule:
        """The schedule for a training of another length, its parts in proportion.

        Raises:
          InvalidArgument: fewer steps than parts.
        """
        check_integer("steps", steps, len(self.steps))
        stops = np.rint(self.steps * (steps / self.steps[-1])).astype(np.int64)
        # at least one step a part, where rounding would leave none
        ahead = np.arange(1, len(stops) + 1)
        stops = np.maximum.accumulate(stops - ahead) + ahead
        stops = np.minimum(np.maximum(stops, ahead), steps - ahead[::-1] + 1)
        return dataclasses.replace(self, steps=stops)


@with_transfers
def replay(trainable: Trainable | Callable[..., Any], schedule: Schedule) -> Replayed:
    """A trainable whose hyperparameters follow a schedule.

    It is trained and evaluated as any other, with ``{}`` for hyperparameters; those that are given replace those of the
    schedule: a space of the others tunes them beside it. With the key of its ``origin`` and the trainable of the search
    the training is that of the member, up to rounding.

    Args:
      trainable: as in the search, or another one of as many steps.
      schedule: from `Result.schedule`.

    Raises:
      InvalidArgument: a function, which has no steps, or a training of another length.

    >>> import jhpo
    >>> class Descent:
    ...     steps = 4
    ...     def init(self, hp, key): return jnp.float32(1.0)
    ...     def step(self, hp, w, t): return w - hp["lr"] * w
    ...     def evaluate(self, hp, w): return w
    >>> space = Space({"lr": jhpo.Float(0.0, 1.0)})
    >>> schedule = Schedule(space, np.array([3, 4]), np.array([[0.5], [0.25]]), np.array([0, 0]), 0)
    >>> from jhpo.training.trainable import train_and_evaluate
    >>> float(train_and_evaluate(replay(Descent(), schedule), {}, jax.random.key(0)).value)
    0.09375
    """
    inner = as_trainable(trainable)
    if isinstance(inner, Objective):
        raise invalid("trainable", "one with steps, which a schedule can follow", "a function")
    if not isinstance(schedule, Schedule):
        raise invalid("schedule", "a jhpo.Schedule, from result.schedule()", schedule)
    length, own = max_steps(inner), int(schedule.steps[-1])
    if length != own:
        raise invalid(
            "schedule", f"one of the {length} steps of the training (schedule.stretched({length}) makes one)", own
        )
    groups = schedule.space.static_groups(schedule.units)
    if len(groups) > 1:
        raise invalid("schedule", "the same static parameters in all parts", [values for values, _ in groups])
    return Replayed(
        inner,
        schedule.space,
        jnp.asarray(schedule.units, jnp.result_type(float)),
        jnp.asarray(schedule.steps, jnp.int32),
        tuple(sorted(groups[0][0].items())),
    )


@functools.partial(structured, data=["_inner", "space", "units", "stops"], meta=["static"])
class Replayed(Delegate, Structured):
    """See `replay`."""

    def __init__(
        self, inner: Any, space: Space, units: jax.Array, stops: jax.Array, static: tuple[tuple[str, Any], ...]
    ) -> None:
        super().__init__(inner)
        self.space, self.units, self.stops, self.static = space, units, stops, static

    @property
    def steps(self) -> int:
        """Length of the training; with ``steps`` a function of the hyperparameters, the most of them."""
        return max_steps(self._inner)

    def init(self, hp: HP, key: jax.Array) -> State:
        """The first state, with the hyperparameters of the first part."""
        return self._inner.init(self._at(hp, jnp.int32(0)), key)

    def step(self, hp: HP, state: State, t: jax.Array) -> State:
        """A step with the hyperparameters of its part."""
        part = jnp.searchsorted(self.stops, jnp.asarray(t, jnp.int32), side="right")
        return train(self._inner, self._at(hp, part), state, t, 1)

    def evaluate(self, hp: HP, state: State) -> Any:
        """The evaluation, with the hyperparameters of the last part."""
        return self._inner.evaluate(self._at(hp, jnp.int32(-1)), state)

    def _offered(self, name: str, value: Any) -> Any:
        if name == "on_fold":
            return lambda part: Replayed(in_this_trace(value(part)), self.space, self.units, self.stops, self.static)
        if name in _OF_THE_END:
            return lambda hp, *args: value(self._at(hp, jnp.int32(-1)), *args)
        return value

    def _at(self, hp: HP, part: jax.Array) -> HP:
        """Hyperparameters of a part, those that are given in place of its own."""
        own = self.space.from_unit(self.units[part], dict(self.static))
        if not jax.tree.leaves(hp):
            return own
        if not isinstance(own, dict) or not isinstance(hp, dict):
            raise invalid("hp", "nothing, or a dict beside those of the schedule", hp)
        return {**own, **hp}
