"""A training loop whose derivative needs little memory: levels of rematerialisation, or truncation.

Notation: w_t the state after t steps, Phi the step, T the number of steps, S the bytes of a state, E the
evaluation. All functions take ``step(hp, state, t) -> state``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.kernels.mixed import GRADIENT
from jhpo.kernels.probes import marked, probed, split
from jhpo.kernels.programs import named_bytes
from jhpo.kernels.shapes import Array, Float, Int
from jhpo.kernels.shuffle import ROWS

Tree = Any
Step = Callable[[Tree, Tree, jax.Array], Tree]

# What is saved of a step that is recomputed in the backward pass: the inner gradient, as the Hessian product recomputes
# the rest anyway, and the rows of the batch, which are few numbers but expensive to compute.
_KEEP = jax.checkpoint_policies.save_only_these_names(GRADIENT, ROWS)


def block_length(steps: int, levels: int) -> int:
    """Steps per block of the outermost of ``levels`` loops: about T^((L-1)/L), a divisor of T if there is one near.

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
      levels: L. 0 saves the residuals of all steps, T (S + residuals) bytes. 1 saves the inner gradients of all steps
        and 2 T^(1/2) states, from which the other states are recomputed by applying the updates, if the step uses
        `mixed_grad`; otherwise all T states. L >= 2 saves about L T^(1/L) states and T^(1/L) inner gradients, and
        recomputes each step L times.
      start: index of the first step.
      probe: ``float[T]`` of zeros or None. Its cotangent is the norm of dE/dw_t after every step (reverse mode only).
      watched: for each leaf of the state, whether this norm includes it (see `read_leaves`); None for all.

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
        some, put = split(after, watched)
        return put(probed(some, x[1])), None

    if steps == 0:
        return state
    ts = jnp.asarray(start, jnp.int32) + jnp.arange(steps, dtype=jnp.int32)
    if levels == 0:
        return lax.scan(body, state, (ts, probe))[0]
    if levels == 1 and gradient_bytes(step, hp, state) == 0:
        return _recomputed(body, state, (ts, probe))
    return _blocks(body, state, (ts, probe), steps, levels)


def gradient_bytes(step: Step, hp: Tree, state: Tree) -> int:
    """Bytes of the gradients that one step computes with `jhpo.kernels.mixed.mixed_grad`, from its jaxpr."""
    return named_bytes(jax.make_jaxpr(step)(hp, state, jnp.int32(0)).jaxpr, GRADIENT)


def reverse_bytes(steps: int, levels: int, state: int, gradients: int, residuals: int = 0) -> int:
    """Bytes saved for the backward pass of `unroll`.

    Args:
      steps, levels: see `unroll`.
      state: bytes of a state.
      gradients: see `gradient_bytes`.
      residuals: bytes that one step saves for its own backward pass.

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
    """A scan that saves the carry of every step, and what `_KEEP` says, for its backward pass."""
    return lax.scan(jax.checkpoint(body, prevent_cse=False, policy=_KEEP), carry, xs)[0]


def _blocks(body: Callable[..., Any], carry: Tree, xs: Tree, steps: int, levels: int) -> Tree:
    """A scan of blocks that saves the carry of every block for its backward pass, with one level also `_KEEP`."""
    block = block_length(steps, max(levels, 2))
    count = steps // block

    def inner(carry: Tree, xs: Tree, length: int) -> Tree:
        return _blocks(body, carry, xs, length, levels - 1) if levels > 2 else _recomputed(body, carry, xs)

    keep = _KEEP if levels == 1 else None
    remat = jax.checkpoint(inner, static_argnums=(2,), prevent_cse=False, policy=keep)
    blocks = jax.tree.map(lambda x: x[: count * block].reshape(count, block, *x.shape[1:]), xs)
    carry, _ = lax.scan(lambda c, x: (remat(c, x, block), None), carry, blocks)
    tail = jax.tree.map(lambda x: x[count * block :], xs)
    # outside of a loop XLA could merge the recomputation with the first pass by CSE
    last = jax.checkpoint(inner, static_argnums=(2,), prevent_cse=True, policy=keep)
    return last(carry, tail, steps - count * block) if steps > count * block else carry


def marked_unroll(
    step: Step, hp: Tree, state: Tree, steps: int, watched: Sequence[bool] | None = None
) -> tuple[Tree, Float[Array, "t"]]:
    """The result of `unroll`, and ``float[T]`` zeros whose forward-mode tangents are |dw_t| after every step.

    The norm is over the ``watched`` leaves of the state (see `read_leaves`), over all if None.

    >>> import jax, jax.numpy as jnp
    >>> run = lambda lr: marked_unroll(lambda hp, w, t: w - hp * w, lr, jnp.float32(1.0), 3)[1]
    >>> jax.jvp(run, (jnp.float32(0.5),), (jnp.float32(1.0),))[1].tolist()
    [1.0, 1.0, 0.75]
    """

    def body(state: Tree, t: jax.Array) -> tuple[Tree, jax.Array]:
        some, put = split(step(hp, state, t), watched)
        some, mark = marked(some)
        return put(some), mark

    return lax.scan(body, state, jnp.arange(steps, dtype=jnp.int32))


def truncated(step: Step, hp: Tree, state: Tree, steps: int, window: int, levels: int = 0) -> Tree:
    """The state after ``steps`` steps, whose derivative goes back through the last ``window`` of them only.

    Cheap in memory, but biased: a short window favours small learning rates (Wu, Ren, Liao, Grosse 2018,
    "Understanding short-horizon bias in stochastic meta-optimization").
    """
    window = min(window, steps)
    before = unroll(step, lax.stop_gradient(hp), lax.stop_gradient(state), steps - window)
    return unroll(step, hp, lax.stop_gradient(before), window, levels, start=steps - window)
