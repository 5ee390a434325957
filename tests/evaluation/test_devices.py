"""The population axis over eight (virtual) devices: the same results as on one, whatever the number of members."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.process.switches import config
from jhpo.programs import devices
from jhpo.search.driver import Driver

SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})

PROGRAM = """
import contextlib
import jax, jax.numpy as jnp, numpy as np, optax
import jhpo
from jhpo.programs.devices import member_mesh
from jhpo.keys import trial_keys
from jhpo.evaluation.members import evaluate_units
from jhpo.training.objective import as_trainable

assert len(jax.local_devices()) == 8
rng = np.random.default_rng(0)
x = rng.normal(size=(48, 5)).astype(np.float32)
y = (x[:, 0] > 0).astype(np.int32)
model = (lambda key, x: {"w": 0.3 * jax.random.normal(key, (5, 2))}, lambda p, x: x @ p["w"])
task = jhpo.supervised(model, lambda hp: optax.adam(hp["lr"]), train=(x[:32], y[:32]), valid=(x[32:], y[32:]),
                       batch_size=8, steps=20)
space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})
root, key = jax.random.key(0), jax.random.key(1)
for n in (40, 3):  # five a device; fewer members than devices
    units, ids = rng.random((n, 1)), np.arange(n)
    many = jhpo.Population(task, space, replicates=2)
    one = jhpo.Population(task, space, replicates=2, devices=jax.local_devices()[:1])
    a, b = (p.evaluate(units, ids, root) for p in (many, one))
    assert many.layout["devices"] == 8 and one.layout["devices"] == 1
    np.testing.assert_allclose(a.value, b.value, rtol=1e-5)
    np.testing.assert_allclose(a.variance, b.variance, rtol=1e-3, atol=1e-9)
    for program in many.chunks.programs.values():
        text = program.as_text()
        assert not any(word in text for word in ("all-reduce", "all-gather", "collective-permute"))
        shards = program.output_shardings.value
        assert len(shards.device_set) == 8 and not shards.is_fully_replicated
states = many.stacked_states(units, ids, root)
assert states.params["w"].shape == (3, 5, 2)

# a whole search, and the members of a pure run sharded by its caller
best = [jhpo.minimize(task, space, jhpo.PSO(16), budget=64, devices=d).value for d in (None, jax.local_devices()[:1])]
np.testing.assert_allclose(*best, rtol=1e-4)
units, ids = jnp.asarray(rng.random((16, 1)), jnp.float32), jnp.arange(16)
pure = jax.jit(lambda u, i: evaluate_units(as_trainable(task), space, u, trial_keys(root, i)).value)
alone = pure(units, ids)
explicit = jax.make_mesh((8,), ("members",), axis_types=(jax.sharding.AxisType.Explicit,))
for mesh, context in ((member_mesh(), contextlib.nullcontext), (explicit, jax.set_mesh)):
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("members"))
    with context(mesh):  # JAX wants an explicit mesh there
        sharded = pure(*jax.device_put((units, ids), rows))
    assert len(sharded.sharding.device_set) == 8
    np.testing.assert_allclose(sharded, alone, rtol=1e-5)

# one member; the device of jax.default_device, for values and for states; nothing is lost if the data are elsewhere
there, (unit, one_id) = jax.local_devices()[3], (rng.random((1, 1)), np.arange(1))
np.testing.assert_allclose(many.evaluate(unit, one_id, root).value, one.evaluate(unit, one_id, root).value, rtol=1e-5)
with jax.default_device(there):
    chosen = jhpo.Population(task, space, replicates=2)
    a, b = (p.evaluate(unit, one_id, root).value for p in (chosen, one))
    np.testing.assert_allclose(a, b, rtol=1e-5)
elsewhere = jhpo.Population(jax.device_put(task, jax.local_devices()[5]), space, devices=[there])
for population in (chosen, elsewhere):
    value = population.evaluate(unit, one_id, root).value
    (state,) = population.states(unit, one_id, root, value)
    assert population.layout["devices"] == 1 and state.params["w"].devices() == {there}
print("equal")
"""


MESH = """
import jax
import jhpo

space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
strategies = jhpo.RandomSearch(8), jhpo.CMAES(8), jhpo.BayesOpt(batch=8)
bowl = lambda hp: (hp["x"] - 0.5) ** 2
found = [[] for _ in strategies]  # alone comes last: programs that are there already see no mesh
for kind in (jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit):
    with jax.set_mesh(jax.make_mesh((8,), ("data",), axis_types=(kind,))):
        for strategy, values in zip(strategies, found):
            study = jhpo.Study(space, strategy, seed=1)
            study.optimize(bowl, budget=24)
            values += [study.best.value, jhpo.minimize(bowl, space, strategy, budget=24, seed=1).value]
        centre = jax.numpy.zeros(8)  # of the caller's mesh
        lowest = jax.vmap(lambda x: x + jhpo.minimize(bowl, space, strategies[0], budget=24, seed=1).value)(centre)
for strategy, values in zip(strategies, found):
    assert set(values) == {jhpo.minimize(bowl, space, strategy, budget=24, seed=1).value}, values
assert (lowest == jax.numpy.float32(found[0][0])).all(), lowest
try:
    jhpo.minimize(lambda hp: ((hp["x"] - centre) ** 2).sum(), space, budget=8)
except jhpo.InvalidArgument as error:
    assert "made under jax.set_mesh" in str(error), error
else:
    raise AssertionError("an array of explicit axes in an objective")
print("equal")
"""


@pytest.mark.parametrize(
    "program", [pytest.param(PROGRAM, marks=pytest.mark.slow, id="one"), pytest.param(MESH, id="mesh")]
)
def test_eight_devices_give_what_one_gives_under_a_mesh_of_the_callers_too(program: str) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "equal"


def other_platform(name: str = "metal") -> jax.Device:
    """A device of another platform than the CPU, as far as its name goes."""
    return mock.Mock(spec=jax.Device, platform=name)


def test_devices_of_two_platforms_are_refused() -> None:
    with pytest.raises(jhpo.InvalidArgument, match="devices: expected devices of one platform"):
        devices.member_mesh([jax.local_devices()[0], other_platform()])


@pytest.fixture
def no_float64(monkeypatch: pytest.MonkeyPatch):
    """A CPU that is not known to have float64, and whose compiler refuses it as those of such devices do."""

    def refuses() -> jax.Array:
        raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: type f64 is not supported")

    devices.has_float64.cache_clear()
    monkeypatch.setattr(devices, "_FLOAT64", ())
    monkeypatch.setattr(devices, "_probe", refuses)
    yield
    devices.has_float64.cache_clear()


def test_a_device_of_an_unknown_platform_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_FLOAT64", ())
    devices.has_float64.cache_clear()
    assert devices.has_float64(jax.local_devices()[0])


def test_float64_asked_of_a_device_that_has_none(no_float64) -> None:
    jhpo.Population(lambda hp: hp["lr"], SPACE)
    Driver(jhpo.PSO(4), SPACE, jax.random.key(0))
    with pytest.raises(jhpo.InvalidArgument, match=r"devices: expected one with float64 for BayesOpt.*default_device"):
        jhpo.minimize(lambda hp: hp["lr"], SPACE, jhpo.BayesOpt(), budget=4)
    with jax.enable_x64(True), pytest.raises(jhpo.InvalidArgument, match=r"float64 for jax_enable_x64.*in float32"):
        jhpo.Population(lambda hp: hp["lr"], SPACE)


def test_small_programs_run_beside_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose default is an accelerator; here only in name."""
    cpu = jax.local_devices()[0]
    with devices.beside_the_models():
        assert config.jax_default_device is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with devices.beside_the_models():
        assert config.jax_default_device == cpu and devices.default_devices() == [cpu]
    with Driver(jhpo.BayesOpt(), SPACE, jax.random.key(0)).precision():
        assert config.jax_default_device == cpu and jnp.zeros(()).dtype == jnp.float64
    for strategy in (jhpo.PSO(4), jhpo.RandomSearch()):
        with Driver(strategy, SPACE, jax.random.key(0)).precision():
            assert config.jax_default_device is None
    with jax.default_device("cpu"), devices.beside_the_models():
        assert config.jax_default_device == "cpu" and devices.default_devices() == [cpu]
    monkeypatch.setattr(jax, "local_devices", mock.Mock(side_effect=RuntimeError("no backend cpu")))
    with devices.beside_the_models():
        assert config.jax_default_device is None


def test_few_members_on_an_accelerator_are_remarked_upon(caplog: pytest.LogCaptureFixture) -> None:
    class Descent:
        steps = 3

        def init(self, hp, key):
            return jnp.ones((256, 256))

        def step(self, hp, w, t):
            return w - hp["lr"] * w

        def evaluate(self, hp, w):
            return jnp.sum(w)

    def evaluated(trainable, n: int, platform: str):
        population = jhpo.Population(trainable, SPACE)
        fake = mock.Mock(size=1, devices=np.array([other_platform(platform)], object))
        real = population.mesh
        for _ in range(2):
            population.mesh = fake
            population.remark(np.full((n, 1), 0.5, np.float32))
            population.mesh = real
            population.evaluate(np.full((n, 1), 0.5), np.arange(n), jax.random.key(0))
        return population.notices

    with caplog.at_level(logging.WARNING):
        (said,) = evaluated(Descent(), 1, "gpu")
    assert "a generation of 1 members of 256.0 KiB" in said and "64 times as many" in said and said in caplog.text
    assert not evaluated(Descent(), 8, "gpu") and not evaluated(Descent(), 1, "cpu")
    assert not evaluated(lambda hp: hp["lr"], 1, "gpu")


def test_files_that_were_read_do_not_count_as_used_memory(tmp_path, monkeypatch) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:  24683568 kB\nMemFree:     102400 kB\nMemAvailable:   20480000 kB\n")
    monkeypatch.setattr(devices, "MEMINFO", told)
    assert devices.host_memory() == 20480000 * 2**10
    assert devices.free_memory(jax.local_devices(backend="cpu")[0]) == 10240000 * 2**10
    told.write_text("MemTotal:  24683568 kB\n")  # an old kernel
    assert devices.host_memory() > 2**20
    told.unlink()  # another operating system
    assert devices.host_memory() > 2**20
