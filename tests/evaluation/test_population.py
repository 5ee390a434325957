"""Whole populations: chunks, order, static groups, replicates, trained states, failures, memory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo import Choice, Float, InvalidArgument, OutOfMemory, Population, Space
from jhpo.evaluation.chunks import LARGEST, SMALLEST, Chunks, is_out_of_memory, preferred_chunk
from jhpo.programs.devices import free_memory, member_mesh

KEY = jax.random.key(0)
SPACE = Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)})
RNG = np.random.default_rng(0)
UNITS = RNG.random((40, 2)).astype(np.float32)
IDS = np.arange(40, dtype=np.uint32)
X = RNG.normal(size=(48, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


def noisy(hp, key):
    return hp["x"] ** 2 + hp["y"] + 0.1 * jax.random.normal(key)


@pytest.fixture(scope="module")
def task():
    """A small network trained a few steps."""
    model = (
        lambda key, x: {"w": 0.3 * jax.random.normal(key, (5, 8)), "v": jnp.ones((8, 2)) * 0.1},
        lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"],
    )
    return jhpo.supervised(
        model, lambda hp: optax.adam(0.01 + 0.1 * jnp.abs(hp["x"]), b1=0.5 + 0.4 * jnp.abs(hp["y"])),
        train=(X[:32], Y[:32]), valid=(X[32:], Y[32:]), batch_size=8, steps=20,
    )  # fmt: skip


def values(objective, units=UNITS, ids=IDS, **options):
    return Population(objective, SPACE, **options).evaluate(units, ids, KEY).value


def test_a_member_depends_on_neither_chunk_nor_order_nor_neighbours(task) -> None:
    whole = values(task, chunk=40)
    assert len(set(whole.tolist())) == 40 and np.isfinite(whole).all()
    # the stated tolerance: 1e-6 on a short training, growing with the steps
    np.testing.assert_allclose(values(task, chunk=16), whole, rtol=1e-5)
    np.testing.assert_allclose(values(task), whole, rtol=1e-5)
    np.testing.assert_allclose(values(task, UNITS[7:9], IDS[7:9], chunk=16), whole[7:9], rtol=1e-5)
    # the same chunk size gives the same bits, wherever the member stands
    order = RNG.permutation(40)
    population = Population(task, SPACE, chunk=16)
    there, back = (population.evaluate(UNITS[o], IDS[o], KEY).value for o in (np.arange(40), order))
    np.testing.assert_array_equal(there[order], back)


def test_keys_follow_from_the_ids(task) -> None:
    first, other = values(noisy, ids=IDS), values(noisy, ids=IDS + 1)
    expected = [float(noisy(SPACE.from_unit(jnp.asarray(u)), jax.random.fold_in(KEY, i))) for i, u in enumerate(UNITS)]
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-6)
    assert (first != other).all()


def test_one_program_for_every_seed_and_generation(task, count_compilations) -> None:
    population = Population(task, SPACE)
    population.evaluate(UNITS, IDS, KEY)
    other = jax.random.key(1)
    with count_compilations() as seen:
        population.evaluate(UNITS[::-1], IDS + 40, other)
    assert seen.names == [] and population.layout["chunk"] >= SMALLEST
    assert population.compile_seconds > 0


def test_failed_members_leave_the_others_bit_identical(task) -> None:
    bad = RNG.random(40) < 0.3

    class Diverging:
        steps = task.steps

        def __getattr__(self, name):
            return getattr(task, name)

        def evaluate(self, hp, state):
            return jnp.where(hp["z"] > 0.5, jnp.nan, task.evaluate(hp, state)["loss"])

        init, step = task.init, task.step

    space = Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0), "z": Float(0.0, 1.0)})
    population = Population(Diverging(), space, chunk=16)
    good = population.evaluate(np.c_[UNITS, np.zeros(40)], IDS, KEY).value
    some = population.evaluate(np.c_[UNITS, bad], IDS, KEY).value
    assert np.isnan(some[bad]).all()
    np.testing.assert_array_equal(some[~bad], good[~bad])


def test_static_groups_compile_once_each_and_keep_the_order(count_compilations) -> None:
    space = Space({"x": Float(-1.0, 1.0), "depth": Choice([1, 2, 3], static=True), "act": Choice(["a", "b"])})
    traced = []

    def objective(hp, key):
        traced.append(hp["depth"])
        y = hp["x"] + jax.random.uniform(key)
        for _ in range(hp["depth"]):
            y = y * 2.0
        return y + (hp["act"] == 1).astype(y.dtype)

    units = RNG.random((30, 3)).astype(np.float32)
    population = Population(objective, space)
    with count_compilations() as seen:
        value = population.evaluate(units, np.arange(30), KEY).value
    assert sum("evaluate" in name for name in seen.names) == 3
    with count_compilations() as seen:
        np.testing.assert_array_equal(population.evaluate(units, np.arange(30), KEY).value, value)
    assert seen.names == [] and set(traced) == {1, 2, 3}
    for i in range(30):
        hp = space.decode(units[i])
        noise = float(jax.random.uniform(jax.random.fold_in(KEY, i)))
        expected = (hp["x"] + noise) * 2 ** hp["depth"] + (hp["act"] == "b")
        assert value[i] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_replicates_give_mean_and_variance() -> None:
    result = Population(noisy, SPACE, replicates=4).evaluate(UNITS, IDS, KEY)
    each = np.array([
        [float(noisy(SPACE.from_unit(jnp.asarray(u)), jax.random.fold_in(jax.random.fold_in(KEY, i), r)))
         for r in range(4)]
        for i, u in enumerate(UNITS[:5])
    ])  # fmt: skip
    np.testing.assert_allclose(result.value[:5], each.mean(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.variance[:5], each.var(1, ddof=1) / 4, rtol=1e-3)

    def sometimes(hp, key):
        return jnp.where(jax.random.uniform(key) < 0.3, jnp.inf, hp["x"])

    failed = Population(sometimes, SPACE, replicates=4).evaluate(UNITS, IDS, KEY).value
    assert 0 < (~np.isfinite(failed)).sum() < 40, "a member with one failed replicate has failed"


def test_trained_states_are_those_that_were_evaluated(task) -> None:
    population = Population(task, SPACE)
    value = population.evaluate(UNITS, IDS, KEY).value
    rows = np.argsort(value)[:3]
    for row, state in zip(rows, population.states(UNITS[rows], IDS[rows], KEY)):
        again = task.evaluate(SPACE.from_unit(jnp.asarray(UNITS[row])), state)["loss"]
        np.testing.assert_allclose(again, value[row], rtol=1e-4)
    stacked = population.stacked_states(UNITS[rows], IDS[rows], KEY)
    assert stacked.params["w"].shape == (3, 5, 8)


def test_the_best_of_a_search_come_back_trained(task) -> None:
    result = jhpo.minimize(task, SPACE, jhpo.RandomSearch(16), budget=32)
    for best in result.top(2):
        hp = jax.tree.map(jnp.float32, best.params)
        np.testing.assert_allclose(task.evaluate(hp, best.state)["loss"], best.value, rtol=1e-3)


def test_too_little_memory_halves_the_chunk_and_says_so(task, caplog) -> None:
    free = Population(task, SPACE, chunk=32)
    expected = free.evaluate(UNITS, IDS, KEY).value
    need = next(iter(free.chunks.programs.values())).memory_analysis()
    # calls side by side need their own temporary arrays, and share the data
    own = free.chunks.threads * (need.temp_size_in_bytes + need.output_size_in_bytes)
    tight = Population(task, SPACE, chunk=32, memory=need.argument_size_in_bytes + int(0.7 * own))
    with caplog.at_level("WARNING", logger="jhpo.population"):
        value = tight.evaluate(UNITS, IDS, KEY).value
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert tight.layout["chunk"] <= 16
    assert "chunk reduced from 32" in tight.notices[0] and tight.notices[0] in caplog.text
    with pytest.raises(OutOfMemory, match="a single member does not fit"):
        values(task, memory=100)


def test_a_device_that_runs_out_of_memory_is_asked_for_less(monkeypatch) -> None:
    population = Population(noisy, SPACE, chunk=16)
    inner = population.chunks.all_rows

    def limited(program, units, ids):
        if population.chunks.size > 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
        return inner(program, units, ids)

    monkeypatch.setattr(population.chunks, "all_rows", limited)
    np.testing.assert_allclose(population.evaluate(UNITS, IDS, KEY).value, values(noisy), rtol=1e-6)
    assert population.chunks.size == 4 and len(population.notices) == 2
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError("no"))


def test_measured_chunks_are_kept(task) -> None:
    population = Population(task, SPACE, chunk="measure")
    value = population.evaluate(UNITS, IDS, KEY).value
    assert population.layout["chunk"] in population.chunks.timings and len(population.chunks.timings) >= 2
    again = Population(task, SPACE, chunk=population.layout["chunk"]).evaluate(UNITS, IDS, KEY).value
    np.testing.assert_array_equal(value, again)


def test_the_size_is_settled_by_the_members_and_the_cores() -> None:
    mesh = member_mesh(jax.local_devices()[:1])

    def settled(n, groups=1, member_bytes=28920, threads=2, replicates=1):
        chunks = Chunks(None, mesh, replicates, None)
        chunks.threads = threads
        chunks.settle(n, groups, lambda: member_bytes)
        return chunks.size

    assert settled(256) == 32 and settled(1024) == 32
    assert settled(96) == 24, "four calls of 24 for two cores, not three of 32"
    assert settled(20) == 24, "one call for a few members"
    assert settled(5) == 5
    assert settled(256, replicates=4) == 8
    assert settled(256, threads=1, member_bytes=8) == 256
    assert settled(100, groups=4) == 32
    assert preferred_chunk(1, "gpu") == LARGEST and preferred_chunk(2**40, "gpu") == SMALLEST
    assert free_memory(jax.local_devices()[0]) > 2**20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 0}, "chunk: expected an integer >= 1"),
        ({"chunk": "big"}, "chunk: expected an integer >= 1, None or 'measure'"),
        ({"replicates": 0}, "replicates"),
        ({"devices": []}, "devices: expected distinct JAX devices"),
        ({"devices": ["cpu"]}, "devices"),
        ({"memory": 0}, "memory"),
        ({"space": {"x": 1}}, "space: expected a jhpo.Space"),
        ({"trainable": 3}, "objective"),
    ],
)
def test_bad_arguments(options, message) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Population(**({"trainable": noisy, "space": SPACE} | options))


def test_bad_rows_and_objectives_are_refused_before_anything_compiles(count_compilations) -> None:
    with count_compilations() as seen:
        for units, ids in ((UNITS[:, :1], IDS), (UNITS[:0], IDS[:0]), (UNITS, IDS[:3])):
            with pytest.raises(InvalidArgument):
                values(noisy, units, ids)
        for objective, message in (
            (lambda hp: jnp.ones(2), "expected a real scalar"),
            (lambda hp: hp["nothing"], "KeyError"),
            (lambda hp: 1 / 0, "ZeroDivisionError"),
        ):
            with pytest.raises(InvalidArgument, match=message):
                values(objective)
    assert not any("evaluate" in name for name in seen.names)


def test_rows_ids_and_known_values_have_to_fit_together() -> None:
    population = jhpo.Population(lambda hp: hp["x"], Space({"x": Float(0.0, 1.0)}))
    units, key = np.array([[0.5], [0.25]]), jax.random.key(0)
    for ids in ([-1, 2], [0.5, 2.0], [0, 2**32]):
        with pytest.raises(InvalidArgument, match=r"ids: expected integers in \[0, 2\*\*32\), got"):
            population.evaluate(units, np.array(ids), key)
    for call in (population.states, population.stacked_states):
        with pytest.raises(InvalidArgument, match=r"values: expected an array \[2\], or None, got \(1,\)"):
            call(units, np.arange(2), key, values=[1.0])
    with pytest.raises(InvalidArgument, match=r"horizons: expected a number, or an array \[2\], got \(3,\)"):
        population.states(units, np.arange(2), key, horizons=np.ones(3))
