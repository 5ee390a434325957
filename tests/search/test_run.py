"""The pure loop equals the host loop, composes with jit and vmap, and compiles once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import PSO, Choice, Float, InvalidArgument, InvalidSpace, RandomSearch, Space

SPACE = Space({"x": Float(-2.0, 2.0), "y": Float(-2.0, 2.0)})


def objective(hp):
    return (hp["x"] - 1.0) ** 2 + (hp["y"] + 0.5) ** 2


def noisy(hp, key):
    return objective(hp) + 0.1 * jax.random.normal(key, dtype=hp["x"].dtype)


def test_the_trace_holds_every_generation() -> None:
    _, trace = jhpo.run(PSO(12), objective, SPACE, 15, jax.random.key(0))
    assert trace.units.shape == (15, 12, 2) and trace.value.shape == (15, 12)
    assert float(trace.value.min()) < 1e-2
    hp = SPACE.from_unit(trace.units.reshape(-1, 2))
    np.testing.assert_allclose(jax.vmap(objective)(hp), trace.value.ravel(), rtol=1e-5, atol=1e-6)


def test_the_lowest_of_a_trace_is_feasible() -> None:
    """An infeasible member may have a lower value: the sphere's minimum lies beyond the constraint."""
    bounded = Space({"x": Float(-2.0, 2.0), "y": Float(-2.0, 2.0)}, constraints=[lambda hp: hp["x"] - 1.5])
    _, trace = jhpo.run(PSO(12), objective, bounded, 15, jax.random.key(0))
    unit, value = trace.lowest()
    assert trace.value.min() < value and (trace.constraint >= 0).any()
    rows = trace.value[(trace.constraint >= 0).all(-1)]
    assert value == rows.min() and bounded.decode(unit)["x"] >= 1.5
    keys = jax.random.split(jax.random.key(0), 3)
    traces = jax.vmap(lambda key: jhpo.run(PSO(12), objective, bounded, 15, key)[1])(keys)
    assert jax.vmap(jhpo.Trace.lowest)(traces)[1].shape == (3,)
    with pytest.raises(InvalidArgument, match=r"vmap\(jhpo.Trace.lowest\)"):
        traces.lowest()
    _, few = jhpo.run(PSO(12), objective, bounded, 15, jax.random.key(0), keep="values")
    assert few.lowest() == (None, value)
    none = Space({"x": Float(-2.0, 2.0)}, constraints=[lambda hp: hp["x"] - 5.0])
    assert np.isinf(jhpo.run(RandomSearch(4), lambda hp: hp["x"], none, 2, jax.random.key(0))[1].lowest()[1])
    both = jhpo.run(
        RandomSearch(4), lambda hp: (hp["x"], hp["y"]), SPACE, 2, jax.random.key(0), directions=["minimize"] * 2
    )
    with pytest.raises(InvalidArgument, match="one objective"):
        both[1].lowest()


@pytest.mark.parametrize(
    "strategy", [jhpo.DifferentialEvolution(8), PSO(8), jhpo.CMAES(8)], ids=lambda s: type(s).__name__
)
def test_an_elementwise_objective_is_computed_once_in_a_generation(strategy) -> None:
    """XLA computes again, wherever it is read, what has neither sums nor loops, and all that it was made of."""

    def floors(of) -> int:
        search = jax.jit(lambda key: jhpo.run(strategy, lambda hp: of(hp["x"]) + of(hp["y"]), SPACE, 5, key))
        return search.lower(jax.random.key(0)).compile().as_text().count(" floor(")

    assert floors(jnp.floor) - floors(lambda x: x) == 2


def test_run_and_minimize_are_the_same_search() -> None:
    key = jax.random.key(3)
    _, trace = jhpo.run(PSO(8), noisy, SPACE, 10, key)
    result = jhpo.minimize(noisy, SPACE, PSO(8), budget=80, key=key)
    np.testing.assert_allclose(trace.value.ravel(), result.history.value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trace.units.reshape(-1, 2), result.history.units, rtol=1e-5, atol=1e-6)


def test_vmap_over_keys_equals_solo_runs() -> None:
    keys = jax.vmap(jax.random.key)(jnp.arange(4, dtype=jnp.uint32))
    together = jax.vmap(lambda k: jhpo.run(PSO(8), objective, SPACE, 5, k)[1].value)(keys)
    alone = jnp.stack([jhpo.run(PSO(8), objective, SPACE, 5, jax.random.key(s))[1].value for s in range(4)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_vmap_over_tasks_and_scan_around() -> None:
    def task(shift):
        def shifted(hp):
            return (hp["x"] - shift) ** 2 + hp["y"] ** 2

        _, trace = jhpo.run(PSO(10), shifted, SPACE, 20, jax.random.key(0))
        return trace.value.min()

    assert (jax.jit(jax.vmap(task))(jnp.array([-1.0, 0.0, 1.5])) < 1e-2).all()
    _, best = jax.lax.scan(lambda c, s: (c, task(s)), 0, jnp.array([0.3, 0.7]))
    assert (best < 1e-2).all()


def test_one_compilation_for_any_seed_and_any_equal_instance(count_compilations) -> None:
    jhpo.run(PSO(8), objective, SPACE, 4, jax.random.key(0))
    again = Space({"x": Float(-2.0, 2.0), "y": Float(-2.0, 2.0)})
    key = jax.random.key(1)
    with count_compilations() as seen:
        jhpo.run(PSO(8), objective, again, 4, key)
    assert seen.names == []


def test_a_search_compiles_the_objective_and_the_strategy_once(count_compilations) -> None:
    def fresh(hp):
        return (hp["x"] - 0.3) ** 2 + hp["y"] ** 2

    jax.clear_caches()
    jhpo.minimize(objective, SPACE, RandomSearch(9), budget=9)  # whatever JAX compiles for its own housekeeping
    with count_compilations() as seen:
        jhpo.minimize(fresh, SPACE, PSO(9), budget=90)
    assert seen.names == ["jit(block_program)"]
    with count_compilations() as seen:
        jhpo.minimize(fresh, SPACE, PSO(9), budget=90, seed=5)
    assert seen.names == []


def test_replicates_average_the_noise() -> None:
    _, one = jhpo.run(RandomSearch(64), noisy, SPACE, 2, jax.random.key(0))
    _, many = jhpo.run(RandomSearch(64), noisy, SPACE, 2, jax.random.key(0), replicates=16)
    truth = jax.vmap(objective)(SPACE.from_unit(one.units.reshape(-1, 2))).reshape(2, 64)
    assert float(jnp.std(many.value - truth)) < 0.5 * float(jnp.std(one.value - truth))
    assert many.variance is not None
    np.testing.assert_allclose(float(many.variance.mean()), 0.01 / 16, rtol=0.3)


def test_bad_arguments() -> None:
    with pytest.raises(InvalidArgument, match=r"key: expected a key as jax\.random\.key\(0\) makes it, got 0"):
        jhpo.run(jhpo.RandomSearch(4), lambda hp: hp["x"], SPACE, 2, 0)  # type: ignore[arg-type]
    key = jax.random.key(0)
    with pytest.raises(InvalidArgument, match="generations: expected an integer >= 1, got 0"):
        jhpo.run(PSO(8), objective, SPACE, 0, key)
    with pytest.raises(InvalidArgument, match=r"space: expected a jhpo\.Space"):
        jhpo.run(PSO(8), objective, {"x": Float(0.0, 1.0)}, 3, key)
    static = Space({"x": Float(0.0, 1.0), "n": Choice([1, 2], static=True)})
    with pytest.raises(InvalidArgument, match="static"):
        jhpo.run(PSO(8), objective, static, 3, key)
    with pytest.raises(InvalidArgument, match="objective"):
        jhpo.run(PSO(8), lambda hp: jnp.ones((2,)) * hp["x"], SPACE, 3, key)
    with pytest.raises(InvalidSpace):
        Space({})


def test_what_is_kept() -> None:
    _, whole = jhpo.run(PSO(12), objective, SPACE, 9, jax.random.key(1))
    _, values = jhpo.run(PSO(12), objective, SPACE, 9, jax.random.key(1), keep="values")
    _, best = jhpo.run(PSO(12), objective, SPACE, 9, jax.random.key(1), keep="best")
    assert values.units is None and best.units.shape == (9, 1, 2) and best.value.shape == (9, 1)
    np.testing.assert_allclose(values.value, whole.value, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(best.value[:, 0], whole.value.min(axis=1), rtol=1e-5, atol=1e-7)
    with pytest.raises(InvalidArgument, match="keep: expected one of 'all', 'values', 'best'"):
        jhpo.run(PSO(12), objective, SPACE, 9, jax.random.key(1), keep="some")


def test_a_shard_map_that_tracks_what_varies_is_answered_by_its_flag() -> None:
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("searches",))
    keys = jax.random.split(jax.random.key(0), 2)
    rows = jax.sharding.PartitionSpec("searches")

    def lowest(strategy: jhpo.Strategy, **options):
        one = lambda key: jhpo.run(strategy, objective, SPACE, 3, key)[1].value.min()  # noqa: E731
        return jax.jit(jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=rows, out_specs=rows, **options))(keys)

    for strategy, named in ((PSO(4), r"strategy: expected a PSO\.ask"), (jhpo.Greedy(), "run: expected a search")):
        with pytest.raises(InvalidArgument, match=rf"^{named}.*; .*jax\.shard_map\(\.\.\., check_vma=False\)"):
            lowest(strategy)
        assert lowest(strategy, check_vma=False).shape == (2,)
    assert lowest(RandomSearch(4)).shape == (2,)  # has no loop that begins with a constant


def test_keys_along_explicit_axes_are_answered_by_shard_map() -> None:
    mesh = jax.make_mesh((1,), ("searches",), axis_types=(jax.sharding.AxisType.Explicit,))
    rows = jax.sharding.PartitionSpec("searches")
    keys = jax.device_put(jax.random.split(jax.random.key(0), 2), jax.sharding.NamedSharding(mesh, rows))
    for strategy, named in (
        (PSO(4), "run: expected a search"),  # has a loop in its loop
        (jhpo.Greedy(), "run: expected a search"),  # writes into an array
    ):
        search = jax.vmap(lambda key: jhpo.run(strategy, objective, SPACE, 3, key)[1].value.min())  # noqa: B023
        with pytest.raises(InvalidArgument, match=rf"^{named}.*; .*explicit.*shard_map.*jax\.sharding\.Mesh\("):
            jax.jit(search)(keys)
        options = {"mesh": mesh, "in_specs": rows, "out_specs": rows, "check_vma": False}
        found = jax.jit(jax.shard_map(search, **options))(keys)
        free = jax.sharding.NamedSharding(jax.sharding.Mesh(jax.devices()[:1], ("searches",)), rows)
        np.testing.assert_allclose(found, jax.jit(search)(jax.device_put(keys, free)), rtol=1e-6)
