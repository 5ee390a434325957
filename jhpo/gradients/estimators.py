"""Hypergradient estimators on any Trainable, as pure functions: the layer between the kernels and `jhpo.hypergrad`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import invalid
from jhpo.kernels import trees
from jhpo.kernels.chaos import chaos, hyper_direction
from jhpo.kernels.implicit import conjugate_gradient, implicit_value_and_grad, largest_eigenvalue, neumann, nystrom
from jhpo.kernels.perturbed import perturbed_gradient
from jhpo.kernels.singular import defined_at_zeros, without_huge
from jhpo.kernels.unroll import (
    forward_value_and_grad,
    gradient_bytes,
    marked_unroll,
    reverse_bytes,
    reverse_value_and_grad,
    unroll,
)
from jhpo.lifetimes import programs
from jhpo.space.space import Space
from jhpo.training.binding import Partly, Training, bind, differentiable, has_implicit, relaxed

HP = Any
METHODS = ("autodiff", "reverse", "forward", "truncated", "implicit", "pes", "es_single")
SOLVERS = ("cg", "neumann", "nystrom")
# Bytes up to which a member keeps all gradients or states of its training: beyond, recomputing costs less than memory.
STORE = 2**23


class Spec(NamedTuple):
    """How a gradient is to be estimated: Python values, the structure of a program."""

    method: str = "reverse"
    levels: int = 0  # rematerialisation levels of reverse and truncated
    window: int = 0  # steps of the truncated derivative, or of the windows of pes
    horizon: float = 1.0
    metric: str | None = None
    solver: str = "cg"
    iterations: int = 20  # Hessian products of cg and neumann, rank of nystrom
    damping: float = 0.0
    pairs: int = 32  # antithetic pairs of pes and es_single
    sigma: float = 0.02  # their noise, relative to each hyperparameter (absolute where it is zero)
    norms: bool = False  # reverse, truncated, forward: also norms over time
    seeds: int = 1  # gradients of so many keys, clipped to the median norm and averaged
    wrt: tuple[bool, ...] | None = None  # leaves of hp to differentiate; the others are held fixed; None for all


class Estimate(NamedTuple):
    """What an estimator found; every field an array or a tree of arrays."""

    value: jax.Array  # float[]
    grad: HP  # like hp; zeros at leaves that are no floats or held fixed
    norms: jax.Array | None = None  # float[steps], norm of dE/dw_t (reverse, truncated) or of dw_t/dhp (forward)
    error: HP | None = None  # like hp: standard error (pes, es_single)
    residual: jax.Array | None = None  # float[], |H x - v| / |v| (implicit)
    negative: jax.Array | None = None  # bool[], negative curvature was met (implicit)
    agreement: jax.Array | None = None  # float[], |mean of the seeds' directions|, 1 if all are the same (seeds > 1)


@relaxed
def estimate(trainable: Any, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    """Value and gradient of one training by ``spec``; traceable under jit, scan and vmap.

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
    run = bind(trainable, key, spec.horizon, spec.metric)
    if spec.method not in ("pes", "es_single"):
        run = differentiable(run, forward=spec.method == "forward")
    if run.steps == 0 and spec.method in ("autodiff", "reverse", "truncated"):
        spec = spec._replace(method="reverse", levels=0, norms=False)
    if spec.method in ("reverse", "truncated"):
        window = spec.window if spec.method == "truncated" else None
        value, grad, norms = reverse_value_and_grad(
            run.step, run.evaluate, run.init, hp, run.steps, spec.levels, window, spec.norms
        )
        return Estimate(value, without_huge(grad), norms)
    if spec.method == "forward":

        def whole(hp: HP) -> tuple[jax.Array, jax.Array]:
            state, marks = marked_unroll(run.step, hp, run.init(hp), run.steps)
            return run.evaluate(hp, state), marks

        if spec.norms:
            return Estimate(*forward_value_and_grad(whole, hp, has_marks=True))
        return Estimate(*forward_value_and_grad(lambda hp: whole(hp)[0], hp))
    if spec.method in ("pes", "es_single"):
        return _perturbed(run, hp, key, spec)
    if spec.method == "implicit":
        return _implicit(trainable, run, hp, key, spec)
    raise invalid("method", f"one of {('auto', *METHODS)}", spec.method)


def _averaged(trainable: Any, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    """Mean over keys of gradients clipped to the median norm; the value is that of the key itself."""
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

    def step(hp: HP, state: Any, t: jax.Array) -> Any:
        # the kernel starts every pair at one state: the first step puts in the one that the pair's own hp makes
        state = jax.lax.cond(t == 0, lambda s: run.init(hp), lambda s: s, state)
        return run.step(hp, state, t) if run.steps else state

    steps, window = (run.steps, window) if run.steps else (1, 1)
    weights = jnp.zeros((steps // window,), flat.dtype).at[-1].set(1.0)  # the evaluation at the end is what counts
    _, grad, error = perturbed_gradient(
        step,
        lambda hp, state, t: run.evaluate(hp, state),
        run.init,
        hp,
        noise,
        steps,
        window,
        spec.pairs,
        spec.sigma,
        scale,
        spec.method,
        weights,
    )
    value = run.evaluate(hp, unroll(run.step, hp, run.init(hp), run.steps))
    return Estimate(value, grad, error=error)


def _implicit(trainable: Any, run: Training, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    if not has_implicit(trainable):
        expected = "a trainable with train_loss(hp, params), params(state) and with_params(state, params)"
        raise invalid("method", f"{expected} for implicit gradients", type(trainable).__name__)
    fixed = jax.lax.stop_gradient(hp)
    state = unroll(run.step, fixed, run.init(fixed), run.steps)
    noise = jax.random.fold_in(key, jnp.uint32(0x5EED))

    def solve(product: Any, v: Any) -> Any:
        if spec.solver == "cg":
            return conjugate_gradient(product, v, spec.iterations, spec.damping, 1e-6)
        if spec.solver == "neumann":
            rate = 1 / (1.05 * largest_eigenvalue(product, v, noise) + spec.damping)
            return neumann(product, v, spec.iterations, rate, spec.damping)
        if spec.solver == "nystrom":
            return nystrom(product, v, noise, spec.iterations, max(spec.damping, 1e-6))
        raise invalid("solver", f"one of {SOLVERS}", spec.solver)

    def evaluate(hp: HP, params: Any) -> jax.Array:
        return run.evaluate(hp, trainable.with_params(state, params))

    value, grad, info = implicit_value_and_grad(
        defined_at_zeros(trainable.train_loss), evaluate, hp, trainable.params(state), solve
    )
    return Estimate(value, without_huge(grad), residual=info.residual, negative=info.negative)


class Probe(NamedTuple):
    """One training with a tangent: what `auto` decides by."""

    value: jax.Array  # float[]
    exponent: jax.Array  # float[], Lambda
    growth: jax.Array  # float[T]
    stationary: jax.Array  # float[], |grad of train_loss| at the end over that at the start; inf where there is none


@relaxed
def probe(trainable: Any, hp: HP, key: jax.Array, spec: Spec) -> Probe:
    """Chaos exponent, value, and how converged the training is; about three trainings of time, memory of two states."""
    if spec.wrt is not None:
        part = Partly(trainable, hp, spec.wrt)
        return probe(part, part.start, key, spec._replace(wrt=None))
    run = differentiable(bind(trainable, key, spec.horizon, spec.metric), forward=True)
    direction = hyper_direction(jax.random.fold_in(key, jnp.uint32(0xC4A05)), hp)
    floats, rebuild = trees.split_floats(hp)

    def start(floats: list[jax.Array]) -> tuple[list[jax.Array], Any]:
        state = run.init(rebuild(floats))
        return trees.split_floats(state)[0], state

    _, tangent, state = jax.jvp(start, (floats,), (direction,), has_aux=True)
    out = chaos(run.step, hp, direction, state, tangent, run.steps)
    stationary = jnp.full((), jnp.inf)
    if has_implicit(trainable):
        size = lambda state: trees.norm(  # noqa: E731
            trees.split_floats(jax.grad(lambda p: trainable.train_loss(hp, p))(trainable.params(state)))[0]
        )
        stationary = size(out.state) / size(state)
    return Probe(run.evaluate(hp, out.state), out.exponent, out.growth, stationary)


@relaxed
def value_and_unit_grad(
    trainable: Any,
    space: Space,
    unit: jax.Array,
    key: jax.Array,
    horizon: float = 1.0,
    method: str = "auto",
    levels: int | None = None,
    *,
    metric: str | None = None,
    static: dict[str, Any] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Value and gradient with respect to a unit row: what a population evaluates for gradient strategies.

    Args:
      trainable: see `jhpo.as_trainable`.
      space: turns the row into hyperparameters; discrete coordinates get a zero gradient.
      unit: ``float[d]``.
      key: the member's key.
      horizon: share of the training.
      method: "auto" chooses by shapes alone, as it is traced for a whole population: forward mode for one or two
        continuous coordinates, else reverse mode.
      levels: of rematerialisation; None for one while what that stores is at most `STORE` bytes, then two, or three
        where these are too large as well.
      metric, static: see `jhpo.Population`.

    Returns:
      ``float[]`` and ``float[d]``. A failed training gives NaN, never an error.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 2.0)})
    >>> objective = jhpo.as_trainable(lambda hp: hp["x"] ** 2)
    >>> value, grad = value_and_unit_grad(objective, space, jnp.array([0.5]), jax.random.key(0))
    >>> float(value), grad.tolist()
    (1.0, [4.0])
    """
    continuous = np.flatnonzero(np.asarray(space.cells) == 0)
    run = bind(trainable, key, horizon, metric)
    if continuous.size == 0:
        hp = space.from_unit(unit, static)
        return run.evaluate(hp, unroll(run.step, hp, run.init(hp), run.steps)), jnp.zeros_like(unit)
    inner = unit[continuous]
    to_hp = lambda x: space.from_unit(unit.at[continuous].set(x), static)  # noqa: E731
    if method == "auto":
        method = "forward" if run.steps and continuous.size <= 2 else "reverse"
    if method == "forward":
        run = differentiable(run, forward=True)

        def whole(x: jax.Array) -> jax.Array:
            hp = to_hp(x)
            return run.evaluate(hp, unroll(run.step, hp, run.init(hp), run.steps))

        value, grad = forward_value_and_grad(whole, inner)[:2]
    else:
        levels = _levels(run, to_hp(inner)) if levels is None else levels
        spec = Spec(method=method, levels=levels, horizon=horizon, metric=metric)
        out = estimate(trainable, to_hp(inner), key, spec)
        value = out.value
        floats = lambda x: trees.split_floats(to_hp(x))[0]  # noqa: E731
        _, pull = jax.vjp(floats, inner)
        (grad,) = pull(_floats_of(out.grad, to_hp(inner)))
    return value, jnp.zeros_like(unit).at[continuous].set(grad.astype(unit.dtype))


def _levels(run: Training, hp: HP) -> int:
    if run.steps == 0:
        return 0
    state = jax.eval_shape(run.init, hp)
    size, gradients = trees.num_bytes(state), gradient_bytes(run.step, hp, state)
    return next((n for n in (1, 2) if reverse_bytes(run.steps, n, size, gradients) <= STORE), 3)


def _floats_of(grad: HP, hp: HP) -> list[jax.Array]:
    pairs = zip(jax.tree.leaves(grad), jax.tree.leaves(hp))
    return [g for g, leaf in pairs if trees.is_float(leaf)]


@programs("spec")
def estimate_program(trainable: Any, hp: HP, key: jax.Array, spec: Spec) -> Estimate:
    """`estimate` as one compiled program for each spec and structure."""
    return estimate(trainable, hp, key, spec)


@programs("spec")
def probe_program(trainable: Any, hp: HP, key: jax.Array, spec: Spec) -> Probe:
    """`probe` as one compiled program for each spec and structure."""
    return probe(trainable, hp, key, spec)
