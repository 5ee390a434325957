"""The Trainable protocol, and the training and evaluation of one member."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, check_number, invalid
from jhpo.kernels.convolutions import batchable
from jhpo.objectives import Objectives, if_named, if_several
from jhpo.space.categories import check_at_most
from jhpo.training.lengths import traced_steps, whole_steps
from jhpo.values.pytrees import HP as HP
from jhpo.values.pytrees import State as State


@runtime_checkable
class Trainable(Protocol):
    """A training with hyperparameters; any object with these attributes is a trainable.

    ``steps`` is the number of training steps, a Python integer. It may be a function of the hyperparameters; then the
    integer ``max_steps`` bounds it, and members that are done keep their state.
    ``step`` derives its batch from ``t`` (int32[]) and a key in the state, so that batches are never stored.
    ``evaluate`` returns the value to minimise, a real scalar, or a dict of named real scalars; in a search for several
    objectives one scalar for each. "constraint" in a dict is no metric: numbers that are >= 0 where it is feasible.

    The leaves of a trainable that is a registered pytree are arguments of the compiled program. Any other object has to
    be hashable: it is static, and another object compiles another program.
    """

    @property
    def steps(self) -> int | Callable[[HP], jax.Array]:
        """Number of training steps, or a function of the hyperparameters that returns it."""
        ...

    def init(self, hp: HP, key: jax.Array) -> State:
        """The state before the first step: parameters, optimiser state and whatever else is carried."""
        ...

    def step(self, hp: HP, state: State, t: jax.Array) -> State:
        """The state after training step ``t``, ``int32[]``."""
        ...

    def evaluate(self, hp: HP, state: State) -> jax.Array | dict[str, jax.Array]:
        """The value to minimise, or a dict of metrics."""
        ...


class ImplicitTrainable(Trainable, Protocol):
    """A trainable that supports implicit gradients, with the training loss as a function of the parameters."""

    def train_loss(self, hp: HP, params: State) -> jax.Array:
        """``float[]``, the loss that the training minimises."""
        ...

    def params(self, state: State) -> State:
        """The trained parameters in a state."""
        ...

    def with_params(self, state: State, params: State) -> State:
        """The state with other parameters."""
        ...


class Metrics(NamedTuple):
    """The result of one member."""

    value: jax.Array  # float[], to be minimised; float[m] where there are several objectives
    named: dict[str, jax.Array]  # every metric by name, float[]; {"value": value} for a plain scalar
    constraint: jax.Array | None = None  # float[c], measured, feasible where >= 0
    folds: jax.Array | None = None  # float[k] or float[k, m], the value on each fold; None without folds
    run: jax.Array | None = None  # int32[], how many of the folds were run; None if all


def check_steps(trainable: Trainable) -> None:
    """Raises InvalidArgument if the number of steps is not an integer >= 0."""
    name = "max_steps" if callable(trainable.steps) else "steps"
    value = getattr(trainable, name, None)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise invalid(name, "an integer >= 0" + (" beside steps(hp)" if name == "max_steps" else ""), value)


def max_steps(trainable: Trainable) -> int:
    """The largest number of training steps of any member."""
    return int(getattr(trainable, "max_steps") if callable(trainable.steps) else trainable.steps)  # noqa: B009


def horizon_steps(trainable: Trainable, horizon: float = 1.0) -> int:
    """Number of steps for a fraction of the training, rounded up.

    Raises:
      InvalidArgument: the horizon lies outside (0, 1].
    """
    check_number("horizon", horizon, 0.0, 1.0, open_low=True)
    return whole_steps(max_steps(trainable) * horizon)


def limit_of(trainable: Trainable, hp: HP, horizon: float = 1.0) -> jax.Array:
    """The number of steps of a member whose ``steps`` is a function, ``int32[]``.

    Raises:
      InvalidArgument: a hyperparameter that may be more than ``max_steps``.
    """
    assert callable(trainable.steps)
    steps = trainable.steps(hp)
    check_at_most("steps", steps, max_steps(trainable), "max_steps")
    return traced_steps(jnp.asarray(steps, jnp.float32) * horizon)


def _step(trainable: Trainable, hp: HP, horizon: float = 1.0) -> Callable[[State, jax.Array], State]:
    """One training step; with ``steps`` a function of the hyperparameters, one that changes nothing after the last."""
    one = batchable(functools.partial(trainable.step, hp))
    if not callable(trainable.steps):
        return one
    limit = limit_of(trainable, hp, horizon)

    def step(state: State, t: jax.Array) -> State:
        return jax.tree.map(lambda a, b: jnp.where(t < limit, a, b), one(state, t), state)

    return step


def train(
    trainable: Trainable, hp: HP, state: State, start: jax.Array | int, length: int, horizon: float = 1.0
) -> State:
    """The state after ``length`` further steps from step ``start``, as one `lax.scan`.

    ``length`` is a Python integer; ``start`` may be traced, so that training can be paused and continued. If ``steps``
    is a function of the hyperparameters, steps from ``ceil(horizon * steps(hp))`` on change nothing.
    """
    step = _step(trainable, hp, horizon)
    times = jnp.asarray(start, jnp.int32) + jnp.arange(length, dtype=jnp.int32)
    return jax.lax.scan(lambda state, t: (step(state, t), None), state, times)[0]


def train_until(trainable: Trainable, hp: HP, state: State, start: jax.Array | int, stop: jax.Array | int) -> State:
    """The state at step ``stop`` of a training that is at step ``start``; both may be traced, ``int32[]``.

    One program serves all parts of a training. A member whose own ``steps`` are fewer is at its end by then.
    """
    step = _step(trainable, hp)
    first, last = jnp.asarray(start, jnp.int32), jnp.asarray(stop, jnp.int32)
    done: State = jax.lax.fori_loop(first, last, lambda t, state: step(state, t), state)
    return done


# what to optimise of an evaluation's result: one value by name, the only one there is, or several
Wanted = str | Objectives | None


def read_metrics(result: object, metric: Wanted = None, default: str | None = None) -> Metrics:
    """The result of an evaluation as `Metrics`; checked during tracing, before anything is compiled.

    Raises:
      InvalidArgument: not a real scalar or a dict of them, an unknown metric, or several metrics and none named; for
        several objectives, another number of values or other names.
    """
    constraint = None
    if isinstance(result, dict) and "constraint" in result:
        constraint = _vector("objective: 'constraint'", result["constraint"])
        result = {name: value for name, value in result.items() if name != "constraint"}
    if isinstance(metric, Objectives):
        return _read_several(result, metric)._replace(constraint=constraint)
    if not isinstance(result, dict):
        if metric not in (None, "value"):
            raise invalid("metric", "None, as the objective returns a single value", metric)
        value = _scalar("objective", result)
        return Metrics(value, {"value": value}, constraint)
    if not result:
        raise invalid("objective", "a dict with at least one metric", result)
    named = {str(k): _scalar(f"objective: metric {k!r}", v) for k, v in result.items()}
    chosen = metric or (default if default in named else None) or (next(iter(named)) if len(named) == 1 else None)
    if chosen not in named:
        several = " (the evaluation returns several values)" if metric is None else ""
        note = if_named(named) if metric is None else ""
        raise invalid("metric", f"one of {sorted(named)}{several}", metric, note=note)
    return Metrics(named[chosen], named, constraint)


def _read_several(result: object, objectives: Objectives) -> Metrics:
    """The values of several objectives, by name or in their order."""
    if isinstance(result, dict) and set(result) == {"value"}:
        result = result["value"]
    if not isinstance(result, dict):
        several = list(result) if isinstance(result, (tuple, list)) else _vector("objective", result)
        if len(several) != objectives.count or objectives.names is not None:
            expected = f"{objectives.count} values, one for each direction"
            if objectives.names is not None:
                expected = f"a dict with {list(objectives.names)}, which directions names"
            raise invalid("objective", expected, f"{len(several)} without names")
        return Metrics(_stacked([_scalar(f"objective: value {k}", v) for k, v in enumerate(several)]), {})
    named = {str(k): _scalar(f"objective: {k!r}", v) for k, v in result.items()}
    names = tuple(named) if objectives.names is None else objectives.names
    if len(names) != objectives.count:
        expected = f"{objectives.count} values, one for each direction (a dict of directions chooses among more)"
        raise invalid("objective", expected, list(names))
    missing = [name for name in names if name not in named]
    if missing:
        raise invalid("objective", f"a dict with {list(names)}, which directions names", list(named))
    return Metrics(_stacked([named[name] for name in names]), {name: named[name] for name in names})


def _stacked(values: list[jax.Array]) -> jax.Array:
    wide = jnp.result_type(*values)
    return jnp.stack([v.astype(wide) for v in values])


def _vector(name: str, values: object) -> jax.Array:
    """``float[c]``, of one number or of several.

    Raises:
      InvalidArgument: no real numbers, or an array of more dimensions.
    """
    if isinstance(values, (tuple, list)):
        if not values:
            raise invalid(name, "at least one number", values)
        return _stacked([_scalar(name, v) for v in values])
    try:
        array = jnp.atleast_1d(jnp.asarray(values))
    except (TypeError, ValueError) as error:
        raise invalid(name, "real numbers", values) from error
    if array.ndim != 1 or not array.shape[0]:
        raise InvalidArgument(f"{name}: expected numbers [c], got {array.dtype}{list(array.shape)}")
    return jax.vmap(lambda x: _scalar(name, x))(array)


def _scalar(name: str, value: object) -> jax.Array:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise invalid(name, "a real scalar", value) from error
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if array.shape != () or not real:
        hint = if_several(array.shape) if name == "objective" else ""
        raise InvalidArgument(f"{name}: expected a real scalar, got {array.dtype}{list(array.shape)}{hint}")
    # a weak type or an integer would change the dtypes of everything downstream; 16-bit values are too coarse, and with
    # x64 an integer has all its digits
    whole = jnp.issubdtype(array.dtype, jnp.integer)
    wide = jnp.result_type(float) if whole else array.dtype if array.dtype.itemsize > 4 else jnp.float32
    return jax.lax.convert_element_type(array, wide)


def evaluate_state(trainable: Trainable, hp: HP, state: State, metric: Wanted = None) -> Metrics:
    """The metrics of a trained state; with folds their means over those that were run, and the value on each."""
    default = getattr(trainable, "metric", None)
    # of the class: what wraps a trainable, with other hyperparameters, forwards its attributes as they are
    each = getattr(type(trainable), "evaluate_folds", None)
    if each is None:
        return read_metrics(trainable.evaluate(hp, state), metric, default)
    found = jax.vmap(lambda result: read_metrics(result, metric, default))(each(trainable, hp, state))
    count = getattr(type(trainable), "folds_run", None)
    run = None if count is None else count(trainable, state)

    def mean(x: jax.Array) -> jax.Array:
        if run is None:
            return x.mean(axis=0)
        there = jnp.arange(x.shape[0], dtype=jnp.int32) < run
        return jnp.where(there.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0).sum(axis=0) / run.astype(x.dtype)

    means: Metrics = jax.tree.map(mean, found)
    return means._replace(folds=found.value, run=run)


def train_state(trainable: Trainable, hp: HP, key: jax.Array, horizon: float = 1.0) -> State:
    """The state after initialisation and a fraction ``horizon`` in (0, 1] of the training steps."""
    length = horizon_steps(trainable, horizon)
    state = trainable.init(hp, key)
    return train(trainable, hp, state, 0, length, horizon) if length else state


def train_and_evaluate(
    trainable: Trainable, hp: HP, key: jax.Array, horizon: float = 1.0, metric: Wanted = None
) -> Metrics:
    """Train and evaluate one member: a pure function to be vmapped over hyperparameters and keys.

    Args:
      trainable: a `Trainable` (see `jhpo.as_trainable`).
      hp: one hyperparameter tree.
      key: the member's key, which determines everything random.
      horizon: fraction of the training steps to run, in (0, 1], a Python number.
      metric: which metric to minimise if the evaluation returns several.

    Raises:
      InvalidArgument: during tracing, if the evaluation is not a real scalar or the metric is unknown.

    >>> from jhpo import as_trainable
    >>> found = train_and_evaluate(as_trainable(lambda hp, key: hp ** 2), 3.0, jax.random.key(0))
    >>> float(found.value), sorted(found.named)
    (9.0, ['value'])
    """
    return evaluate_state(trainable, hp, train_state(trainable, hp, key, horizon), metric)
