"""Facts about a trainable, read from its jaxpr before its hypergradient is computed, and remembered."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.gradients.dependence import derivative, has_forward_mode, names_of, reaches
from jhpo.gradients.spec import HP, Spec
from jhpo.kernels import trees
from jhpo.kernels.internals import is_literal
from jhpo.kernels.unroll import gradient_bytes, unroll
from jhpo.training.binding import Partly, Training, bind, has_implicit, relaxed, state_bytes, traced_once
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import State, Trainable
from jhpo.values.structure import weakly


class Facts(NamedTuple):
    """Properties of a training, read from its jaxpr without computing anything."""

    names: tuple[str, ...]  # of the leaves to differentiate
    size: int  # k, the number of scalars in them
    steps: int  # T
    used: tuple[bool, ...]  # the result depends on the leaf
    smooth: tuple[bool, ...]  # ... on a differentiable path
    in_loss: tuple[bool, ...]  # ... through train_loss or the evaluation itself; all False without train_loss
    implicit: bool  # the trainable supports implicit gradients
    forward: bool  # the whole training can be differentiated in forward mode (no custom_vjp)
    forward_step: bool  # the steps can, which is all that the chaos exponent needs
    random: bool  # the result depends on the key
    state: int  # S, bytes of a training state
    params: int  # bytes of the trained parameters (0 unless implicit)
    residuals: int  # bytes that one step saves for its backward pass
    gradients: int  # bytes of a step's inner gradients, which rematerialisation saves (see `jhpo.kernels.mixed`)


@dataclasses.dataclass
class Experience:
    """What earlier calls measured for trainables of the same structure, with other numbers in them."""

    # by method: how much the growth of the norms exceeded the exponent of a probe, where both were measured
    excess: dict[str, float] = dataclasses.field(default_factory=dict)
    chaotic: bool = False  # the last training was
    vain: str | None = None  # why implicit gradients failed; "" if training had not converged


class Known(NamedTuple):
    """Facts and experience of a trainable."""

    facts: Facts
    experience: Experience


_KNOWN: OrderedDict[Any, Known] = OrderedDict()


def known(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Known:
    """Facts about a trainable and experience with it, remembered by the structure of the arguments.

    Raises:
      InvalidArgument: the trainable cannot be traced, or its evaluation is not a real scalar.
    """
    with weakly():
        leaves, treedef = jax.tree.flatten((trainable, hp, key))
    shapes = tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves)
    at = (treedef, shapes, spec.wrt, spec.horizon, spec.metric, jnp.result_type(float))
    if at not in _KNOWN:
        with objective_errors():
            _KNOWN[at] = Known(_read(trainable, hp, key, spec), Experience())
        if len(_KNOWN) > 32:
            _KNOWN.popitem(last=False)
    _KNOWN.move_to_end(at)
    return _KNOWN[at]


def facts_of(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Facts:
    """The facts only; see `known`."""
    return known(trainable, hp, key, spec).facts


@relaxed
def _read(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Facts:
    assert spec.wrt is not None
    part = Partly(trainable, hp, spec.wrt)
    run = traced_once(bind(part, key, spec.horizon, spec.metric))
    init = jax.jit(part.init, inline=True)
    run = run._replace(init=lambda hp: init(hp, key))
    start = part.start

    def whole(hp: HP, key: jax.Array = key) -> jax.Array:
        return run.evaluate(hp, unroll(run.step, hp, init(hp, key), run.steps))

    impl = jax.random.key_impl(key)
    of_both = lambda hp, data: whole(hp, jax.random.wrap_key_data(data, impl=impl))  # noqa: E731
    *used, random = reaches(lambda both: of_both(*both), (start, jax.random.key_data(key)))
    slopes = derivative(whole, start)
    in_loss, params = (False,) * len(start), 0
    implicit = has_implicit(part)
    if implicit:
        state = jax.eval_shape(run.init, start)
        like = jax.eval_shape(part.params, state)
        params = trees.num_bytes(like)
        zeros = functools.partial(jax.tree.map, lambda x: jnp.zeros(x.shape, x.dtype))
        loss = derivative(lambda hp: part.train_loss(hp, zeros(like)), start).smooth
        # the state comes from fixed hyperparameters: this is the direct dependence of the evaluation on hp
        direct = derivative(lambda hp: run.evaluate(hp, run.init(start)), start).smooth
        in_loss = tuple(a or b for a, b in zip(loss, direct))
    return Facts(
        names=tuple(n for n, chosen in zip(names_of(hp), spec.wrt) if chosen),
        size=sum(math.prod(jnp.shape(x)) for x in start),
        steps=run.steps,
        used=tuple(used),
        smooth=tuple(slopes.smooth),
        in_loss=in_loss,
        implicit=implicit,
        forward=slopes.forward,
        forward_step=slopes.forward
        or has_forward_mode(lambda hp: unroll(run.step, hp, run.init(hp), run.steps), start),
        random=random,
        state=state_bytes(part, start, key),
        params=params,
        residuals=_residual_bytes(run, start) if run.steps else 0,
        gradients=gradient_bytes(run.step, start, jax.eval_shape(run.init, start)) if run.steps else 0,
    )


def _residual_bytes(run: Training, hp: HP) -> int:
    """Bytes of the residuals of one step, without hyperparameters and data."""
    shapes = jax.eval_shape(run.init, hp)
    floats = [i for i, x in enumerate(jax.tree.leaves(shapes)) if trees.is_float(x)]
    t = jax.ShapeDtypeStruct((), jnp.int32)

    def pull(hp: list[Any], state: State, t: jax.Array) -> Any:
        leaves, treedef = jax.tree.flatten(state)

        def step(hp: list[Any], moving: list[jax.Array]) -> list[jax.Array]:
            at = dict(zip(floats, moving))
            whole = jax.tree.unflatten(treedef, [at.get(i, leaf) for i, leaf in enumerate(leaves)])
            return trees.split_floats(run.step(hp, whole, t))[0]

        return jax.vjp(step, hp, [leaves[i] for i in floats])[1]

    closed = jax.make_jaxpr(pull)(hp, shapes, t)
    constants = {id(v) for v in (*closed.jaxpr.constvars, *closed.jaxpr.invars[: len(hp)])}
    kept = {id(v): v.aval for v in closed.jaxpr.outvars if not is_literal(v)}
    return trees.num_bytes(
        [a for i, a in kept.items() if i not in constants and not jax.dtypes.issubdtype(a.dtype, jax.dtypes.extended)]
    )
