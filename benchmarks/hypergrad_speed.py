"""`jhpo.hypergrad` beside the gradient one writes by hand: calls after the first, and the first.

    python benchmarks/hypergrad_speed.py calls [--steps 200 2000] [--numbers 2 10] [--memory 4194304]
    python benchmarks/hypergrad_speed.py first [--numbers 2 10]

The network is `jhpo.supervised` on scikit-learn's digits under AdamW, with two hyperparameters (rate, weight decay) or
ten (nine knots of the rate). By hand is a scan over the trainable's own steps, which use `mixed_grad` and so are faster
in reverse mode than with `jax.grad`, under `jax.jit(jax.value_and_grad(train))` and, forward, under a vmapped
`jax.jvp`. Calls are taken in turns in one process, each with other hyperparameters, and the best of them counts; by
hand counts the faster one whose temporary memory is within the limit. First calls (tracing, compiling and running)
are taken in processes of their own without any cache of programs, and CPU seconds count: the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

import jhpo

KEY = jax.random.key(0)


def problem(steps: int, numbers: int, hidden: int = 32) -> tuple[Any, dict[str, jax.Array]]:
    """The trainable and its hyperparameters."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype(np.float32), y.astype(np.int32)

    def init(key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
        k1, k2 = jax.random.split(key)
        a, c = jax.random.normal(k1, (64, hidden)) / 8, jax.random.normal(k2, (hidden, 10)) / 6
        return {"a": a, "b": jnp.zeros(hidden), "c": c, "d": jnp.zeros(10)}

    def tx(hp: dict[str, jax.Array]) -> optax.GradientTransformation:
        rate = hp["lr"] if numbers == 2 else jhpo.knots(hp["lr"], steps, "linear")
        return optax.adamw(rate, weight_decay=hp["wd"], eps_root=1e-8)

    model = (init, lambda p, x: jnp.tanh(x @ p["a"] + p["b"][None]) @ p["c"] + p["d"][None])
    data = {"train": (x[:1200], y[:1200]), "valid": (x[1200:1500], y[1200:1500])}
    task = jhpo.supervised(model, tx, batch_size=64, steps=steps, **data)
    rate = jnp.float32(1e-3) if numbers == 2 else jnp.full((numbers - 1,), 1e-3, jnp.float32)
    return task, {"lr": rate, "wd": jnp.float32(1e-3)}


def by_hand(task: Any) -> dict[str, Callable[..., Any]]:
    """Value and gradient as one would write them."""

    def train(hp: Any) -> jax.Array:
        step = lambda state, t: (task.step(hp, state, t), None)  # noqa: E731
        state = jax.lax.scan(step, task.init(hp, KEY), jnp.arange(task.steps))[0]
        out = task.evaluate(hp, state)
        return out["loss"] if isinstance(out, dict) else out

    def forward(hp: Any) -> tuple[jax.Array, Any]:
        flat, back = jax.flatten_util.ravel_pytree(hp)
        along = lambda d: jax.jvp(lambda x: train(back(x)), (flat,), (d,))  # noqa: E731
        value, grad = jax.vmap(along, out_axes=(None, 0))(jnp.eye(flat.size))
        return value, back(grad)

    return {"reverse": jax.jit(jax.value_and_grad(train)), "forward": jax.jit(forward)}


def other(hp: Any, i: int) -> Any:
    return jax.tree.map(lambda x: x * (1 + 0.01 * i), hp)


def calls(steps: int, numbers: int, memory: int | None, seconds: float, hidden: int = 32) -> dict[str, Any]:
    """Milliseconds a call, all in turns; the gradients agree."""
    task, hp = problem(steps, numbers, hidden)
    hand = {name: f.lower(hp).compile() for name, f in by_hand(task).items()}
    mebibytes = {name: c.memory_analysis().temp_size_in_bytes / 2**20 for name, c in hand.items()}
    fits = [n for n in hand if memory is None or mebibytes[n] * 2**20 <= memory]
    ours = lambda hp: jhpo.hypergrad(task, hp, KEY, memory=memory)  # noqa: E731
    found = ours(hp)
    for name, c in hand.items():
        for a, b in zip(jax.tree.leaves(c(hp)[1]), jax.tree.leaves(found.grad)):
            np.testing.assert_allclose(a, b, rtol=2e-2, atol=1e-3 * float(jnp.abs(b).max()), err_msg=name)
    every = hand | {"hypergrad": ours}
    best = dict.fromkeys(every, np.inf)
    end, turn = time.perf_counter() + seconds, 0
    while turn < 3 or time.perf_counter() < end:
        for name, f in every.items():
            at = jax.block_until_ready(other(hp, turn))
            start = time.perf_counter()
            jax.block_until_ready(f(at)[:2])
            best[name] = min(best[name], time.perf_counter() - start)
        turn += 1
    faster = min(best[n] for n in fits) if fits else np.nan
    return {
        "steps": steps,
        "numbers": numbers,
        "memory": memory,
        "ms": {n: round(1e3 * t, 2) for n, t in best.items()},
        "MiB": {n: round(m, 2) for n, m in mebibytes.items()}
        | {"hypergrad": round((found.diagnostics.memory_measured or 0) / 2**20, 2)},
        "method": f"{found.diagnostics.method}, {found.diagnostics.levels} levels",
        "ratio": round(best["hypergrad"] / faster, 3),
        "turns": turn,
    }


def once(what: str, steps: int, numbers: int) -> float:
    """CPU seconds of the first call, in this process."""
    task, hp = problem(steps, numbers)
    jax.block_until_ready(jnp.sin(hp["wd"]))
    name, _, method = what.partition(" ")
    start = time.process_time()
    out = by_hand(task)[method](hp) if name == "hand" else jhpo.hypergrad(task, hp, KEY, method)
    jax.block_until_ready(out[:2])
    return time.process_time() - start


def first(steps: int, numbers: int) -> dict[str, Any]:
    """CPU seconds of first calls, each in a process of its own."""
    seconds = {}
    for what in ("hand forward", "forward", "hand reverse", "reverse", "auto"):
        name = what if what.startswith("hand") else f"jhpo {what}"
        code = f"from benchmarks.hypergrad_speed import once; print(once({name!r}, {steps}, {numbers}))"
        run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
        seconds[what] = round(float(run.stdout), 2)
    method = "forward" if numbers == 2 else "reverse"
    return {
        "steps": steps,
        "numbers": numbers,
        "cpu_s": seconds,
        "forward": round(seconds["forward"] / seconds["hand forward"], 2),
        "reverse": round(seconds["reverse"] / seconds["hand reverse"], 2),
        "auto": round(seconds["auto"] / seconds[f"hand {method}"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["calls", "first"])
    parser.add_argument("--steps", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--numbers", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--memory", type=int, help="bytes; no limit if not given")
    parser.add_argument("--seconds", type=float, default=10.0, help="measuring time of each case")
    args = parser.parse_args()
    for steps in args.steps if args.what == "calls" else args.steps[:1]:
        for numbers in args.numbers:
            line = calls(steps, numbers, args.memory, args.seconds) if args.what == "calls" else first(steps, numbers)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
