"""Support for all optax optimisers in a training loop: extra arguments, evaluation parameters, two replacements."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, is_concrete
from jhpo.kernels.trees import Number
from jhpo.values.pytrees import Params

if TYPE_CHECKING:
    import optax


class Chosen(NamedTuple):
    """State of an optimiser chosen by `jhpo.switch`."""

    which: jax.Array  # int32[], index of the chosen one
    states: tuple[Any, ...]  # of all options


class Averaged(NamedTuple):
    """State of an optimiser that evaluates other parameters than it trains."""

    evaluated: Params  # the parameters to evaluate
    steps: jax.Array  # int32[], so far
    inner: optax.OptState  # state of the inner optimiser


def update(
    tx: optax.GradientTransformation,
    grads: Params,
    opt_state: optax.OptState,
    params: Params,
    value: jax.Array,
    loss: Callable[[Params], jax.Array],
) -> tuple[Params, Any]:
    """Updates and new state of an optax transformation that may take extra arguments; dtypes are kept.

    Args:
      tx: an optax transformation, with or without extra arguments.
      value: ``float[]``, the loss at ``params``.
      loss: the loss on this step's batch, for line searches, Hessian estimates and second gradients.
    """
    import optax  # late: it takes longer to import than all of jhpo

    # line searches pass every extra argument to their function
    def again(p: Params, *_: object, obj_fn: object = None, grad_fn: object = None) -> jax.Array:
        return loss(p)

    extra = {"value": value, "grad": grads, "value_fn": again, "obj_fn": again, "grad_fn": jax.grad(again)}
    step = optax.with_extra_args_support(tx).update
    takes = inspect.signature(step).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        extra = {name: x for name, x in extra.items() if name in takes}
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        updates, new = step(grads, opt_state, params, **extra)
    like = lambda x, y: x if x.dtype == y.dtype else x.astype(y.dtype)  # noqa: E731
    return jax.tree.map(like, updates, params), jax.tree.map(like, new, opt_state)


def evaluation_params(opt_state: optax.OptState, params: Params) -> Params:
    """The parameters to evaluate: the averages of `schedule_free` and `averaged`, otherwise ``params``."""
    import optax

    if isinstance(opt_state, Chosen):
        each = [evaluation_params(state, params) for state in opt_state.states]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[opt_state.which], *each)
    kinds = (optax.contrib.ScheduleFreeState, Averaged, Chosen)
    found = [s for s in jax.tree.leaves(opt_state, is_leaf=lambda s: isinstance(s, kinds)) if isinstance(s, kinds)]
    if len(found) != 1:
        return params
    if isinstance(found[0], Chosen):
        return evaluation_params(found[0], params)
    if isinstance(found[0], Averaged):
        return found[0].evaluated
    with jax.numpy_dtype_promotion("standard"):
        x = optax.contrib.schedule_free_eval_params(found[0], params)
    return jax.tree.map(lambda a, b: a.astype(b.dtype), x, params)


def averaged(inner: optax.GradientTransformation, decay: Number = 0.99) -> optax.GradientTransformationExtraArgs:
    """An optimiser whose evaluation parameters are an exponential moving average over the steps.

    Args:
      inner: the optax transformation that trains.
      decay: of the average, in [0, 1); a number or traced. The average is bias-corrected.

    Raises:
      InvalidArgument: a decay out of range.

    >>> import optax
    >>> tx = averaged(optax.sgd(0.5), 0.5)
    >>> state = tx.init(jnp.float32(1.0))
    >>> _, state = tx.update(jnp.float32(1.0), state, jnp.float32(1.0))
    >>> float(evaluation_params(state, jnp.float32(0.5)))
    0.5
    """
    if is_concrete(decay):
        check_number("decay", decay, 0.0, 1.0, open_high=True)  # at 1 the correction divides by 0

    def follow(steps: jax.Array, mean: Params, params: Params, updates: Params) -> tuple[Params, Params]:
        rate = jnp.asarray(decay, jnp.result_type(float))
        # weight of the newest parameters: 1 at the first step, 1 - decay in the long run
        share = (1 - rate) / (1 - rate ** steps.astype(rate.dtype))
        return jax.tree.map(lambda m, p, u: m + share.astype(p.dtype) * (p + u - m), mean, params, updates), updates

    return _evaluated_elsewhere(inner, follow)


def lookahead(
    fast_optimizer: optax.GradientTransformation, sync_period: Number, slow_step_size: Number
) -> optax.GradientTransformationExtraArgs:
    """`optax.lookahead` for ordinary parameters instead of pairs of fast and slow ones.

    Args:
      fast_optimizer: the optax transformation of the fast parameters, which are trained.
      sync_period: steps between synchronisations, a number or traced.
      slow_step_size: how far the slow parameters, which are evaluated, move towards the fast ones; in [0, 1].

    Raises:
      InvalidArgument: a ``sync_period`` below 1.

    Source: Zhang, Lucas, Hinton, Ba, "Lookahead optimizer: k steps forward, 1 step back" (2019).
    """
    if is_concrete(sync_period):
        check_integer("sync_period", sync_period)

    def follow(steps: jax.Array, slow: Params, params: Params, updates: Params) -> tuple[Params, Params]:
        now = steps % jnp.asarray(sync_period, jnp.int32) == 0

        def moved(slow: jax.Array, p: jax.Array, u: jax.Array) -> jax.Array:
            return jnp.where(now, slow + jnp.asarray(slow_step_size, slow.dtype) * (p + u - slow), slow)

        slow = jax.tree.map(moved, slow, params, updates)
        return slow, jax.tree.map(lambda s, p, u: jnp.where(now, s - p, u), slow, params, updates)

    return _evaluated_elsewhere(fast_optimizer, follow)


def _evaluated_elsewhere(inner: optax.GradientTransformation, follow: Callable[..., tuple[Params, Params]]) -> Any:
    """An optimiser with separate parameters to evaluate.

    Args:
      inner: the optax transformation that trains.
      follow: ``follow(steps, evaluated, params, updates)`` returns the parameters to evaluate and the updates.
    """
    import optax

    inner = optax.with_extra_args_support(inner)

    def init(params: Params) -> Averaged:
        return Averaged(params, jnp.zeros((), jnp.int32), inner.init(params))

    def step(updates: Params, state: Averaged, params: Params = None, **extra: Any) -> tuple[Params, Averaged]:
        updates, within = inner.update(updates, state.inner, params, **extra)
        steps = state.steps + 1
        evaluated, updates = follow(steps, state.evaluated, params, updates)
        return updates, Averaged(evaluated, steps, within)

    return optax.GradientTransformationExtraArgs(init, step)
