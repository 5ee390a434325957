"""What can be known about a hypergradient before it is computed, and the rules by which `auto` chooses a method."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.gradients.dependence import has_forward_mode, names_of, reaches, reaches_backwards, reaches_smoothly
from jhpo.gradients.spec import HP, Spec
from jhpo.kernels import trees
from jhpo.kernels.chaos import TRUSTED, USABLE
from jhpo.kernels.internals import is_literal
from jhpo.kernels.unroll import gradient_bytes, reverse_bytes, unroll
from jhpo.lifetimes import weakly
from jhpo.training.binding import Partly, Training, bind, has_implicit, relaxed, state_bytes
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import State, Trainable

# Levels of rematerialisation tried: a fourth one saves memory only from thousands of steps on.
LEVELS = (0, 1, 2, 3, 4)
# Directions up to which forward mode costs less than reverse mode, and at once in one pass of it.
FORWARD, CHUNK = 2, 8
# |gradient of the training loss| over its size at the start below which a training counts as converged.
CONVERGED = 1e-3
# Hyperparameters up to which an evolution-strategy estimate is worth its variance.
PERTURBED = 64
SEEDS = 8


class Facts(NamedTuple):
    """Read off the traced program; nothing is computed."""

    names: tuple[str, ...]  # of the leaves to differentiate
    size: int  # k, how many numbers they hold
    steps: int  # T
    used: tuple[bool, ...]  # the leaf reaches the result at all
    smooth: tuple[bool, ...]  # ... on a path that has a derivative
    in_loss: tuple[bool, ...]  # ... through train_loss or the evaluation alone; all False without train_loss
    implicit: bool  # the trainable offers what implicit gradients need
    forward: bool  # the whole training has a derivative in forward mode (no custom_vjp)
    forward_step: bool  # ... and so has a step, which is what the chaos exponent takes
    random: bool  # the key reaches the result
    state: int  # S, bytes of a training state
    params: int  # bytes of the trained parameters (0 unless implicit)
    residuals: int  # bytes one step keeps for its backward pass
    gradients: int  # bytes of a step's inner gradients, which rematerialisation keeps (see `jhpo.kernels.mixed`)


class Findings(NamedTuple):
    """Measured on the training itself; None where it was not."""

    exponent: float | None = None  # chaos exponent Lambda
    growth: np.ndarray | None = None  # float[T], log of the growth of a small change in every step
    stationary: float | None = None  # gradient norm of the training loss at the end over that at the start
    broken: int | None = None  # the first step without a finite derivative


_KNOWN: OrderedDict[Any, Facts] = OrderedDict()


def facts_of(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Facts:
    """`Facts` of a trainable, remembered by the structure of its arguments.

    Raises:
      InvalidArgument: the trainable cannot be traced, or its evaluation is no real scalar.
    """
    with weakly():
        leaves, treedef = jax.tree.flatten((trainable, hp, key))
    shapes = tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves)
    at = (treedef, shapes, spec.wrt, spec.horizon, spec.metric, jnp.result_type(float))
    if at not in _KNOWN:
        with objective_errors():
            _KNOWN[at] = _read(trainable, hp, key, spec)
        if len(_KNOWN) > 32:
            _KNOWN.popitem(last=False)
    _KNOWN.move_to_end(at)
    return _KNOWN[at]


@relaxed
def _read(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Facts:
    assert spec.wrt is not None
    part = Partly(trainable, hp, spec.wrt)
    run = bind(part, key, spec.horizon, spec.metric)
    start = part.start

    def whole(hp: HP, key: jax.Array = key) -> jax.Array:
        run = bind(part, key, spec.horizon, spec.metric)
        return run.evaluate(hp, unroll(run.step, hp, run.init(hp), run.steps))

    impl = jax.random.key_impl(key)
    data = jax.random.key_data(key)
    in_loss, params = (False,) * len(start), 0
    implicit = has_implicit(part)
    forward = has_forward_mode(whole, start)
    smoothly = reaches_smoothly if forward else reaches_backwards
    if implicit:
        state = jax.eval_shape(run.init, start)
        like = jax.eval_shape(part.params, state)
        params = trees.num_bytes(like)
        zeros = functools.partial(jax.tree.map, lambda x: jnp.zeros(x.shape, x.dtype))
        loss = smoothly(lambda hp: part.train_loss(hp, zeros(like)), start)
        # the state is made from the fixed hyperparameters: what counts is the evaluation's own use of them
        direct = smoothly(lambda hp: run.evaluate(hp, run.init(start)), start)
        in_loss = tuple(a or b for a, b in zip(loss, direct))
    return Facts(
        names=tuple(n for n, chosen in zip(names_of(hp), spec.wrt) if chosen),
        size=sum(math.prod(jnp.shape(x)) for x in start),
        steps=run.steps,
        used=tuple(reaches(whole, start)),
        smooth=tuple(smoothly(whole, start)),
        in_loss=in_loss,
        implicit=implicit,
        forward=forward,
        forward_step=forward or has_forward_mode(lambda hp: unroll(run.step, hp, run.init(hp), run.steps), start),
        random=any(reaches(lambda data: whole(start, jax.random.wrap_key_data(data, impl=impl)), data)),
        state=state_bytes(part, start, key),
        params=params,
        residuals=_residual_bytes(run, start) if run.steps else 0,
        gradients=gradient_bytes(run.step, start, jax.eval_shape(run.init, start)) if run.steps else 0,
    )


def _residual_bytes(run: Training, hp: HP) -> int:
    """Bytes one step's backward pass needs beside the hyperparameters and the data."""
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


def expected_bytes(facts: Facts, spec: Spec) -> int:
    """Temporary memory a method should need: states, and what backward passes keep."""
    state, steps = facts.state, facts.steps
    if spec.method in ("reverse", "truncated"):
        steps = min(spec.window, steps) if spec.method == "truncated" else steps
        return reverse_bytes(steps, spec.levels, state, facts.gradients, facts.residuals)
    if spec.method == "forward":
        return (1 + min(facts.size, CHUNK)) * state
    if spec.method in ("pes", "es_single"):
        return 4 * spec.pairs * state  # 2 N trainings, each with the state before and after a step
    if spec.method == "implicit":
        vectors = spec.iterations * 3 if spec.solver == "nystrom" else 6
        return state + vectors * facts.params + facts.residuals
    return 2 * state


def trusted_steps(growth: np.ndarray, last: bool) -> int:
    """How many of the first (or last) steps have an exponent that can be trusted."""
    sums = np.cumsum(growth[::-1] if last else growth)
    beyond = np.flatnonzero(~(sums <= TRUSTED))
    return int(beyond[0]) if beyond.size else len(growth)


class Choice(NamedTuple):
    """A method, and the reason in words; reverse mode's levels are still open."""

    spec: Spec
    why: str


def choose(facts: Facts, spec: Spec, found: Findings, skip: tuple[str, ...] = ()) -> Choice:
    """The rules of ``method="auto"``.

    Args:
      facts: of the trainable.
      spec: options already fixed.
      found: what the probe measured; the exponent is known.
      skip: methods that were tried in vain.
    """
    assert found.exponent is not None
    exponent, stationary = found.exponent, np.inf if found.stationary is None else found.stationary
    if facts.steps == 0:
        return Choice(spec._replace(method="reverse", levels=0), "there are no steps: plain differentiation")
    if facts.implicit and all(facts.in_loss) and stationary <= CONVERGED and "implicit" not in skip:
        why = (
            f"all hyperparameters act through the loss, and training converged (its gradient fell to {stationary:.1e})"
        )
        return Choice(spec._replace(method="implicit"), why)
    few = facts.size <= FORWARD and facts.forward
    if exponent <= TRUSTED:
        if few:
            return Choice(spec._replace(method="forward"), f"{_count(facts.size)}: forward mode costs least")
        return Choice(spec._replace(method="reverse"), f"{_count(facts.size)} through {facts.steps} sound steps")
    if exponent <= USABLE and facts.random:
        why = f"chaotic (exponent {exponent:.1f} > {TRUSTED:g}): clipped and averaged over {SEEDS} seeds"
        method = "forward" if few else "reverse"
        return Choice(spec._replace(method=method, seeds=max(spec.seeds, SEEDS)), why)
    chaotic = f"chaotic (exponent {exponent:.1f} > {USABLE:g}): no derivative of the unroll has a meaning"
    if exponent <= USABLE:
        chaotic = f"chaotic (exponent {exponent:.1f} > {TRUSTED:g}), and seeds change nothing that could be averaged"
    if facts.size <= PERTURBED:
        return Choice(spec._replace(method="pes", window=0), f"{chaotic}; the gradient of the smoothed loss has")
    window = 1 if found.growth is None else max(trusted_steps(found.growth, last=True), 1)
    why = f"{chaotic}; too many hyperparameters ({facts.size}) to perturb: the last {window} steps alone"
    return Choice(spec._replace(method="truncated", window=window), why)


def _count(size: int) -> str:
    return "1 hyperparameter" if size == 1 else f"{size} hyperparameters"
