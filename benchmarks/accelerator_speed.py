"""Figures of accelerator.py: each part is a generator of lines that are written as they come."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from accelerator_tasks import SPACE, best, compiled, digits, memory_mib, mlp, timed
from accelerator_tasks import cnn as cnn_task

import jhpo

Lines = Iterator[dict[str, Any]]
DIM = 20
BOX = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(DIM,))})
SMALL_BOX = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(4,))})


def sphere(hp: dict[str, jax.Array]) -> jax.Array:
    """A bowl, nearly free of charge."""
    return jnp.sum((hp["x"] - 0.3) ** 2)


def device(run: Any) -> Lines:
    """What it is, and its speed at a copy, at small dependent kernels and at products."""
    chip = jax.devices()[0]
    yield {
        "what": "machine",
        "device": chip.device_kind,
        "platform": chip.platform,
        "devices": len(jax.devices()),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "data": digits()[2],
        "limit_MiB": (chip.memory_stats() or {}).get("bytes_limit", 0) // 2**20 or None,
        "jax_enable_x64": bool(jax.config.jax_enable_x64),
        "tiny": run.tiny,
    }
    n = 2**18 if run.tiny else 2**28
    array = jnp.zeros(n)
    copy, facts = compiled(lambda a: a + 1.0, array)
    seconds = best(lambda: copy(array), 5, 5)
    yield {"what": "copy", "GB_a_second": round(8 * n / seconds / 1e9, 1), "array_MiB": n // 2**18, **facts}
    trips = 200 if run.tiny else 5000
    # two products a trip, that cannot be fused with anything: what a small kernel costs
    loop, facts = compiled(lambda a: jax.lax.fori_loop(0, trips, lambda i, a: (a @ a) * 0.1 + a, a), jnp.eye(32))
    small = best(lambda: loop(jnp.eye(32)), 3, 5)
    yield {"what": "small dependent kernels", "us_a_trip": round(1e6 * small / trips, 2), **facts}
    size = 256 if run.tiny else 8192
    for name, dtype, precision in (
        ("f32", "float32", "default"),
        ("f32 exact", "float32", "highest"),
        ("bf16", "bfloat16", "default"),
    ):
        x = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
        product, facts = compiled(lambda a, p=precision: jnp.matmul(a, a, precision=p), x)
        seconds = best(lambda f=product, x=x: f(x), 3, 5)
        yield {"what": f"product {name}", "TFLOP_a_second": round(2 * size**3 / seconds / 1e12, 2), **facts}


def populations(run: Any) -> Lines:
    """Digits networks, 200 Adam steps of batch 64: populations of three sizes."""
    steps, counts = (5, (8, 16)) if run.tiny else (200, (256, 4096, 65536))
    seconds: dict[int, float] = {}
    for independent in (False, True):
        for count in counts if not independent else counts[1:2]:
            evaluator = jhpo.Population(mlp(steps, independent=independent), SPACE)
            units, ids = np.random.default_rng(1).random((count, 2)), np.arange(count)
            call = lambda e=evaluator, u=units, i=ids: e.evaluate(u, i, jax.random.key(0)).value  # noqa: E731
            first, value = timed(call)
            took = best(call, 3, min(run.left() / 3, 20))
            if not independent:
                seconds[count] = took
            yield {
                "what": f"{count} MLPs, {'own' if independent else 'shared'} batches",
                "seconds": round(took, 4),
                "ms_a_model": round(1e3 * took / count, 5),
                "first_s": round(first, 2),
                "compile_s": round(evaluator.compile_seconds, 2),
                "chunk": evaluator.layout["chunk"],
                "notices": list(evaluator.notices) or None,
                "best_loss": float(np.nanmin(value)),
                "failed_members": int((~np.isfinite(value)).sum()),
                "steps": steps,
                **memory_mib(),
            }
    yield {
        "what": f"time of {counts[1]} MLPs over that of {counts[0]}",
        "times": round(seconds[counts[1]] / seconds[counts[0]], 2),
        "target": "at most 3",
    }


def swarms(run: Any) -> Lines:
    """Swarms in 20 dimensions: bytes a particle over the bandwidth of a copy of the same size in this run."""
    import swarm_speed

    sizes = {1000: 5, 2000: 5} if run.tiny else {100_000: 100, 1_000_000: 30, 10_000_000: 10}
    for n, generations in sizes.items():
        band = swarm_speed.bandwidth(n, 3)
        for rule in ("gbest", "spso2006"):
            rate = swarm_speed.jhpo_rate(rule, n, generations, 3)
            yield {
                "what": f"kernel: {rule}, {n} particles x {DIM}",
                "us_a_generation": round(1e6 * n * DIM / rate, 1),
                "M_particle_dimensions_a_second": round(rate / 1e6, 1),
                "share_of_copy": round(rate * swarm_speed.BYTES / band, 3),
                "copy_GB_a_second": round(band / 1e9, 1),
                "target": "0.5 at 10,000,000" if rule == "gbest" else None,
            }
        strategy = jhpo.PSO(n)
        call = lambda s=strategy, g=generations: jhpo.run(s, sphere, BOX, g, jax.random.key(0))[1].value.min(axis=1)  # noqa: E731
        first, _ = timed(call)
        took = best(call, 3, run.left() / 3)
        yield {
            "what": f"jhpo.run(PSO({n})), {generations} generations",
            "us_a_generation": round(1e6 * took / generations, 1),
            "first_s": round(first, 2),
            **memory_mib(),
        }


def hypergradients(run: Any) -> Lines:
    """Gradients through training: one, 32 and 1,024 members side by side, by mode."""
    from jhpo.gradients import Spec, estimate

    steps, counts = (4, (1, 2)) if run.tiny else (100, (1, 32, 1024))
    task = mlp(steps, tx=lambda hp: optax.sgd(hp["lr"], hp["momentum"]))
    hp, key = {"lr": 0.05, "momentum": 0.9}, jax.random.key(0)
    first, found = timed(lambda: jhpo.hypergrad(task, hp, key))
    again = best(lambda: jhpo.hypergrad(task, hp, key).value, 3, 10)
    yield {
        "what": "jhpo.hypergrad, auto",
        "method": found.diagnostics.method,
        "seconds": round(again, 4),
        "first_s": round(first, 2),
        "grad": {k: float(v) for k, v in found.grad.items()},
    }
    # what jhpo.hypergrad compiles, for several members: below the public API
    for name, spec in (
        ("one level", Spec("reverse", levels=1)),
        ("forward", Spec("forward")),
        ("two levels", Spec("reverse", levels=2)),
    ):
        alone = None
        for count in counts:
            many = {n: jnp.float32(v) * jnp.linspace(0.5, 1.0, count) for n, v in hp.items()}
            program, facts = compiled(
                jax.vmap(lambda task, hp, spec=spec: estimate(task, hp, key, spec)[:2], (None, 0)), task, many
            )
            took = best(lambda p=program, m=many: p(task, m), 3, min(run.left() / 2, 10))
            alone = took if alone is None else alone
            yield {
                "what": f"{count} hypergradients, {name}",
                "seconds": round(took, 4),
                "times_one": round(took / alone, 2),
                "target": "at most 3 times one" if count == 32 else None,
                "steps": steps,
                **facts,
            }
            if run.left() < 5:
                yield {"what": f"{name}: larger populations", "not_run": "the time of this part is used up"}
                return


def studies(run: Any) -> Lines:
    """Whole Bayesian studies under vmap."""
    trials, counts = (6, (1, 2)) if run.tiny else (50, (1, 64, 1000))
    alone = None
    for count in counts:
        if alone is not None and alone * (1 if count <= 64 else 3) > run.left():
            yield {"what": f"{count} studies", "not_run": f"one took {alone:.1f} s, {run.left():.1f} s are left"}
            continue
        keys = jax.random.split(jax.random.key(0), count)
        search = jax.vmap(lambda key: jhpo.run(jhpo.BayesOpt(), sphere, SMALL_BOX, trials, key)[1].value.min())
        program, facts = compiled(search, keys)
        took, value = timed(lambda p=program, k=keys: p(k))
        if took < run.left() / 4:
            took = min(took, timed(lambda p=program, k=keys: p(k))[0])
        alone = took if alone is None else alone
        yield {
            "what": f"{count} BayesOpt studies of {trials} trials, 4 dimensions",
            "seconds": round(took, 3),
            "ms_a_suggestion_and_study": round(1e3 * took / trials / count, 4),
            "times_one": round(took / alone, 2),
            "worst_of_the_best": float(value.max()),
            **facts,
            **memory_mib(),
        }


def evolution(run: Any) -> Lines:
    """CMA-ES and differential evolution with large populations."""
    n, generations = (64, 5) if run.tiny else (10_000, 100)
    for strategy in (jhpo.CMAES(population=n), jhpo.DifferentialEvolution(population=n), jhpo.SobolSearch(n)):
        call = lambda s=strategy: jhpo.run(s, sphere, BOX, generations, jax.random.key(0))[1].value.min()  # noqa: E731
        first, value = timed(call)
        took = best(call, 3, run.left() / 4)
        yield {
            "what": f"{type(strategy).__name__}({n}), {generations} generations",
            "us_a_generation": round(1e6 * took / generations, 1),
            "first_s": round(first, 2),
            "best": float(value),
        }


def suggestions(run: Any) -> Lines:
    """A suggestion of BayesOpt with many known trials, as a study on the host asks for it (in float64)."""
    space = jhpo.Space({f"x{i}": jhpo.Float(0.0, 1.0) for i in range(8)})
    for n in (10,) if run.tiny else (100, 500, 1000):
        study = jhpo.Study(space, jhpo.BayesOpt(), seed=0)
        points = np.random.default_rng(0).random((n, 8))
        study.absorb([dict(zip(space.names, map(float, p))) for p in points], ((points - 0.3) ** 2).sum(axis=1))
        seconds = []
        for _ in range(3 if run.tiny else 7):  # the first two compile: ask alone, and tell with ask
            start = time.perf_counter()
            (trial,) = study.ask(1)
            seconds.append(time.perf_counter() - start)
            study.tell(trial, float(sum((v - 0.3) ** 2 for v in trial.params.values())))
        yield {
            "what": f"BayesOpt suggestion, {n} known trials, 8 dimensions",
            "median_s": round(float(np.median(seconds[2:])), 4),
            "largest_s": round(max(seconds[2:]), 4),
            "first_two_s": round(sum(seconds[:2]), 2),
        }


def cnn(run: Any) -> Lines:
    """Convolutional networks: 8 x 8 images, two layers of 8 channels."""
    steps, counts = (2, (4,)) if run.tiny else (100, (64, 512))
    for count in counts:
        evaluator = jhpo.Population(cnn_task(steps, 8), SPACE)
        units, ids = np.random.default_rng(1).random((count, 2)), np.arange(count)
        call = lambda e=evaluator, u=units, i=ids: e.evaluate(u, i, jax.random.key(0)).value  # noqa: E731
        first, value = timed(call)
        took = best(call, 2, run.left() / 3)
        yield {
            "what": f"{count} CNNs",
            "seconds": round(took, 4),
            "ms_a_model": round(1e3 * took / count, 4),
            "first_s": round(first, 2),
            "compile_s": round(evaluator.compile_seconds, 2),
            "chunk": evaluator.layout["chunk"],
            "best_loss": float(np.nanmin(value)),
            "steps": steps,
        }


def botorch(run: Any) -> Lines:
    """One study by BoTorch on the CPU of this machine, for comparison with `studies`."""
    import importlib.util

    if importlib.util.find_spec("botorch") is None:
        yield {"what": "BoTorch", "not_run": "not installed"}
        return
    trials = 5 if run.tiny else 50
    script = str(Path(__file__).with_name("accelerator_botorch.py"))
    done = subprocess.run(
        [sys.executable, script, str(trials), str(run.left() - 5)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    count, seconds = done.stdout.split()
    yield {"what": f"BoTorch, one study of {trials} trials on the CPU", "trials": int(count), "seconds": float(seconds)}
