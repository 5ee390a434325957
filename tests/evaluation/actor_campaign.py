"""Ray actors killed at random moments: `benchmarks/reliability.py --only ray-functions`, in short `test_ray.py`."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil

import jhpo
from tests.study.studies import GREEDY, SPACE, assert_same, on_host

ACTORS = 3


class Slow:
    """A bowl that takes a moment, so that kills find it at work."""

    steps = 2

    def init(self, hp: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        return jnp.stack([hp["x"], hp["y"]]) + 0.1 * jax.random.normal(key, (2,))

    def step(self, hp: dict[str, jax.Array], state: jax.Array, t: jax.Array) -> jax.Array:
        return 0.9 * state

    def evaluate(self, hp: dict[str, jax.Array], state: jax.Array) -> jax.Array:
        jax.debug.callback(lambda _: time.sleep(0.1), state)
        return jnp.sum(state**2) + jnp.where(hp["k"] == 0, 1.0, 0.0)


_STARTS = 5


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine. Ray gives up a start after some 15 seconds; on a busy machine another succeeds."""
    import ray

    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default, which starves on a busy machine
    for start in range(1, _STARTS + 1):
        try:
            ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False, object_store_memory=100 * 2**20)
            break
        except Exception:
            ray.shutdown()
            if start == _STARTS:
                raise
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def killing(title: str) -> Iterator[list[int]]:
    """A context in which an actor of this process's own cluster is killed now and then; yields those killed."""
    killed: list[int] = []
    ended, random = threading.Event(), np.random.default_rng(0)

    def kill() -> None:
        while not ended.wait(random.uniform(0.1, 0.6)):
            own = psutil.Process().children(recursive=True)
            with contextlib.suppress(psutil.Error):
                at_work = [p for p in own if title in " ".join(p.cmdline())]
                # only when all are there again: a member that loses four actors in a row is given up, as it should be
                if len(at_work) == ACTORS:
                    chosen = at_work[int(random.integers(len(at_work)))]
                    os.kill(chosen.pid, signal.SIGKILL)
                    killed.append(chosen.pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def _repeated(
    folder: Path,
    kills: int,
    title: str,
    optimize: Callable[[jhpo.Study, int], object],
    calm: Callable[[jhpo.Study], object],
) -> tuple[int, int]:
    """Studies until so many actors were killed, each stopped half way and resumed; kills and studies."""
    made = studies = 0
    while made < kills:
        path = folder / f"{title}{studies}.db"
        with killing(title) as killed:
            with jhpo.Study(SPACE, GREEDY, path, seed=studies) as study:
                optimize(study, 16)
            with jhpo.Study.load(path) as study:
                optimize(study, 32)
        undisturbed = jhpo.Study(SPACE, GREEDY, seed=studies)
        calm(undisturbed)
        with jhpo.Study.load(path, read_only=True) as study:
            assert len(study) == study.evaluations == 32
            assert_same(study, undisturbed)
        made, studies = made + len(killed), studies + 1
    return made, studies


def of_functions(folder: Path, kills: int) -> dict[str, Any]:
    """Host functions: every trial ends once, in a study that equals one without kills."""
    (folder / "ended").mkdir()

    def slow(params: Any, seed: int) -> float:
        time.sleep(0.3)
        (folder / "ended" / f"{seed}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return on_host(params)

    objective = jhpo.host(slow, workers=ACTORS, kind="ray", resources={"num_cpus": 0.5})
    made, studies = _repeated(
        folder, kills, "ray::_Worker",
        lambda study, budget: study.optimize(objective, budget=budget),
        lambda study: study.optimize(jhpo.host(on_host), budget=32),
    )  # fmt: skip
    ended = Counter(path.name.split("-")[0] for path in (folder / "ended").iterdir())
    again = sum(ended.values()) - len(ended)  # killed between the end of the function and that of the call
    return {"kills": made, "studies": studies, "trials": len(ended), "evaluated again": again}


def of_populations(folder: Path, kills: int) -> dict[str, Any]:
    """Trainables: studies equal those of one device."""
    slow, chunk = Slow(), 4
    made, studies = _repeated(
        folder, kills, "ray::_Trainer",
        lambda study, budget: study.optimize(
            slow, budget=budget, chunk=chunk, devices=jhpo.RayActors(ACTORS, {"num_cpus": 0.5})
        ),
        lambda study: study.optimize(slow, budget=32, chunk=chunk),
    )  # fmt: skip
    return {"kills": made, "studies": studies, "trials": 32 * studies}
