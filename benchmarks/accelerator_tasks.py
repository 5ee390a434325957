"""What accelerator.py trains and searches: digits networks, and how a call is timed."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jhpo

TRAIN = 1280
SPACE = jhpo.Space({"lr": jhpo.Float(1e-4, 1e-1, log=True), "b1": jhpo.Float(0.5, 0.99, scale="reverse_log")})


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray, str]:
    """float32[1797, 64], int32[1797], where they come from: scikit-learn's digits, or a stand-in of their shape."""
    spec = importlib.util.find_spec("sklearn")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "datasets/data/digits.csv.gz"
    if path is not None and path.exists():
        table = np.random.default_rng(0).permutation(np.loadtxt(path, np.float32, delimiter=","))
        return table[:, :64] / 16, table[:, 64].astype(np.int32), "scikit-learn's digits"
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 1797).astype(np.int32)
    ink = rng.uniform(0, 16, (10, 64))[y] + rng.normal(0, 5, (1797, 64))
    return np.clip(ink.round(), 0, 16).astype(np.float32) / 16, y, "made: ten patterns with noise (no scikit-learn)"


def _init(hidden: int, key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
    first, second = jax.random.split(key)
    return {
        "w1": jax.random.normal(first, (64, hidden)) * (2 / 64) ** 0.5,
        "b1": jnp.zeros((hidden,)),
        "w2": jax.random.normal(second, (hidden, 10)) * (2 / hidden) ** 0.5,
        "b2": jnp.zeros((10,)),
    }


def _apply(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def mlp(steps: int, *, hidden: int = 32, independent: bool = False, tx: Any = None) -> Any:
    """A 64-hidden-10 network on digits, batches of 64."""
    x, y, _ = digits()
    return jhpo.supervised(
        (functools.partial(_init, hidden), _apply),
        tx or (lambda hp: optax.adam(hp["lr"], b1=hp["b1"])),
        "classification",
        train=(x[:TRAIN], y[:TRAIN]),
        valid=(x[TRAIN:], y[TRAIN:]),
        batch_size=64,
        steps=steps,
        independent_batches=independent,
    )


def cnn(steps: int, channels: int) -> Any:
    """Two convolutions and a linear layer on 8 x 8 images."""
    from flax import linen as nn

    class CNN(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for stride in (1, 2):
                x = nn.relu(nn.Conv(channels, (3, 3), (stride, stride))(x))
            return nn.Dense(10)(x.reshape(len(x), -1))

    x, y, _ = digits()
    x = x.reshape(-1, 8, 8, 1)
    return jhpo.supervised(
        CNN(),
        lambda hp: optax.adam(hp["lr"], b1=hp["b1"]),
        "classification",
        train=(x[:TRAIN], y[:TRAIN]),
        valid=(x[TRAIN:], y[TRAIN:]),
        batch_size=64,
        steps=steps,
    )


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of one call until its arrays are there, and what it gave."""
    start = time.perf_counter()
    out = jax.block_until_ready(call())
    return time.perf_counter() - start, out


def best(call: Callable[[], Any], repeats: int, room: float) -> float:
    """The shortest of some calls, and of fewer (but one) when ``room`` seconds are over."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < repeats and sum(seconds) + min(seconds) < room):
        seconds.append(timed(call)[0])
    return min(seconds)


def memory_mib() -> dict[str, float | None]:
    """MiB in use on the device now, and at the most since the process began; None where it does not tell."""
    stats = jax.devices()[0].memory_stats() or {}
    mib = lambda name: round(stats[name] / 2**20, 1) if name in stats else None  # noqa: E731
    return {"in_use_MiB": mib("bytes_in_use"), "peak_MiB": mib("peak_bytes_in_use")}


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, float]]:
    """A jitted function compiled for some arguments, with its seconds of compilation and its temporary memory."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    facts = {"compile_s": round(time.perf_counter() - start, 2)}
    analysis = program.memory_analysis()
    if analysis is not None:
        facts["temporary_MiB"] = round(analysis.temp_size_in_bytes / 2**20, 2)
    return program, facts
