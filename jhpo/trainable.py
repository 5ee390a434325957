"""What is tuned: the Trainable protocol, plain objectives as trainables, and the training of one member."""

from __future__ import annotations

import functools
import inspect
import math
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, JhpoError, check_number, invalid
from jhpo.space import Space

HP = Any
State = Any


@runtime_checkable
class Trainable(Protocol):
    """The one set of functions a user writes; any object with these attributes is a trainable.

    ``steps`` is the training length, a Python integer. It may be a function of the hyperparameters instead; then
    ``max_steps`` is the integer no member exceeds, and members that are done keep their state to the end.
    ``step`` derives its batch from ``t`` (int32[]) and a key in the state, so that batches are never stored.
    ``evaluate`` returns the value to minimise, a real scalar, or a dict of named real scalars.

    A trainable that is a registered pytree passes its leaves to the compiled program as arguments. Any other
    object has to be hashable: it is a constant of the program, and another object compiles another program.
    """

    steps: Any

    def init(self, hp: HP, key: jax.Array) -> State:
        """Parameters, optimiser state and whatever else is carried, before the first step."""
        ...

    def step(self, hp: HP, state: State, t: jax.Array) -> State:
        """The state after training step ``t``."""
        ...

    def evaluate(self, hp: HP, state: State) -> Any:
        """The value to minimise, or a dict of metrics."""
        ...


class Metrics(NamedTuple):
    """The result of one member."""

    value: jax.Array  # float[], to be minimised
    named: dict[str, jax.Array]  # every metric by name, float[]; {"value": value} for a plain scalar


@jax.tree_util.register_static
class Constant:
    """A hashable object as structure of a pytree: compared by equality, compiled into the program."""

    def __init__(self, value: Any) -> None:
        try:
            hash(value)
        except TypeError as error:
            raise invalid("objective", "a hashable object or a registered pytree", value) from error
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def _is_pytree(value: Any) -> bool:
    return not jax.tree_util.treedef_is_leaf(jax.tree.structure(value))


def _is_array(value: Any) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


@functools.partial(jax.tree_util.register_dataclass, data_fields=["arrays"], meta_fields=["call", "layout"])
class _Partial:
    """A `functools.partial` whose array arguments are leaves and whose other arguments are structure."""

    def __init__(self, call: Constant, arrays: list[Any], layout: Any) -> None:
        self.call, self.arrays, self.layout = call, arrays, layout

    @classmethod
    def of(cls, function: functools.partial[Any]) -> _Partial:
        leaves, treedef = jax.tree.flatten((function.args, dict(function.keywords)))
        rest = tuple(None if _is_array(x) else Constant(x) for x in leaves)
        return cls(Constant(function.func), [x for x in leaves if _is_array(x)], (treedef, rest))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        treedef, rest = self.layout
        arrays = iter(self.arrays)
        first, named = jax.tree.unflatten(treedef, [next(arrays) if r is None else r.value for r in rest])
        return self.call.value(*first, *args, **{**named, **kwargs})


@functools.partial(jax.tree_util.register_dataclass, data_fields=["function"], meta_fields=["key_argument"])
class Objective:
    """A plain function as a trainable of no steps: its state is the member's key."""

    steps = 0

    def __init__(self, function: Any, key_argument: str | None) -> None:
        self.function, self.key_argument = function, key_argument

    def init(self, hp: HP, key: jax.Array) -> jax.Array:
        """The key, ``key[]``."""
        return key

    def step(self, hp: HP, state: jax.Array, t: jax.Array) -> jax.Array:
        """No step is ever taken; the state stays."""
        return state

    def evaluate(self, hp: HP, state: jax.Array) -> Any:
        """What the function returns."""
        call = self.function.value if isinstance(self.function, Constant) else self.function
        if self.key_argument is None:
            return call(hp)
        return call(hp, **{self.key_argument: state}) if self.key_argument != "" else call(hp, state)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["inner"], meta_fields=[])
class _Opaque:
    """A trainable object that is no pytree, as structure of the compiled program."""

    def __init__(self, inner: Constant) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner.value, name)


def _key_argument(function: Callable[..., Any]) -> str | None:
    """How the function takes its key: "" as the second argument, a name for a keyword, None not at all."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # built-in functions without a signature take one argument
        return None
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.KEYWORD_ONLY and p.name == "key" for p in parameters):
        return "key"
    required = [p for p in plain if p.default is p.empty]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not (plain or takes_any) or len(required) > 2:
        raise invalid("objective", "a function objective(hp) or objective(hp, key)", str(inspect.signature(function)))
    second = plain[1] if len(plain) > 1 else None
    return "" if second is not None and (second.default is second.empty or second.name == "key") else None


def as_trainable(objective: Any) -> Any:
    """A trainable from whatever a user hands over: a `Trainable`, or a function ``objective(hp[, key])``.

    Pytrees (`supervised`, `jax.tree_util.Partial`, equinox modules) keep their leaves, and the arrays bound by a
    `functools.partial` become leaves: they are arguments of the compiled program. Other functions and objects are
    constants of it, so hand over the same function again to use the same program.

    Raises:
      InvalidArgument: neither callable nor a trainable, a wrong number of arguments, or a wrong ``steps``.

    >>> trainable = as_trainable(lambda hp: (hp["x"] - 1.0) ** 2)
    >>> float(train_and_evaluate(trainable, {"x": 3.0}, jax.random.key(0)).value)
    4.0
    """
    if isinstance(objective, type):
        raise invalid("objective", "an instance or a function", objective)
    if isinstance(objective, (Objective, _Opaque)):
        return objective
    if isinstance(objective, Trainable):
        _check_steps(objective)
        return objective if _is_pytree(objective) else _Opaque(Constant(objective))
    if not callable(objective):
        expected = "a function objective(hp) or objective(hp, key), or an object with steps, init, step and evaluate"
        raise invalid("objective", expected, objective)
    key_argument = _key_argument(objective)
    if isinstance(objective, functools.partial):
        return Objective(_Partial.of(objective), key_argument)
    return Objective(objective if _is_pytree(objective) else Constant(objective), key_argument)


def _check_steps(trainable: Any) -> None:
    name = "max_steps" if callable(trainable.steps) else "steps"
    value = getattr(trainable, name, None)
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise invalid(name, "an integer >= 0" + (" beside steps(hp)" if name == "max_steps" else ""), value)


def max_steps(trainable: Any) -> int:
    """The largest number of training steps of any member."""
    return int(trainable.max_steps if callable(trainable.steps) else trainable.steps)


def horizon_steps(trainable: Any, horizon: float = 1.0) -> int:
    """Number of steps for a share of the training, rounded up; a share of 1 is all of it.

    Raises:
      InvalidArgument: the horizon lies outside (0, 1].
    """
    check_number("horizon", horizon, 0.0, 1.0, open_low=True)
    # the slack keeps 0.07 * 100 = 7.000000000000001 at 7 steps
    return math.ceil(max_steps(trainable) * horizon * (1.0 - 1e-12))


def train(trainable: Any, hp: HP, state: State, start: jax.Array | int, length: int, horizon: float = 1.0) -> State:
    """The state after ``length`` further steps from step ``start``, as one `lax.scan`.

    ``length`` is a Python integer, ``start`` may be traced, so that training can be paused and continued. With
    ``steps`` a function of the hyperparameters, steps from ``ceil(horizon * steps(hp))`` on change nothing.
    """
    limit = None
    if callable(trainable.steps):
        limit = jnp.ceil(jnp.asarray(trainable.steps(hp), jnp.float32) * horizon).astype(jnp.int32)

    def body(state: State, t: jax.Array) -> tuple[State, None]:
        new = trainable.step(hp, state, t)
        if limit is not None:
            new = jax.tree.map(lambda a, b: jnp.where(t < limit, a, b), new, state)
        return new, None

    times = jnp.asarray(start, jnp.int32) + jnp.arange(length, dtype=jnp.int32)
    return jax.lax.scan(body, state, times)[0]


def read_metrics(result: Any, metric: str | None = None, default: str | None = None) -> Metrics:
    """What an evaluation returned, as `Metrics`; checked while it is traced, before anything is compiled.

    Raises:
      InvalidArgument: not a real scalar or a dict of them, an unknown metric, or several and none named.
    """
    if not isinstance(result, dict):
        if metric not in (None, "value"):
            raise invalid("metric", "None, as the objective returns a single value", metric)
        value = _scalar("objective", result)
        return Metrics(value, {"value": value})
    if not result:
        raise invalid("objective", "a dict with at least one metric", result)
    named = {str(k): _scalar(f"objective: metric {k!r}", v) for k, v in result.items()}
    chosen = metric or (default if default in named else None) or (next(iter(named)) if len(named) == 1 else None)
    if chosen not in named:
        raise invalid("metric", f"one of {sorted(named)}", metric)
    return Metrics(named[chosen], named)


def _scalar(name: str, value: Any) -> jax.Array:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise invalid(name, "a real scalar", value) from error
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if array.shape != () or not real:
        raise InvalidArgument(f"{name}: expected a real scalar, got {array.dtype}{list(array.shape)}")
    # a weak type or an integer here would change the types of everything downstream; 16-bit values are too coarse
    wide = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize > 4
    return jax.lax.convert_element_type(array, array.dtype if wide else jnp.float32)


def evaluate_state(trainable: Any, hp: HP, state: State, metric: str | None = None) -> Metrics:
    """The metrics of a trained state."""
    return read_metrics(trainable.evaluate(hp, state), metric, getattr(trainable, "metric", None))


def train_state(trainable: Any, hp: HP, key: jax.Array, horizon: float = 1.0) -> State:
    """The state after initialisation and ``horizon`` (a share in (0, 1]) of the training."""
    length = horizon_steps(trainable, horizon)
    state = trainable.init(hp, key)
    return train(trainable, hp, state, 0, length, horizon) if length else state


def train_and_evaluate(
    trainable: Any, hp: HP, key: jax.Array, horizon: float = 1.0, metric: str | None = None
) -> Metrics:
    """Train and evaluate one member: a pure function to be vmapped over hyperparameters and keys.

    Args:
      trainable: a `Trainable` (see `as_trainable`).
      hp: one hyperparameter tree.
      key: the member's key, from which everything random follows.
      horizon: share of the training steps to run, in (0, 1], a Python number.
      metric: which metric to minimise if the evaluation returns several.

    Raises:
      InvalidArgument: while traced, if the evaluation is no real scalar or metric is unknown.

    >>> value, named = train_and_evaluate(as_trainable(lambda hp, key: hp ** 2), 3.0, jax.random.key(0))
    >>> float(value), sorted(named)
    (9.0, ['value'])
    """
    return evaluate_state(trainable, hp, train_state(trainable, hp, key, horizon), metric)


def check_trainable(objective: Any, space: Space, metric: str | None = None) -> Any:
    """`as_trainable`, tried out on the shapes of one member of the space without computing or compiling anything.

    Raises:
      InvalidArgument: the objective cannot be traced or does not return a real scalar; the message says why.
    """
    trainable = as_trainable(objective)
    unit = jax.ShapeDtypeStruct((space.dim,), jnp.result_type(float))
    static = space.static_groups(space.default_unit()[None])[0][0]

    def member(unit: jax.Array) -> jax.Array:
        return train_and_evaluate(trainable, space.from_unit(unit, static), jax.random.key(0), 1.0, metric).value

    with objective_errors():
        jax.eval_shape(member, unit)
    return trainable


class objective_errors:
    """Context in which an objective is traced: whatever it raises becomes an `InvalidArgument` that says so."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, JhpoError) or not isinstance(error, Exception):
            return
        hint = ""
        if isinstance(error, (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError)):
            hint = "; a function that is not written in JAX goes through jhpo.host"
        text = str(error).split("\n")[0][:500] + _where(error)
        raise InvalidArgument(
            f"objective: expected a function that JAX can trace, got {type(error).__name__}: {text}{hint}"
        ) from error


# code between the user's and the error's place: where an error came from is a line of the user's own
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "jhpo", "equinox", "contextlib", "functools")


def _where(error: BaseException) -> str:
    """The innermost line of code outside the libraries, as text."""
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").split(".")[0] not in _LIBRARIES
    ]
    return f" (line {frames[-1][1]} of {frames[-1][0]})" if frames else ""
