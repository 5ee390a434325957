"""Conversion of users' objectives to trainables: plain functions, partials, objects that are not pytrees."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from jhpo.errors import NOT_ASYNC, InvalidArgument, invalid, is_async
from jhpo.space.space import Space
from jhpo.training.arguments import check_place_of_hp, signature_of
from jhpo.training.foreign import Bound, Constant, Foreign, Opaque, Wrapped, is_pytree
from jhpo.training.tracing import ONE_DICT, objective_errors
from jhpo.training.trainable import HP, Trainable, check_steps, train_and_evaluate
from jhpo.values.structure import Structured, structured


@functools.partial(structured, data=["function"], meta=["key_argument"])
class Objective(Structured):
    """A plain function as a trainable without steps, whose state is the member's key."""

    steps = 0

    def __init__(self, function: Bound | Foreign | Constant, key_argument: str | None) -> None:
        self.function, self.key_argument = function, key_argument

    def init(self, hp: HP, key: jax.Array) -> jax.Array:
        """The key, ``key[]``."""
        return key

    def step(self, hp: HP, state: jax.Array, t: jax.Array) -> jax.Array:
        """The state; never called, as there are no steps."""
        return state

    def evaluate(self, hp: HP, state: jax.Array) -> Any:
        """The result of the function."""
        call = self.function.value if isinstance(self.function, Constant) else self.function
        if self.key_argument is None:
            found = call(hp)
        else:
            found = call(hp, **{self.key_argument: state}) if self.key_argument != "" else call(hp, state)
        if found is hp and isinstance(hp, dict):
            raise InvalidArgument(f"objective: expected a real scalar, got all hyperparameters{ONE_DICT}")
        return found


def _key_argument(function: Callable[..., Any]) -> str | None:
    """How the function takes its key: "" as the second argument, a name as that keyword, None not at all."""
    signature = signature_of(function)
    if signature is None:  # built-in functions take one argument
        return None
    parameters = list(signature.parameters.values())
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    later = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    # behind options of the function's own
    later += [p for p in plain[2:] if plain[1].default is not p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if any(p.name == "key" for p in later):
        return "key"
    required = [p for p in plain if p.default is p.empty]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not (plain or takes_any) or len(required) > 2:
        raise invalid("objective", "a function objective(hp) or objective(hp, key)", str(signature))
    second = plain[1] if len(plain) > 1 else None
    return "" if second is not None and (second.default is second.empty or second.name == "key") else None


def as_trainable(objective: Trainable | Callable[..., Any]) -> Trainable:
    """A trainable from a user's objective: a `Trainable`, or a function ``objective(hp)`` or ``objective(hp, key)``.

    The leaves of pytrees (`supervised`, `jax.tree_util.Partial`, equinox modules) and the arrays bound by a
    `functools.partial` are arguments of the compiled program. Other functions and objects are static: pass the same
    object again to reuse the program.

    Raises:
      InvalidArgument: neither callable nor a trainable, a wrong number of arguments, or an invalid ``steps``.

    >>> trainable = as_trainable(lambda hp: (hp["x"] - 1.0) ** 2)
    >>> float(train_and_evaluate(trainable, {"x": 3.0}, jax.random.key(0)).value)
    4.0
    """
    if isinstance(objective, type):
        raise invalid("objective", "an instance or a function", objective)
    if isinstance(objective, (Objective, Wrapped)):
        return objective
    # since Python 3.12 isinstance of a protocol does not see what an object hands on by __getattr__
    missing = [name for name in ("steps", "init", "step", "evaluate") if not hasattr(objective, name)]
    if not missing:
        made = cast(Trainable, objective)
        check_steps(made)
        for call in ("init(hp, key)", "step(hp, state, t)", "evaluate(hp, state)"):
            check_place_of_hp("objective", getattr(made, call.partition("(")[0]), call, 0)
        if not is_pytree(made):
            return Opaque(Constant(made).value)
        return made if isinstance(made, Structured) else Foreign(made)
    if not callable(objective):
        expected = "a function objective(hp) or objective(hp, key), or an object with steps, init, step and evaluate"
        note = f"it lacks {' and '.join(missing)}" if len(missing) < 4 else ""
        raise invalid("objective", expected, objective, note=note)
    if is_async(objective):
        raise invalid("objective", f"a function that JAX can trace{NOT_ASYNC}", objective)
    key_argument = _key_argument(objective)
    if isinstance(objective, functools.partial):
        return Objective(Bound(objective), key_argument)
    return Objective(Foreign(objective) if is_pytree(objective) else Constant(objective), key_argument)


def check_arguments(trainable: Trainable, space: Space) -> None:
    """Raises if the second argument of a function, which gets the key, has the name of a hyperparameter.

    Raises:
      InvalidArgument: the function expects the hyperparameters as separate arguments.

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
        if isinstance(call, Bound):
            bound, call = call.bound, call.call
        check_second_argument(call.value if isinstance(call, Constant) else call, space, "key", bound)


def check_second_argument(function: Callable[..., Any], space: Space, role: str, bound: int = 0) -> None:
    """Raises if the second argument, after ``bound`` bound ones, has the name of a hyperparameter.

    Raises:
      InvalidArgument: the argument would get the ``role``, "key" or "seed".
    """
    signature = signature_of(function)
    names = [] if signature is None else list(signature.parameters)[bound:]
    wanted = {name.split(".")[0] for name in space.names}
    if len(names) > 1 and names[1] in wanted:
        looked_up = " ... ".join(f'hp["{name}"]' for name in names if name in wanted)
        raise InvalidArgument(
            f"objective: expected a function objective(hp) or objective(hp, {role}), got one of ({', '.join(names)}), "
            f"where a random {role} would be taken for the hyperparameter {names[1]!r}; write lambda hp: {looked_up}"
        )


def check_trainable(objective: Trainable | Callable[..., Any], space: Space, metric: str | None = None) -> Trainable:
    """`as_trainable`, after tracing one member of the space without computing or compiling anything.

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
