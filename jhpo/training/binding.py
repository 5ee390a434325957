"""A trainable bound to a key, or to some of its hyperparameters: functions in the form the kernels take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels import trees
from jhpo.kernels.singular import defined_at_zeros
from jhpo.training.trainable import evaluate_state, horizon_steps

HP = Any


class Training(NamedTuple):
    """A trainable bound to a key: functions of the hyperparameters alone."""

    init: Callable[[HP], Any]
    step: Callable[[HP, Any, jax.Array], Any]
    evaluate: Callable[[HP, Any], jax.Array]
    steps: int


class Partly:
    """A trainable as a function of some leaves of its hyperparameters (a list); the others are held fixed."""

    def __init__(self, inner: Any, hp: HP, wrt: tuple[bool, ...]) -> None:
        leaves, treedef = jax.tree.flatten(hp)
        self._inner = inner
        self.start = [leaf for leaf, chosen in zip(leaves, wrt) if chosen]

        def rebuild(moving: list[jax.Array]) -> HP:
            rest = iter(moving)
            return jax.tree.unflatten(treedef, [next(rest) if c else leaf for leaf, c in zip(leaves, wrt)])

        def gradient(parts: list[jax.Array]) -> HP:
            rest = iter(parts)
            zeros = [jnp.zeros(jnp.shape(x), x.dtype if trees.is_float(x) else None) for x in leaves]
            return jax.tree.unflatten(treedef, [next(rest) if c else z for z, c in zip(zeros, wrt)])

        self.rebuild, self.gradient = rebuild, gradient

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        takes_hp = name in ("init", "step", "evaluate", "train_loss") or (name == "steps" and callable(value))
        return (lambda hp, *args: value(self.rebuild(hp), *args)) if takes_hp else value


def relaxed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under JAX's ordinary promotion: derivatives of optax's code mix integer counters with floats."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args, **kwargs)

    return wrapped


def bind(trainable: Any, key: jax.Array, horizon: float = 1.0, metric: str | None = None) -> Training:
    """The trainable's functions for one key and share of the training, in the form the kernels take."""
    limit = trainable.steps if callable(trainable.steps) else None

    def step(hp: HP, state: Any, t: jax.Array) -> Any:
        new = trainable.step(hp, state, t)
        if limit is None:
            return new
        go_on = t < jnp.ceil(jnp.asarray(limit(hp), jnp.float32) * horizon).astype(jnp.int32)
        return jax.tree.map(lambda a, b: jnp.where(go_on, a, b), new, state)

    def evaluate(hp: HP, state: Any) -> jax.Array:
        return evaluate_state(trainable, hp, state, metric).value

    return Training(lambda hp: trainable.init(hp, key), step, evaluate, horizon_steps(trainable, horizon))


def differentiable(run: Training, forward: bool = False) -> Training:
    """The functions with the derivatives of `jhpo.kernels.singular`, for forward or for reverse mode."""
    init, step, evaluate = (defined_at_zeros(f, forward) for f in run[:3])
    return Training(init, step, evaluate, run.steps)


def has_implicit(trainable: Any) -> bool:
    """The trainable offers what implicit gradients need."""
    return all(callable(getattr(trainable, name, None)) for name in ("train_loss", "params", "with_params"))


def state_bytes(trainable: Any, hp: HP, key: jax.Array) -> int:
    """S, the bytes of one training state."""
    return trees.num_bytes(jax.eval_shape(lambda hp, key: trainable.init(hp, key), hp, key))
