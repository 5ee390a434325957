"""Derivatives through a training loop: reverse mode with levels of rematerialisation, truncated, and forward mode.

Notation: w_t the state after t steps, Phi the step, T the number of steps, S the bytes of a state, k the number of
hyperparameters, E the evaluation. All functions take ``step(hp, state, t) -> state``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.kernels import trees
from jhpo.kernels.internals import needed
from jhpo.kernels.loops import wide_sums
from jhpo.kernels.mixed import GRADIENT
from jhpo.kernels.programs import named_bytes
from jhpo.kernels.shapes import Array, Float, Int
from jhpo.kernels.shuffle import ROWS

Tree = Any
Step = Callable[[Tree, Tree, jax.Array], Tree]

# What recomputing a step keeps of its first pass. Its own gradient is all that another pass would give beyond what the
# Hessian product computes anyway, and the rows of its batch are few numbers that many operations find.
_KEEP = jax.checkpoint_policies.save_only_these_names(GRADIENT, ROWS)


def block_length(steps: int, levels: int) -> int:
    """Steps in one block of the outermost of ``levels`` loops: near T^((L-1)/L), a divisor of T where one is near.

    >>> block_length(729, 2), block_length(729, 3), block_length(200, 2)
    (27, 81, 20)
    """
    ideal = steps ** ((levels - 1) / levels)
    near = range(max(1, math.ceil(ideal / 1.45)), min(steps, int(ideal * 1.45)) + 1)
    divisors = [m for m in near if steps % m == 0]
    return min(divisors, key=lambda m: (abs(math.log(m / ideal)), m)) if divisors else max(1, round(ideal))


def unroll(
    step: Step,
    hp: Tree,
    state: Tree,
    steps: int,
    levels: int = 0,
    *,
    start: Int[Array, ""] | int = 0,
    probe: Float[Array, "t"] | None = None,
    watched: Sequence[bool] | None = None,
) -> Tree:
    """The state after ``steps`` steps, differentiable in reverse mode with little memory.

    Args:
      step: ``step(hp, state, t) -> state``, t an int32.
      hp, state: trees of arrays.
      steps: T, a Python integer.
      levels: L. 0 stores what the steps' backward pass needs, T (S + residuals) bytes. 1 stores the inner gradients
        of all steps where they are made by `mixed_grad`, and 2 T^(1/2) states, from which updates alone recompute the
        others; all T states where they are not. L >= 2 stores about L T^(1/L) states and T^(1/L) inner gradients, and
        recomputes each step L times.
      start: the number of the first step.
      probe: ``float[T]`` of zeros or None. Its cotangent is the norm of dE/dw_t after every step (reverse only).
      watched: the leaves of the state that this norm is of (see `read_leaves`); None for all.

    Returns:
      w_T.

    Source: Griewank, "Achieving logarithmic growth of temporal and spatial complexity in reverse automatic
    differentiation" (1992); Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost" (2016).

    >>> import jax, jax.numpy as jnp
    >>> f = lambda lr: unroll(lambda hp, w, t: w - hp * w, lr, jnp.float32(1.0), 9, levels=2)
    >>> round(float(jax.grad(f)(jnp.float32(0.1))), 5) == round(-9 * 0.9**8, 5)
    True
    """

    def body(carry: Tree, x: tuple[jax.Array, jax.Array | None]) -> tuple[Tree, None]:
        after = step(hp, carry, x[0])
        if x[1] is None:
            return after, None
        some, put = _split(after, watched)
        return put(_probed(some, x[1])), None

    if steps == 0:
        return state
    ts = jnp.asarray(start, jnp.int32) + jnp.arange(steps, dtype=jnp.int32)
    if levels == 0:
        return lax.scan(body, state, (ts, probe))[0]
    if levels == 1 and gradient_bytes(step, hp, state) == 0:
        return _recomputed(body, state, (ts, probe))
    return _blocks(body, state, (ts, probe), steps, levels)


def gradient_bytes(step: Step, hp: Tree, state: Tree) -> int:
    """Bytes of what one step computes by `jhpo.kernels.mixed.mixed_grad`: read off the traced program."""
    return named_bytes(jax.make_jaxpr(step)(hp, state, jnp.int32(0)).jaxpr, GRADIENT)


def reverse_bytes(steps: int, levels: int, state: int, gradients: int, residuals: int = 0) -> int:
    """Bytes that the backward pass of `unroll` keeps.

    Args:
      steps, levels: see `unroll`.
      state: bytes of a state.
      gradients: see `gradient_bytes`.
      residuals: bytes that one step keeps for its own backward pass.

    >>> reverse_bytes(100, 0, 12, 4, 20), reverse_bytes(100, 1, 12, 4, 20), reverse_bytes(100, 2, 12, 4, 20)
    (2024, 724, 324)
    """
    if levels == 0:
        return steps * residuals + 2 * state
    total = residuals + 2 * state
    if levels == 1 and gradients:
        total, levels = total + steps * gradients, 2
    for level in range(levels, 1, -1):
        block = block_length(steps, level)
        total += -(-steps // block) * state
        steps = block
    return total + steps * (state + gradients)


def _recomputed(body: Callable[..., Any], carry: Tree, xs: Tree) -> Tree:
    """A scan whose backward pass keeps the carry of every step, and what `_KEEP` says."""
    return lax.scan(jax.checkpoint(body, prevent_cse=False, policy=_KEEP), carry, xs)[0]


def _blocks(body: Callable[..., Any], carry: Tree, xs: Tree, steps: int, levels: int) -> Tree:
    """A scan of blocks whose backward pass keeps a carry for every block, and with one level what `_KEEP` says."""
    block = block_length(steps, max(levels, 2))
    count = steps // block

    def inner(carry: Tree, xs: Tree, length: int) -> Tree:
        return _blocks(body, carry, xs, length, levels - 1) if levels > 2 else _recomputed(body, carry, xs)

    keep = _KEEP if levels == 1 else None
    remat = jax.checkpoint(inner, static_argnums=(2,), prevent_cse=False, policy=keep)
    blocks = jax.tree.map(lambda x: x[: count * block].reshape(count, block, *x.shape[1:]), xs)
    carry, _ = lax.scan(lambda c, x: (remat(c, x, block), None), carry, blocks)
    tail = jax.tree.map(lambda x: x[count * block :], xs)
    # outside a loop the compiler could merge the recomputation with the first pass: forbid it here
    last = jax.checkpoint(inner, static_argnums=(2,), prevent_cse=True, policy=keep)
    return last(carry, tail, steps - count * block) if steps > count * block else carry


@jax.custom_vjp
def _probed(state: Tree, zero: Float[Array, ""]) -> Tree:
    return state


def _probed_forward(state: Tree, zero: jax.Array) -> tuple[Tree, jax.Array]:
    return state, zero


def _probed_backward(zero: jax.Array, cotangent: Tree) -> tuple[Tree, jax.Array]:
    floats = [c for c in jax.tree.leaves(cotangent) if c.dtype != jax.dtypes.float0 and trees.is_float(c)]
    size = trees.norm(floats).astype(zero.dtype) if floats else jnp.zeros_like(zero)
    return cotangent, size


_probed.defvjp(_probed_forward, _probed_backward)


@jax.custom_jvp
def _marked(state: Tree) -> tuple[Tree, jax.Array]:
    return state, jnp.zeros((), jnp.result_type(float))


@_marked.defjvp
def _marked_jvp(primals: tuple[Tree], tangents: tuple[Tree]) -> tuple[Any, Any]:
    moving = [t for t in jax.tree.leaves(tangents[0]) if t.dtype != jax.dtypes.float0]
    mark = jnp.zeros((), jnp.result_type(float))
    return _marked(primals[0]), (tangents[0], trees.norm(moving).astype(mark.dtype) if moving else mark)


def marked_unroll(
    step: Step, hp: Tree, state: Tree, steps: int, watched: Sequence[bool] | None = None
) -> tuple[Tree, Float[Array, "t"]]:
    """As `unroll`, beside ``float[T]`` zeros whose tangents in forward mode are |dw_t| after every step.

    The norm is of the ``watched`` leaves of the state (see `read_leaves`), of all if None.

    >>> import jax, jax.numpy as jnp
    >>> run = lambda lr: marked_unroll(lambda hp, w, t: w - hp * w, lr, jnp.float32(1.0), 3)[1]
    >>> jax.jvp(run, (jnp.float32(0.5),), (jnp.float32(1.0),))[1].tolist()
    [1.0, 1.0, 0.75]
    """

    def body(state: Tree, t: jax.Array) -> tuple[Tree, jax.Array]:
        some, put = _split(step(hp, state, t), watched)
        some, mark = _marked(some)
        return put(some), mark

    return lax.scan(body, state, jnp.arange(steps, dtype=jnp.int32))


def read_leaves(evaluate: Callable[[Tree, Tree], jax.Array], hp: Tree, state: Tree) -> list[bool]:
    """For every leaf of the state: the evaluation depends on it. Norms over time are taken of these.

    An optimiser's memory is left out: its second moments are tiny numbers, dE over a change of them is huge, and what
    it does to the training arrives at the parameters.

    >>> read_leaves(lambda hp, state: hp * state["w"], 1.0, {"memory": 2.0, "w": 3.0})
    [False, True]
    """
    program = jax.make_jaxpr(evaluate)(hp, state).jaxpr
    return needed(program, [True] * len(program.outvars))[len(jax.tree.leaves(hp)) :]


def _split(tree: Tree, chosen: Sequence[bool] | None) -> tuple[list[Any], Callable[[list[Any]], Tree]]:
    """The chosen leaves, and the function that puts such leaves back among the others."""
    leaves, treedef = jax.tree.flatten(tree)
    chosen = [True] * len(leaves) if chosen is None else chosen

    def put(some: list[Any]) -> Tree:
        rest = iter(some)
        return jax.tree.unflatten(treedef, [next(rest) if c else leaf for c, leaf in zip(chosen, leaves)])

    return [leaf for c, leaf in zip(chosen, leaves) if c], put


def truncated(step: Step, hp: Tree, state: Tree, steps: int, window: int, levels: int = 0) -> Tree:
    """The state after ``steps`` steps, whose derivative goes back through the last ``window`` of them alone.

    Cheap in memory and biased: a window too short prefers rates too small (Wu, Ren, Liao, Grosse 2018, "Understanding
    short-horizon bias in stochastic meta-optimization").
    """
    window = min(window, steps)
    before = unroll(step, lax.stop_gradient(hp), lax.stop_gradient(state), steps - window)
    return unroll(step, hp, lax.stop_gradient(before), window, levels, start=steps - window)


def reverse_value_and_grad(
    step: Step,
    evaluate: Callable[[Tree, Tree], jax.Array],
    init: Callable[[Tree], Tree],
    hp: Tree,
    steps: int,
    levels: int = 0,
    *,
    window: int | None = None,
    norms: bool = False,
) -> tuple[Float[Array, ""], Tree, Float[Array, "t"] | None]:
    """E(w_T) and its gradient by reverse mode.

    Args:
      step, evaluate, init: ``step(hp, state, t)``, ``evaluate(hp, state) -> scalar``, ``init(hp) -> state``.
      hp: hyperparameters; leaves that are no floats are held fixed and get a zero gradient.
      steps, levels: see `unroll`.
      window: differentiate through the last steps alone (see `truncated`); None for all.
      norms: also return ``float[T]``, the norm of dE/dw_t for t = 1..T (of the window's steps if there is one), over
        the leaves that the evaluation reads.

    Returns:
      The value, the gradient (a tree like hp) and the norms or None.
    """
    floats, rebuild = trees.split_floats(hp)
    covered = steps if window is None else min(window, steps)
    dtype = jnp.result_type(float)
    watched = read_leaves(evaluate, hp, jax.eval_shape(init, hp)) if norms else None

    def value(floats: list[jax.Array], probe: jax.Array | None) -> jax.Array:
        hp = rebuild(floats)
        state = init(hp)
        if covered < steps:
            fixed = lax.stop_gradient(hp)
            state = lax.stop_gradient(unroll(step, fixed, lax.stop_gradient(state), steps - covered))
        state = unroll(step, hp, state, covered, levels, start=steps - covered, probe=probe, watched=watched)
        return evaluate(hp, state)

    if norms:
        out, (grad, sizes) = wide_sums(jax.value_and_grad(value, argnums=(0, 1)))(floats, jnp.zeros((covered,), dtype))
        return out, trees.gradient_like(hp, grad), sizes
    out, grad = wide_sums(jax.value_and_grad(value))(floats, None)
    return out, trees.gradient_like(hp, grad), None


def forward_value_and_grad(
    fun: Callable[[Tree], Any], hp: Tree, chunk: int = 8, has_marks: bool = False
) -> tuple[Float[Array, ""], Tree, Float[Array, "t"] | None]:
    """``fun(hp)`` and its gradient by forward mode: 1 + (1..2) k trainings of time, (1 + chunk) S bytes.

    Args:
      fun: a scalar function of hp (a whole training and its evaluation).
      hp: leaves that are no floats are held fixed and get a zero gradient.
      chunk: how many directions advance together.
      has_marks: ``fun`` returns ``(scalar, marks)`` with the marks of `marked_unroll`.

    Returns:
      The value, the gradient (a tree like hp) and ``float[T]``, the norm |dw_t/dhp| over all directions, or None
      without marks.

    Source: Franceschi, Donini, Frasconi, Pontil, "Forward and reverse gradient-based hyperparameter
    optimization" (2017).

    >>> import jax.numpy as jnp
    >>> hp = {"a": jnp.float32(3), "b": jnp.float32(2)}
    >>> value, grad, _ = forward_value_and_grad(lambda hp: hp["a"] ** 2 * hp["b"], hp)
    >>> float(value), float(grad["a"]), float(grad["b"])
    (18.0, 12.0, 9.0)
    """
    flat, back = trees.flatten_floats(hp)
    size = flat.shape[0]
    marked = fun if has_marks else (lambda hp: (fun(hp), jnp.zeros((0,), flat.dtype)))

    def along(index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        direction = (jnp.arange(size) == index).astype(flat.dtype)
        (value, _), (slope, sizes) = jax.jvp(lambda x: marked(back(x)), (flat,), (direction,))
        return value, slope, sizes

    if size == 0:
        value, marks = marked(hp)
        grad, norms = jnp.zeros((0,), flat.dtype), marks
    elif size == 1:
        # one direction needs no batch of tangents, whose products are slower
        value, slope, norms = along(jnp.arange(size)[0])
        grad = slope[None]
    elif size <= chunk:
        value, grad, sizes = jax.vmap(along, out_axes=(None, 0, 0))(jnp.arange(size))
        norms = jnp.sqrt(jnp.sum(sizes**2, axis=0))
    else:
        padded = -(-size // chunk) * chunk
        rows = jnp.arange(padded).reshape(-1, chunk)
        values, grads, sizes = lax.map(jax.vmap(along, out_axes=(None, 0, 0)), rows)
        value, grad = values[0], grads.reshape(-1)[:size]
        # directions beyond the last one are zero, and so are their sizes
        norms = jnp.sqrt(jnp.sum(sizes**2, axis=(0, 1)))
    leaves = trees.split_floats(back(grad.astype(flat.dtype)))[0]
    grad = trees.gradient_like(hp, leaves)
    return value, grad, norms if has_marks else None
