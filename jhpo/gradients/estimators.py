"""Hypergradient estimators for any Trainable, as pure functions between the kernels and `jhpo.hypergrad`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.gradients.spec import HP, METHODS, SOLVERS, Estimate, Spec
from jhpo.kernels import trees
from jhpo.kernels.implicit import (
    Product,
    Solution,
    conjugate_gradient,
    implicit_value_and_grad,
    largest_eigenvalue,
    neumann,
    nystrom,
)
from jhpo.kernels.lapack import lapack_in_turn
from jhpo.kernels.lyapunov import backward_growth, forward_growth
from jhpo.kernels.perturbed import Smoothing, perturbed_gradient
from jhpo.kernels.probes import read_leaves
from jhpo.kernels.singular import defined_at_zeros, without_huge
from jhpo.kernels.unroll import marked_unroll, unroll
from jhpo.kernels.unroll_grad import forward_value_and_grad, reverse_value_and_grad
from jhpo.programs.compilation import programs
from jhpo.training.binding import Partly, Training, bind, differentiable, has_implicit, relaxed, traced_once
from jhpo.training.trainable import ImplicitTrainable, State, Trainable


@relaxed
def estimate(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    """Value and gradient of one training, estimated as ``spec`` says; traceable under jit, scan and vmap.

    Args:
      trainable: see `jhpo.as_trainable`.
      hp: hyperparameters, a pytree of numbers and arrays.
      key: ``key[]`` of the training.
      spec: the method and its options, static.

    Returns:
      An `Estimate`: value ``float[]``, grad (a tree like hp), and what the method knows about them.

    Raises:
      InvalidArgument: a method or solver that does not exist, or that this trainable does not support.
    """
    if spec.wrt is not None:
        part = Partly(trainable, hp, spec.wrt)
        out = estimate(part, part.start, key, spec._replace(wrt=None))
        error = None if out.error is None else part.gradient(out.error)
        return out._replace(grad=part.gradient(out.grad), error=error)
    if spec.seeds > 1:
        return _averaged(trainable, hp, key, spec)
    # a member's own last steps, not those after them that change nothing
    run = bind(trainable, key, spec.horizon, spec.metric, late=spec.method == "truncated")
    if spec.method not in ("pes", "es_single"):
        run = traced_once(differentiable(run, forward=spec.method == "forward"))
    if run.steps == 0 and spec.method in ("autodiff", "reverse", "truncated"):
        spec = spec._replace(method="reverse", levels=0, norms=False)
    if spec.method in ("reverse", "truncated"):
        return _reverse(run, hp, spec)
    if spec.method == "forward":
        return _forward(run, hp, spec)
    if spec.method in ("pes", "es_single"):
        return _perturbed(run, hp, key, spec)
    if spec.method == "implicit":
        return _implicit(trainable, run, hp, key, spec)
    raise invalid("method", f"one of {('auto', *METHODS)}", spec.method)


def _reverse(run: Training, hp: HP, spec: Spec) -> Estimate:
    window = spec.window if spec.method == "truncated" else None
    value, grad, norms = reverse_value_and_grad(
        run.step, run.evaluate, run.init, hp, run.steps, levels=spec.levels, window=window, norms=spec.norms
    )
    return Estimate(value, without_huge(grad), norms, None if norms is None else backward_growth(norms))


def _forward(run: Training, hp: HP, spec: Spec) -> Estimate:
    watched = read_leaves(run.evaluate, hp, jax.eval_shape(run.init, hp)) if spec.norms else None

    def whole(hp: HP) -> tuple[jax.Array, jax.Array]:
        state, marks = marked_unroll(run.step, hp, run.init(hp), run.steps, watched)
        return run.evaluate(hp, state), marks

    if spec.norms:
        value, grad, norms = forward_value_and_grad(whole, hp, has_marks=True)
        return Estimate(value, grad, norms, None if norms is None else forward_growth(norms))
    return Estimate(*forward_value_and_grad(lambda hp: whole(hp)[0], hp))


def _averaged(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    """Mean over keys of gradients clipped to their median norm; the value is that of ``key``."""
    single = spec._replace(seeds=1)
    others = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(1, spec.seeds, dtype=jnp.uint32))
    data = jnp.concatenate([jax.random.key_data(key)[None], jax.random.key_data(others)])
    keys = jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))
    all_of_them = jax.lax.map(lambda k: estimate(trainable, hp, k, single), keys)
    floats, _ = trees.split_floats(all_of_them.grad)
    sizes = jax.vmap(trees.norm)(floats)
    good = jnp.isfinite(sizes)
    typical = jnp.nanmedian(jnp.where(good, sizes, jnp.nan))
    inverse = 1 / jnp.where(sizes > 0, sizes, jnp.ones_like(sizes))
    count = jnp.sum(good).astype(sizes.dtype)

    def mean(x: jax.Array, factor: jax.Array) -> jax.Array:
        shape = (-1, *(1,) * (x.ndim - 1))
        kept = jnp.where(good.reshape(shape), x * factor.astype(x.dtype).reshape(shape), jnp.zeros_like(x))
        return jnp.sum(kept, axis=0) / count.astype(x.dtype)

    first = jax.tree.map(lambda x: x[0], all_of_them)
    clipped = [mean(x, jnp.minimum(jnp.ones_like(sizes), typical * inverse)) for x in floats]
    agreement = trees.norm([mean(x, inverse) for x in floats])
    return first._replace(grad=trees.gradient_like(hp, clipped), agreement=agreement)


def _perturbed(run: Training, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    window = spec.window or run.steps
    if window and run.steps % window:
        raise invalid("window", f"a divisor of the {run.steps} steps", window)
    flat, _ = trees.flatten_floats(hp)
    scale = jnp.where(flat == 0, jnp.ones_like(flat), jnp.abs(flat))
    noise = jax.random.fold_in(key, jnp.uint32(0x5EED))

    def step(hp: HP, state: State, t: jax.Array) -> State:
        # the kernel starts all pairs at one state: the first step replaces it by that of the pair's perturbed hp
        state = jax.lax.cond(t == 0, lambda s: run.init(hp), lambda s: s, state)
        return run.step(hp, state, t) if run.steps else state

    steps, window = (run.steps, window) if run.steps else (1, 1)
    weights = jnp.zeros((steps // window,), flat.dtype).at[-1].set(1.0)  # only the final evaluation counts
    _, grad, error = perturbed_gradient(
        step,
        lambda hp, state, t: run.evaluate(hp, state),
        run.init,
        hp,
        noise,
        steps=steps,
        window=window,
        pairs=spec.pairs,
        smoothing=Smoothing(spec.sigma, scale, spec.method),
        weights=weights,
    )
    value = run.evaluate(hp, unroll(run.step, hp, run.init(hp), run.steps))
    return Estimate(value, grad, error=error)


def _implicit(trainable: Trainable, run: Training, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    if not has_implicit(trainable):
        expected = "a trainable with train_loss(hp, params), params(state) and with_params(state, params)"
        raise invalid("method", f"{expected} for implicit gradients", type(trainable).__name__)
    fixed = jax.lax.stop_gradient(hp)
    start = run.init(fixed)
    state = unroll(run.step, fixed, start, run.steps)
    noise = jax.random.fold_in(key, jnp.uint32(0x5EED))

    def solve(product: Product, v: trees.Tree) -> Solution:
        if spec.solver == "cg":
            return conjugate_gradient(product, v, spec.iterations, spec.damping, 1e-6)
        if spec.solver == "neumann":
            rate = 1 / (1.05 * largest_eigenvalue(product, v, noise) + spec.damping)
            return neumann(product, v, spec.iterations, rate, spec.damping)
        if spec.solver == "nystrom":
            return nystrom(product, v, noise, spec.iterations, max(spec.damping, 1e-6))
        raise invalid("solver", f"one of {SOLVERS}", spec.solver)

    def evaluate(hp: HP, params: trees.Tree) -> jax.Array:
        return run.evaluate(hp, trainable.with_params(state, params))

    value, grad, info = implicit_value_and_grad(
        defined_at_zeros(trainable.train_loss), evaluate, hp, trainable.params(state), solve
    )
    return Estimate(
        value,
        without_huge(grad),
        stationary=loss_slope(trainable, hp, state) / loss_slope(trainable, hp, start),
        residual=info.residual,
        negative=info.negative,
    )


def loss_slope(trainable: ImplicitTrainable, hp: HP, state: State) -> jax.Array:
    """``float[]``: norm of the gradient of train_loss with respect to the parameters of a state."""
    slope = jax.grad(lambda params: trainable.train_loss(hp, params))(trainable.params(state))
    return trees.norm(trees.split_floats(slope)[0])


@programs("spec")
def estimate_program(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    """`estimate`, compiled once per spec and structure of its arguments."""
    return lapack_in_turn(lambda hp, key: estimate(trainable, hp, key, spec))(hp, key)
