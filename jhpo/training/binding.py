"""A trainable bound to a key, or to some of its hyperparameters, as functions that the kernels take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeGuard, TypeVar

import jax
import jax.numpy as jnp

from jhpo.kernels import trees
from jhpo.kernels.singular import defined_at_zeros
from jhpo.process.switches import within
from jhpo.training.trainable import HP, ImplicitTrainable, State, Trainable, evaluate_state, horizon_steps, limit_of
from jhpo.training.values import Delegate

P = ParamSpec("P")
Out = TypeVar("Out")


class Training(NamedTuple):
    """A trainable bound to a key: functions of the hyperparameters only."""

    init: Callable[[HP], State]
    step: Callable[[HP, State, jax.Array], State]
    evaluate: Callable[[HP, State], jax.Array]
    steps: int


class Partly(Delegate):
    """A trainable as a function of some leaves of its hyperparameters (a list); the others are held fixed."""

    _inner: Trainable

    def __init__(self, inner: Trainable, hp: HP, wrt: tuple[bool, ...]) -> None:
        leaves, treedef = jax.tree.flatten(hp)
        super().__init__(inner)
        self.start = [leaf for leaf, chosen in zip(leaves, wrt) if chosen]

        def rebuild(moving: list[jax.Array]) -> HP:
            rest = iter(moving)
            return jax.tree.unflatten(treedef, [next(rest) if c else leaf for leaf, c in zip(leaves, wrt)])

        def gradient(parts: list[jax.Array]) -> HP:
            rest = iter(parts)
            zeros = [jnp.zeros(jnp.shape(x), x.dtype if trees.is_float(x) else None) for x in leaves]
            return jax.tree.unflatten(treedef, [next(rest) if c else z for z, c in zip(zeros, wrt)])

        self.rebuild, self.gradient = rebuild, gradient

    @property
    def steps(self) -> int | Callable[[HP], jax.Array]:
        """As the trainable's, as a function of the chosen leaves."""
        steps = self._inner.steps
        return (lambda moving: steps(self.rebuild(moving))) if callable(steps) else steps

    def init(self, moving: list[jax.Array], key: jax.Array) -> State:
        """As the trainable's, as a function of the chosen leaves; likewise below."""
        return self._inner.init(self.rebuild(moving), key)

    def step(self, moving: list[jax.Array], state: State, t: jax.Array) -> State:
        return self._inner.step(self.rebuild(moving), state, t)

    def evaluate(self, moving: list[jax.Array], state: State) -> jax.Array | dict[str, jax.Array]:
        return self._inner.evaluate(self.rebuild(moving), state)

    def _offered(self, name: str, value: Any) -> Any:
        return (lambda moving, *args: value(self.rebuild(moving), *args)) if name == "train_loss" else value


def relaxed(function: Callable[P, Out]) -> Callable[P, Out]:
    """The function under JAX's standard dtype promotion: derivatives of optax code mix integer counters with floats."""
    return within(lambda: jax.numpy_dtype_promotion("standard"), function)


def bind(
    trainable: Trainable, key: jax.Array, horizon: float = 1.0, metric: str | None = None, late: bool = False
) -> Training:
    """The trainable's functions for one key and horizon, as the kernels take them.

    Where ``steps`` is a function of the hyperparameters, the steps that change nothing are the last ones, or the first
    ones if it is ``late``.
    """
    length = horizon_steps(trainable, horizon)

    def step(hp: HP, state: State, t: jax.Array) -> State:
        if not callable(trainable.steps):
            return trainable.step(hp, state, t)
        limit = limit_of(trainable, hp, horizon)
        own = t - (jnp.int32(length) - limit) if late else t
        new = trainable.step(hp, state, jnp.maximum(own, 0))
        go_on = (own >= 0) & (own < limit)
        return jax.tree.map(lambda a, b: jnp.where(go_on, a, b), new, state)

    def evaluate(hp: HP, state: State) -> jax.Array:
        return evaluate_state(trainable, hp, state, metric).value

    return Training(lambda hp: trainable.init(hp, key), step, evaluate, length)


def differentiable(run: Training, forward: bool = False) -> Training:
    """The functions with the derivatives of `jhpo.kernels.singular`, for forward or for reverse mode."""
    init, step, evaluate = (defined_at_zeros(f, forward) for f in run[:3])
    return Training(init, step, evaluate, run.steps)


def traced_once(run: Training) -> Training:
    """The functions, each traced once for arguments of one kind, whatever is asked of it and however often."""
    init, step, evaluate = (jax.jit(f, inline=True) for f in run[:3])
    return Training(init, step, evaluate, run.steps)


def has_implicit(trainable: Trainable) -> TypeGuard[ImplicitTrainable]:
    """Whether the trainable supports implicit gradients."""
    return all(callable(getattr(trainable, name, None)) for name in ("train_loss", "params", "with_params"))


def state_bytes(trainable: Trainable, hp: HP, key: jax.Array) -> int:
    """S, the bytes of one training state."""
    return trees.num_bytes(jax.eval_shape(lambda hp, key: trainable.init(hp, key), hp, key))
