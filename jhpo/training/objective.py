"""What users hand over, as a trainable: plain functions, partials, objects that are no pytrees; and their errors."""

from __future__ import annotations

import functools
import inspect
import re
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, JhpoError, invalid
from jhpo.lifetimes import Form, Structured, structured
from jhpo.space.space import Space
from jhpo.training.trainable import HP, Trainable, check_steps, train_and_evaluate
from jhpo.training.values import pack, release


@functools.partial(structured, meta=["value"])
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


@functools.partial(structured, data=["call", "arguments"], meta=["treedef"])
class _Partial:
    """A `functools.partial` whose array arguments are leaves and whose other arguments are structure."""

    def __init__(self, function: functools.partial[Any]) -> None:
        leaves, self.treedef = jax.tree.flatten((function.args, dict(function.keywords)))
        # the leaves of jax.tree_util.Partial are its own choice
        traced = isinstance(function, jax.tree_util.Partial)
        self.call = Constant(function.func)
        self.arguments = [x if traced or _is_array(x) else Constant(x) for x in leaves]

    @property
    def bound(self) -> int:
        """Number of positional arguments that have a value."""
        return len(jax.tree.unflatten(self.treedef, self.arguments)[0])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves = [x.value if isinstance(x, Constant) else x for x in self.arguments]
        first, named = jax.tree.unflatten(self.treedef, leaves)
        return self.call.value(*first, *args, **{**named, **kwargs})


@functools.partial(structured, data=["function"], meta=["key_argument"])
class Objective(Structured):
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
            found = call(hp)
        else:
            found = call(hp, **{self.key_argument: state}) if self.key_argument != "" else call(hp, state)
        if found is hp and isinstance(hp, dict):
            raise InvalidArgument(f"objective: expected a real scalar, got all hyperparameters{_ONE_DICT}")
        return found


# a state may hold functions and names beside its arrays (an equinox module does): programs carry them as structure
_PACKING: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "init": lambda f: lambda hp, key: pack(f(hp, key)),
    "step": lambda f: lambda hp, state, t: pack(f(hp, release(state), t)),
    "evaluate": lambda f: lambda hp, state: f(hp, release(state)),
    "params": lambda f: lambda state: pack(f(release(state))),
    "with_params": lambda f: lambda state, params: pack(f(release(state), release(params))),
    "train_loss": lambda f: lambda hp, params: f(hp, release(params)),
}


class _Wrapped:
    """An object of the user's with all that it offers, and another way of being a pytree."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_inner":
            raise AttributeError(name)
        value = getattr(self._inner, name)
        return _PACKING[name](value) if name in _PACKING and callable(value) else value


@functools.partial(structured, meta=["_inner"])
class _Opaque(_Wrapped):
    """A trainable object that is no pytree, as structure of the compiled program."""


class _Packed(Form):
    """A pytree as structure, together with those of its leaves that are no arrays."""

    __slots__ = ()

    def _same(self, mine: Any, theirs: Any) -> bool:
        a: Any = jax.tree.structure(pack(mine))
        return bool(a == jax.tree.structure(pack(theirs)))


@jax.tree_util.register_pytree_node_class
class _Foreign(_Wrapped):
    """A pytree of another library or of the user's own, whose structure a compiled program does not keep alive."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner(*args, **kwargs)

    def tree_flatten(self) -> tuple[list[Any], _Packed]:
        """Its arrays, and itself as structure."""
        return jax.tree.leaves(pack(self._inner)), _Packed(self._inner)

    @classmethod
    def tree_unflatten(cls, form: _Packed, leaves: Any) -> _Foreign:
        """Another of the same structure."""
        return cls(release(jax.tree.unflatten(jax.tree.structure(pack(form())), leaves)))


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
    if isinstance(objective, (Objective, _Wrapped)):
        return objective
    if isinstance(objective, Trainable):
        check_steps(objective)
        if not _is_pytree(objective):
            return _Opaque(Constant(objective).value)
        return objective if isinstance(objective, Structured) else _Foreign(objective)
    if not callable(objective):
        expected = "a function objective(hp) or objective(hp, key), or an object with steps, init, step and evaluate"
        raise invalid("objective", expected, objective)
    key_argument = _key_argument(objective)
    if isinstance(objective, functools.partial):
        return Objective(_Partial(objective), key_argument)
    return Objective(_Foreign(objective) if _is_pytree(objective) else Constant(objective), key_argument)


def check_arguments(trainable: Any, space: Space) -> None:
    """Refuse a function whose second argument, where the key goes, has the name of a hyperparameter.

    Raises:
      InvalidArgument: it is meant to be called with the hyperparameters one by one.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "n": jhpo.Int(1, 9)})
    >>> check_arguments(as_trainable(lambda x, n: x * n), space)
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: objective: expected a function objective(hp) or objective(hp, key), \
got one of (x, n), where a random key would be taken for the hyperparameter 'n'; write lambda hp: hp["x"] ... hp["n"]
    """
    if isinstance(trainable, Objective) and trainable.key_argument == "":
        call, bound = trainable.function, 0
        if isinstance(call, _Partial):
            bound, call = call.bound, call.call
        check_second_argument(call.value if isinstance(call, Constant) else call, space, "key", bound)


def check_second_argument(function: Callable[..., Any], space: Space, role: str, bound: int = 0) -> None:
    """Refuse a second argument (after ``bound`` ones that have a value) with a hyperparameter's name.

    Raises:
      InvalidArgument: what would be given to it is a ``role``, "key" or "seed".
    """
    try:
        names = list(inspect.signature(function).parameters)[bound:]
    except (TypeError, ValueError):
        return
    wanted = {name.split(".")[0] for name in space.names}
    if len(names) > 1 and names[1] in wanted:
        looked_up = " ... ".join(f'hp["{name}"]' for name in names if name in wanted)
        raise InvalidArgument(
            f"objective: expected a function objective(hp) or objective(hp, {role}), got one of ({', '.join(names)}), "
            f"where a random {role} would be taken for the hyperparameter {names[1]!r}; write lambda hp: {looked_up}"
        )


def check_trainable(objective: Any, space: Space, metric: str | None = None) -> Any:
    """`as_trainable`, tried out on the shapes of one member of the space without computing or compiling anything.

    Raises:
      InvalidArgument: the objective cannot be traced or does not return a real scalar; the message says why.
    """
    trainable = as_trainable(objective)
    check_arguments(trainable, space)
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
            hint = _remedy(error)
        if isinstance(error, jax.errors.TracerIntegerConversionError) or _HASHED.search(str(error)):
            hint = _LOOK_UP
        for words, advice in _OF_OPTIMISERS.items():
            if words in str(error):
                hint = advice
        if isinstance(error, TypeError) and "'dict'" in str(error):
            hint = _ONE_DICT
        text = str(error).split("\n")[0][:500] + _where(error)
        raise InvalidArgument(
            f"objective: expected a function that JAX can trace, got {type(error).__name__}: {text}{hint}"
        ) from error


_ONE_DICT = '; the first argument is the dict of all of them: hp["name"]'
_HASHED = re.compile(r"unhashable type: '\w*Tracer'")
_LOOK_UP = (
    "; a hyperparameter that is traced cannot be looked up in a dictionary or a list, nor be a length: take "
    "jhpo.switch(hp[...], {...}) for a choice, and static=True in the space for a length or a depth"
)


# optimisers of optax that cannot be used as they are, by what they complain of
_OF_OPTIMISERS = {
    "has no attribute 'fast'": (
        "; optax.lookahead wants pairs of parameters: jhpo.optimisers.lookahead takes those of a model"
    ),
    "expects `grads` to have a batch dimension": (
        "; a differentially private optimiser wants the gradient of every example, which jhpo.supervised does not "
        "form: write a trainable whose step takes jax.vmap(jax.grad(...))"
    ),
}


def _remedy(error: BaseException) -> str:
    """What to do about code that wants a number where it gets a traced one."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if module.startswith("flax.") and type(frame.f_locals.get("self")).__name__ == "Dropout":
            kind = "nnx" if ".nnx" in module else "linen"
            return f"; a dropout rate that is tuned needs jhpo.{kind}.Dropout"
        if module.startswith("optax."):
            from jhpo.training import decays

            name = frame.f_code.co_name
            if hasattr(decays, name):
                return f"; optax.{name} compares its numbers in Python: jhpo.schedules.{name} takes traced ones"
    return "; a function that is not written in JAX goes through jhpo.host"


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
