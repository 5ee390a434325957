"""The population axis over 1, 2, 4, 8 devices and over two processes of `jax.distributed`, with one writer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

import jhpo
from tests.evaluation.pairs import outputs

TASK = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax
import jhpo

rng = np.random.default_rng(0)
x = rng.normal(size=(48, 5)).astype(np.float32)
y = (x[:, 0] > 0).astype(np.int32)
model = (lambda key, x: {"w": 0.3 * jax.random.normal(key, (5, 2))}, lambda p, x: x @ p["w"])
task = jhpo.supervised(model, lambda hp: optax.adam(hp["lr"]), train=(x, y), batch_size=8, steps=20)
space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})
"""

DEVICES = """
root, units, ids = jax.random.key(0), rng.random((13, 1)), np.arange(13)
values = []
for count in (1, 2, 4, 8):  # 13 members: padded on each
    population = jhpo.Population(task, space, folds=2, devices=jax.local_devices()[:count])
    values.append(population.evaluate(units, ids, root).value)
    assert population.layout["devices"] == count
for other in values[1:]:
    np.testing.assert_allclose(other, values[0], rtol=1e-5)
halving = jhpo.SuccessiveHalving(8, eta=2, min_steps=5)
each = [jhpo.minimize(task, space, halving, budget=8, folds=2, devices=jax.local_devices()[:n]) for n in (1, 4)]
np.testing.assert_allclose(*(r.history.value for r in each), rtol=1e-5)
print("equal")
"""

PROCESSES = """
number, port, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
everywhere = jax.devices()
assert len(everywhere) == 4 and len(jax.local_devices()) == 2
strategy = jhpo.PSO(6)
alone = jhpo.minimize(task, space, strategy, budget=12, folds=2, seed=1, devices=jax.local_devices()[:1])
spread = jhpo.minimize(task, space, strategy, budget=12, folds=2, seed=1, devices=everywhere)
np.testing.assert_allclose(spread.history.value, alone.history.value, rtol=1e-5)
np.testing.assert_allclose(spread.top(1)[0].state.params["w"], alone.top(1)[0].state.params["w"], rtol=1e-4)

with jhpo.Study(space, strategy, path, seed=1, folds=2, shared=True) as study:
    study.optimize(task, budget=6, devices=everywhere)
with jhpo.Study.load(path, shared=True) as study:
    assert len(study) == 6
    study.optimize(task, budget=12, devices=everywhere)
    values = study.history.table.value.array[:12]
np.testing.assert_allclose(values, spread.history.value, rtol=1e-6)

# members that are paused: the states stay spread over the processes
halving = jhpo.SuccessiveHalving(8, eta=2, min_steps=5)
each = [jhpo.minimize(task, space, halving, budget=8, folds=2, devices=d)
        for d in (everywhere, jax.local_devices()[:1])]
np.testing.assert_allclose(*(r.history.value for r in each), rtol=1e-5)
np.testing.assert_allclose(*(np.asarray(r.top(1)[0].state.params["w"]) for r in each), rtol=1e-4)

# members that are frozen and thawed are on one device, of each process its own
thaw = jhpo.FreezeThaw(4, interval=5, proposer=None)
each = [jhpo.minimize(task, space, thaw, budget=12, folds=2, devices=d) for d in (everywhere, jax.local_devices()[:1])]
np.testing.assert_allclose(*(r.history.value for r in each), rtol=1e-5)
assert each[0].top(1)[0].state.params["w"].shape[-2:] == (5, 2)

# what is not the same search in all processes is said
try:
    jhpo.minimize(task, space, strategy, budget=6, folds=2, seed=number, devices=everywhere)
except jhpo.InvalidArgument as error:
    assert "the same search in all processes" in str(error)
else:
    raise AssertionError("another seed in each process")

# what process 0 cannot open stops them all
try:
    jhpo.Study(space, strategy, path, seed=1, folds=2, shared=True)
except jhpo.StorageError as error:
    print("refused", error)
print("values", values.tolist())
"""
START = """
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize("localhost:" + sys.argv[2], 2, int(sys.argv[1]))
"""


def environment(devices: int) -> dict[str, str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


@pytest.mark.slow
def test_any_number_of_devices_gives_the_same_results() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TASK + DEVICES], env=environment(8), capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "equal"


@pytest.mark.slow
def test_two_processes_train_one_population_and_one_writes(tmp_path) -> None:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = str(found.getsockname()[1])
    path = tmp_path / "study.db"
    program = "import sys\n" + START + TASK + PROCESSES
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(number), port, str(path)],
            env=environment(2), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    # the library that connects the processes prints too
    lines = [[line for line in out.splitlines() if line.startswith(("refused", "values"))] for out in outputs(running)]
    assert lines[0][-1] == lines[1][-1] and lines[0][-1].startswith("values")
    assert "holds a study already" in lines[0][0] and "process 0 could not open the study" in lines[1][0]
    with jhpo.Study.load(path, read_only=True) as study:
        stored = study.history.table.value.array[: len(study)]
    np.testing.assert_array_equal(stored, [float(v) for v in lines[0][-1].removeprefix("values [")[:-1].split(",")])
