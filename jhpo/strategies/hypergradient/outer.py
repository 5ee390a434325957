"""The outer optimiser of a gradient strategy: any optax transformation, as a comparable static field."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.kernels.trees import Number

if TYPE_CHECKING:
    import optax

Optimizer = Any  # a name in optax, a function of the learning rate, or a GradientTransformation
Options = tuple[tuple[str, Any], ...]

# Shorter averages than optax's defaults: a descent has tens of steps, and its gradients are exact.
MEASURED: dict[str, Options] = {"adam": (("b1", 0.3), ("b2", 0.9))}


def recipe(optimizer: Optimizer, options: Mapping[str, Any] | Options | None) -> tuple[Optimizer, Options]:
    """Optimiser and options in a comparable form: a name, function or transformation, and sorted pairs.

    Raises:
      InvalidArgument: neither the name of an optax optimiser with a learning rate, nor a function or a transformation,
        or unknown options.

    >>> recipe("adam", {"b2": 0.99, "b1": 0.5})
    ('adam', (('b1', 0.5), ('b2', 0.99)))
    """
    pairs = _pairs(options)
    if isinstance(optimizer, str):
        pairs = MEASURED.get(optimizer, ()) if options is None else pairs
        factory = _named(optimizer)
        if factory is None:
            raise invalid("optimizer", "the name of an optax optimiser with a learning rate", optimizer)
        known = list(inspect.signature(factory).parameters)
        for name, _ in pairs:
            if name not in known[1:]:
                raise invalid("options", f"arguments of optax.{optimizer} ({known[1:]})", name)
        return optimizer, pairs
    if isinstance(optimizer, tuple) and hasattr(optimizer, "init") and hasattr(optimizer, "update"):
        if pairs:
            raise invalid("options", "nothing beside a transformation that is made already", dict(pairs))
        return optimizer, ()
    if not callable(optimizer):
        expected = "an optax name, a function of the learning rate, or a GradientTransformation"
        raise invalid("optimizer", expected, optimizer)
    return optimizer, pairs


def _pairs(options: Mapping[str, Any] | Options | None) -> Options:
    if options is None:
        return ()
    if not isinstance(options, (Mapping, tuple, list)):
        raise invalid("options", "a dict of arguments of the optimiser", options)
    try:
        pairs = tuple(sorted((str(k), v) for k, v in dict(options).items()))
        hash(pairs)
    except (TypeError, ValueError) as error:
        raise invalid("options", "a dict of plain values", options) from error
    return pairs


def _named(name: str) -> Callable[..., Any] | None:
    """The function of that name in optax if its first argument is a learning rate."""
    import optax

    factory = None if name.startswith("_") else getattr(optax, name, None)
    if not inspect.isfunction(factory):
        return None
    first = next(iter(inspect.signature(factory).parameters), None)
    return factory if first == "learning_rate" else None


class Outer:
    """The optimiser of one member; vmap its methods over a population.

    Args:
      optimizer, options: see `recipe`.
      learning_rate: a number or a traced scalar; None for an optimiser that has its own.
    """

    def __init__(self, optimizer: Optimizer, options: Options, learning_rate: Number | None) -> None:
        import optax

        if isinstance(optimizer, str):
            made = getattr(optax, optimizer)(learning_rate, **dict(options))
        elif isinstance(optimizer, optax.GradientTransformation):
            made = optimizer
        else:
            made = optimizer(learning_rate, **dict(options))
        self._made = optax.with_extra_args_support(made)

    def init(self, point: jax.Array) -> optax.OptState:
        """The initial state at ``float[d]``, without weak types."""
        with jax.numpy_dtype_promotion("standard"):
            state = self._made.init(point)
        return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), state)

    def update(
        self, grad: jax.Array, state: optax.OptState, point: jax.Array, value: jax.Array
    ) -> tuple[jax.Array, optax.OptState]:
        """The step ``float[d]`` and the next state, in the dtypes of ``point`` and ``state``."""
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
            step, new = self._made.update(grad, state, point, value=value)
        new = jax.tree.map(lambda a, b: jnp.asarray(a).astype(b.dtype), new, state)
        return step.astype(point.dtype), new


@functools.lru_cache(maxsize=64)
def check_outer(optimizer: Optimizer, options: Options) -> str | None:
    """Traces the optimiser on shapes; returns why it cannot be used, or None if it can."""
    point = jax.ShapeDtypeStruct((3,), jnp.float32)
    rate = jax.ShapeDtypeStruct((), jnp.float32)

    def once(point: jax.Array, rate: jax.Array) -> Any:
        outer = Outer(optimizer, options, rate)
        return outer.update(point, outer.init(point), point, point[0])

    try:
        jax.eval_shape(once, point, rate)
    except Exception as error:  # noqa: BLE001 a user's function may raise anything
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return None
