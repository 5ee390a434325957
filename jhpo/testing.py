"""The conformance suite for strategies, for those of jhpo and for your own.

>>> import jhpo
>>> check_strategy(jhpo.RandomSearch(8), learns=False)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.keys import init_key, is_key, key_of_data, strategy_key
from jhpo.space.space import Choice, Float, Int, Ordinal, Space
from jhpo.strategies import as_strategy
from jhpo.strategies.base import Evaluation, Strategy, default_dtype
from jhpo.values.packing import pack_arrays, unpack_arrays
from jhpo.values.pytrees import State

PLAIN = Space({"x": Float(-3.0, 5.0), "y": Float(-1.0, 1.0), "z": Float(1e-3, 1e1, log=True)})
MIXED = Space(
    {
        "lr": Float(1e-4, 1e-1, log=True),
        "opt": Choice(["sgd", "adam", "lion"]),
        "b2": Float(0.9, 0.999, when={"opt": ["adam", "lion"]}),
        "width": Int(4, 64, log=True),
        "layers": Int(1, 3),
        "sched": Float(0.0, 1.0, shape=(2,)),
        "batch": Ordinal([16, 32, 64], when={"layers": [2, 3]}),
    },
    constraints=[lambda hp: 0.08 - hp["lr"], lambda hp: 1.5 - hp["sched"].sum()],
)

# What is told of the results of a rollout
FINE, SOME_NAN, SOME_INF, ALL_FAILED_ONCE, CONSTANT = range(5)
GENERATIONS = 6


class Rollout(NamedTuple):
    """Trace of a short search; the leading axis is the generation."""

    units: jax.Array  # float[g, n, d]
    value: jax.Array  # float[g, n], as told
    truth: jax.Array  # float[g, n], or [g, n, m] of several objectives, without failures
    constraint: jax.Array  # float[g, n, c]


def quadratic(unit: jax.Array) -> jax.Array:
    """``float[]``: a quadratic of ``float[d]`` with its minimum 0 at .3, .45, .6, ... (reflected into the cube)."""
    target = 0.3 + 0.15 * jnp.arange(unit.shape[0], dtype=unit.dtype)
    target = jnp.abs((target + 1) % 2 - 1) * 0.8 + 0.1
    return ((unit - target) ** 2).sum()


def opposed(unit: jax.Array, count: int) -> jax.Array:
    """``float[count]``: the quadratic of ``float[d]``, and the same of the point moved along the cube's diagonal."""
    return jnp.stack([quadratic(unit - 0.4 * k / max(count - 1, 1)) for k in range(count)])


def _evaluate(
    strategy: Strategy, space: Space, units: jax.Array, mode: jax.Array, g: jax.Array
) -> tuple[Evaluation, jax.Array]:
    def value(u: jax.Array) -> jax.Array:
        return quadratic(space.canonical(u))

    truth, grad = jax.vmap(jax.value_and_grad(value))(units)
    n = units.shape[0]
    third = jnp.arange(n) % 3 == 1
    told = jnp.where((mode == SOME_NAN) & third, jnp.nan, truth)
    told = jnp.where((mode == SOME_INF) & third, jnp.where(g % 2 == 0, jnp.inf, -jnp.inf), told)
    told = jnp.where((mode == ALL_FAILED_ONCE) & (g < 2), jnp.nan, told)
    told = jnp.where(mode == CONSTANT, jnp.ones_like(told), told)
    constraint = space.unit_constraint(units) if space.has_constraints else None
    count, values = getattr(strategy, "objectives", 1), None
    if count > 1:
        truth = jax.vmap(lambda u: opposed(space.canonical(u), count))(units)
        values = jnp.where(jnp.isfinite(told)[:, None], truth, told[:, None])
    return Evaluation(told, grad if strategy.needs_grad else None, constraint=constraint, values=values), truth


def rollout(strategy: Strategy, space: Space, key: jax.Array, mode: jax.Array) -> tuple[State, Rollout]:
    """The state after a few generations on the quadratic, and their trace, as one scan."""
    strategy = strategy.prepare(GENERATIONS * strategy.population)
    state = strategy.init(space, init_key(key))

    def generation(state: State, g: jax.Array) -> tuple[State, Rollout]:
        units, state = strategy.ask(state, strategy_key(key, g))
        result, truth = _evaluate(strategy, space, units, mode, g)
        state = strategy.tell(state, units, result)
        nothing = jnp.zeros((*result.value.shape, 0), truth.dtype)
        constraint = nothing if result.constraint is None else result.constraint
        return state, Rollout(units, result.value, truth, constraint)

    return jax.lax.scan(generation, state, jnp.arange(GENERATIONS, dtype=jnp.uint32))


def turn(strategy: Strategy, space: Space, state: State, key: jax.Array, g: jax.Array) -> tuple[State, jax.Array]:
    """One generation: the state after it, and its points."""
    units, state = strategy.ask(state, strategy_key(key, g))
    result, _ = _evaluate(strategy, space, units, jnp.int32(FINE), g)
    return strategy.tell(state, units, result), units


# shared by all checks of a strategy
_program = jax.jit(rollout)
_vmapped = jax.jit(jax.vmap(rollout, in_axes=(None, None, 0, None)))
_turn = jax.jit(turn)


def _run(strategy: Strategy, space: Space, seed: int, mode: int = FINE) -> tuple[State, Rollout]:
    return _program(strategy, space, jax.random.key(seed), np.int32(mode))


def _assert_inside(units: np.ndarray, where: str = "") -> None:
    low, high = np.min(units), np.max(units)  # NaN if there is one
    assert low >= 0 and high <= 1, f"points{where}: expected all in [0, 1], got {low:.3g} to {high:.3g}; see jnp.clip"


def check_points(strategy: Strategy, spaces: tuple[Space, ...] = (PLAIN, MIXED)) -> None:
    """Points have the right shape and dtype and lie in the unit cube, in every space."""
    for space in spaces:
        _, out = _run(strategy, space, 0)
        wanted = (GENERATIONS, strategy.population, space.dim)
        assert out.units.shape == wanted, f"points: expected shape {wanted}, got {out.units.shape}"
        assert out.units.dtype == default_dtype(), f"points: expected {default_dtype()}, got {out.units.dtype}"
        units = np.asarray(out.units)
        _assert_inside(units)
        for row in units.reshape(-1, space.dim)[:: max(1, units[..., 0].size // 8)]:
            space.encode(space.decode(row), fill=row)


def check_state(strategy: Strategy) -> None:
    """The state has explicit dtypes and no weak types."""
    state = jax.eval_shape(lambda: strategy.prepare(64).init(PLAIN, jax.random.key(0)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        place = jax.tree_util.keystr(path)
        assert not leaf.weak_type, f"weak type at {place} of the state: a Python number; write jnp.full((), x, dtype)"
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            assert leaf.dtype == default_dtype(), f"state{place}: expected {default_dtype()}, got {leaf.dtype}"


def check_seeds(strategy: Strategy) -> None:
    """Equal keys give equal searches, different keys different ones, except for finite searches such as a grid."""
    first, again, other = (np.asarray(_run(strategy, PLAIN, s)[1].units) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    if strategy.max_evaluations(PLAIN) is None:
        assert (first != other).any(), "different keys gave equal searches"


def check_vmap(strategy: Strategy) -> None:
    """Searches under vmap equal single searches up to rounding."""
    keys = jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32))
    together = np.asarray(_vmapped(strategy, PLAIN, keys, np.int32(FINE))[1].units)
    alone = np.stack([np.asarray(_run(strategy, PLAIN, s)[1].units) for s in range(3)])
    # a strategy that fits a model amplifies rounding to other, equally good points later: only the start must agree
    np.testing.assert_allclose(together[:, :2], alone[:, :2], atol=5e-3)


def check_loop(strategy: Strategy) -> None:
    """A Python loop of jitted generations equals the scan."""
    key, sized = jax.random.key(4), strategy.prepare(GENERATIONS * strategy.population)
    state = jax.jit(lambda s, k: s.init(PLAIN, init_key(k)))(sized, key)
    told = []
    for g in range(2):
        state, units = _turn(sized, PLAIN, state, key, np.uint32(g))
        told.append(np.asarray(units))
    np.testing.assert_allclose(np.stack(told), np.asarray(_run(strategy, PLAIN, 4)[1].units)[:2], atol=5e-3)


def check_failures(strategy: Strategy) -> None:
    """Points stay finite and in the cube when members fail, even if whole generations do."""
    for mode in (SOME_NAN, SOME_INF, ALL_FAILED_ONCE, CONSTANT):
        _, out = _run(strategy, PLAIN, 5, mode)
        units = np.asarray(out.units)
        _assert_inside(units, f" where results are of mode {mode}")
        _, mixed = _run(strategy, MIXED, 5, mode)
        assert np.isfinite(np.asarray(mixed.units)).all(), f"mode {mode}, mixed space"


def check_recompilation(strategy: Strategy) -> None:
    """A second call with an equal strategy and space compiles nothing."""
    _run(strategy, PLAIN, 6)
    before = _program._cache_size()  # type: ignore[attr-defined]
    leaves, treedef = jax.tree.flatten(strategy)
    equal = jax.tree.unflatten(treedef, [type(x)(x) if isinstance(x, float) else x for x in leaves])
    _run(equal, Space.from_json(PLAIN.to_json()), 7)
    assert _program._cache_size() == before, "an equal strategy or space compiled the program again"  # type: ignore[attr-defined]


def check_serialization(strategy: Strategy) -> None:
    """A state that was serialised to msgpack and back continues exactly like the original."""
    sized = strategy.prepare(GENERATIONS * strategy.population)
    state, _ = _run(strategy, PLAIN, 8)
    leaves, treedef = jax.tree.flatten(state)
    data = [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in leaves]
    read = unpack_arrays(pack_arrays({str(i): x for i, x in enumerate(data)}))
    back = [key_of_data(read[str(i)], x) if is_key(x) else read[str(i)] for i, x in enumerate(leaves)]
    key, g = jax.random.key(1), np.uint32(GENERATIONS)
    _, first = _turn(sized, PLAIN, state, key, g)
    _, second = _turn(sized, PLAIN, jax.tree.unflatten(treedef, back), key, g)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def check_learning(strategy: Strategy) -> None:
    """The search is better than random search on a shifted quadratic, in the median of three seeds."""
    from jhpo.strategies.random import RandomSearch

    keys = jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32))

    def best(s: Strategy) -> float:
        truth = np.asarray(_vmapped(s, PLAIN, keys, np.int32(FINE))[1].truth)
        return float(np.median(truth.reshape(3, -1).min(axis=1)))

    mine, baseline = best(strategy), best(RandomSearch(strategy.population))
    assert mine < baseline, f"{type(strategy).__name__} reached {mine:.3g}, random search {baseline:.3g}"


def check_constraints(strategy: Strategy) -> None:
    """The search finds feasible points in a mixed space with constraints."""
    _, out = _run(strategy, MIXED, 9)
    feasible = (np.asarray(out.constraint) >= 0).all(axis=-1)
    assert feasible.any(), "no point met the constraints"


def check_several(strategy: Strategy) -> None:
    """A strategy for several objectives keeps its promises with two of them, failures included.

    The points of its last generations are better than those of random search, in the mean of their objectives.
    """
    from jhpo.objectives import Objectives
    from jhpo.strategies.random import RandomSearch

    if not strategy.several:
        return
    two = strategy.for_objectives(Objectives(("minimize", "maximize")))
    state = jax.eval_shape(lambda: two.prepare(64).init(PLAIN, jax.random.key(0)))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state)), "a weak type in the state"
    keys = jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32))
    _, out = _vmapped(two, PLAIN, keys, np.int32(SOME_NAN))
    units = np.asarray(out.units)
    _assert_inside(units, " of two objectives")
    if getattr(two, "objectives", 1) == 1:  # it does not look at the values
        return

    def late(units: jax.Array) -> float:
        rows = units[:, GENERATIONS // 2 :].reshape(-1, PLAIN.dim)
        return float(jax.vmap(lambda u: opposed(u, 2).sum())(rows).mean())

    _, chance = _vmapped(RandomSearch(strategy.population), PLAIN, keys, np.int32(SOME_NAN))
    mine, baseline = late(out.units), late(chance.units)
    assert mine < baseline, f"{type(strategy).__name__} reached {mine:.3g}, random search {baseline:.3g}"


CHECKS: dict[str, Callable[[Strategy], None]] = {
    "points": check_points,
    "state": check_state,
    "seeds": check_seeds,
    "vmap": check_vmap,
    "loop": check_loop,
    "failures": check_failures,
    "recompilation": check_recompilation,
    "serialization": check_serialization,
    "constraints": check_constraints,
    "learning": check_learning,
    "several": check_several,
}


def check_strategy(strategy: Strategy, *, learns: bool = True, skip: tuple[str, ...] = ()) -> None:
    """Run every check on a strategy.

    Args:
      strategy: an instance with a small population.
      learns: whether it uses the results it is told, so that it must beat random search.
      skip: names of `CHECKS` that do not apply.

    Raises:
      InvalidArgument: it is no whole strategy, as `jhpo.minimize` would say.
      AssertionError: a check failed; its docstring says what it asserts.
    """
    strategy = as_strategy(strategy)
    for name, check in CHECKS.items():
        if name not in skip and (learns or name != "learning"):
            check(strategy)
