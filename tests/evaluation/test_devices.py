"""The population axis over eight (virtual) devices: the same results as on one, whatever the number of members."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import contextlib
import jax, jax.numpy as jnp, numpy as np, optax
import jhpo
from jhpo.devices import member_mesh
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
print("equal")
"""


def test_eight_devices_give_what_one_gives() -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "equal"
