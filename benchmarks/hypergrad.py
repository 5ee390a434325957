"""Cost of hypergradients: time over one training and temporary memory, by method, length and size of the network.

    python benchmarks/hypergrad.py cost [--steps 100 400 1600] [--sizes small large] [--peer PYTHON] [--methods ...]
    python benchmarks/hypergrad.py memory
    python benchmarks/hypergrad.py population

A network on scikit-learn's digits under SGD with momentum; two hyperparameters (rate and momentum), except for forward
mode's line with one. ``plain`` is `jax.grad` through the scan of steps that use `jax.grad` themselves. Times are the
best of several, taken in turns, and divided by the best time of the training alone. ``--peer`` names a Python with
torch and `higher` or `torchopt`, which run the same network, batches and optimiser (see hypergrad_peers.py).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from jhpo.gradients import Spec, estimate
from jhpo.gradients.facts import Facts, facts_of
from jhpo.gradients.plan import expected_bytes
from jhpo.kernels.mixed import mixed_grad
from jhpo.kernels.shuffle import batch_rows
from jhpo.training.trainable import train_and_evaluate

KEY = jax.random.key(0)
HP = {"lr": jnp.float32(0.05), "momentum": jnp.float32(0.9)}
SIZES = {"small": (32, 64), "large": (256, 256)}  # hidden units and batch: 2.4k and 19k parameters
METHODS = {
    "reverse, plain": (jax.grad, Spec("reverse")),
    "reverse, mixed": (mixed_grad, Spec("reverse")),
    "1 level, mixed": (mixed_grad, Spec("reverse", levels=1)),
    "2 levels, mixed": (mixed_grad, Spec("reverse", levels=2)),
    "3 levels, mixed": (mixed_grad, Spec("reverse", levels=3)),
    "forward, k = 1": (mixed_grad, Spec("forward", wrt=(True, False))),
    "forward, k = 2": (mixed_grad, Spec("forward")),
}


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["train", "valid", "order"],
    meta_fields=["hidden", "batch", "steps", "grad"],
)
@dataclasses.dataclass(frozen=True)
class Network:
    """tanh network of one hidden layer; batch t is recomputed from a key and t, as `jhpo.supervised` does."""

    train: tuple[jax.Array, jax.Array]
    valid: tuple[jax.Array, jax.Array]
    order: jax.Array  # uint32[2], data of the key of the batches
    hidden: int
    batch: int
    steps: int
    grad: Callable[..., Any]

    def loss(self, p: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        logits = jnp.tanh(x @ p["a"] + p["b"]) @ p["c"] + p["d"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def init(self, hp: Any, key: jax.Array) -> Any:
        k1, k2 = jax.random.split(key)
        a = jax.random.normal(k1, (64, self.hidden)) / 8
        c = jax.random.normal(k2, (self.hidden, 10)) / self.hidden**0.5
        params = {"a": a, "b": jnp.zeros(self.hidden), "c": c, "d": jnp.zeros(10)}
        return params, optax.sgd(hp["lr"], hp["momentum"]).init(params)

    def step(self, hp: Any, state: Any, t: jax.Array) -> Any:
        params, memory = state
        rows = self.rows(t)
        grads = self.grad(self.loss)(params, self.train[0][rows], self.train[1][rows])
        updates, memory = optax.sgd(hp["lr"], hp["momentum"]).update(grads, memory)
        return optax.apply_updates(params, updates), memory

    def rows(self, t: Any) -> jax.Array:
        return batch_rows(jax.random.wrap_key_data(self.order), t, len(self.train[0]), self.batch)

    def evaluate(self, hp: Any, state: Any) -> jax.Array:
        return self.loss(state[0], *self.valid)


def network(size: str, steps: int, grad: Callable[..., Any] = mixed_grad) -> Network:
    hidden, batch = SIZES[size]
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = jnp.asarray(x[order] / 16, jnp.float32), jnp.asarray(y[order], jnp.int32)
    key = jax.random.key_data(jax.random.key(1))
    return Network((x[:1000], y[:1000]), (x[1000:1400], y[1000:1400]), key, hidden, batch, steps, grad)


def compiled(task: Network, spec: Spec | None, hp: Any = HP) -> Any:
    """One training, or one gradient of it, as a compiled program of (task, hp)."""
    if spec is None:
        run = lambda task, hp: train_and_evaluate(task, hp, KEY).value  # noqa: E731
    else:
        run = lambda task, hp: estimate(task, hp, KEY, spec)[:2]  # noqa: E731
    return jax.jit(run).lower(task, hp).compile()


def best_times(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Best time of each, all taken in turns for about ``seconds`` (at least three turns)."""
    best = dict.fromkeys(calls, np.inf)
    for call in calls.values():
        jax.block_until_ready(call())
    end, turns = time.perf_counter() + seconds, 0
    while turns < 3 or time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            best[name] = min(best[name], time.perf_counter() - start)
        turns += 1
    return best


def known(task: Network) -> Facts:
    return facts_of(task, HP, KEY, Spec(wrt=(True, True)))


def cost(args: argparse.Namespace) -> None:
    for size in args.sizes:
        for steps in args.steps:
            tasks = {grad: network(size, steps, grad) for grad in (jax.grad, mixed_grad)}
            facts = known(tasks[mixed_grad])
            one = compiled(network(size, 1), Spec("reverse", levels=2)).memory_analysis().temp_size_in_bytes
            programs = {"training": compiled(tasks[mixed_grad], None)}
            methods = {name: METHODS[name] for name in args.methods}
            programs |= {name: compiled(tasks[grad], spec) for name, (grad, spec) in methods.items()}
            where = {"training": mixed_grad} | {name: grad for name, (grad, _) in methods.items()}
            calls = {name: functools.partial(p, tasks[where[name]], HP) for name, p in programs.items()}
            grads = {name: float(call()[1]["lr"]) for name, call in calls.items() if name != "training"}
            first = next(iter(grads.values()))
            spread = max(abs(g / first - 1) for g in grads.values())
            times = best_times(calls, args.seconds)
            print(f"\n{size}: T = {steps}, S = {facts.state} B, residuals of a step = {facts.residuals} B")
            print(f"training {times['training'] * 1e3:.1f} ms; gradients agree to {spread:.0e}")
            for name, program in programs.items():
                temporary = program.memory_analysis().temp_size_in_bytes
                line = f"  {name:16} {times[name] / times['training']:6.2f} x  {temporary / 1e6:9.2f} MB"
                if name == "2 levels, mixed":
                    states = 2 * steps**0.5 * facts.state
                    line += f"  = {temporary / (states + facts.residuals):.2f} (2 sqrt(T) S + residuals)"
                    line += f" = {temporary / (states + one):.2f} (2 sqrt(T) S + the program of one step)"
                print(line, flush=True)
            if args.peer:
                print(peers(args.peer, tasks[mixed_grad], args.seconds), flush=True)


def peers(python: str, task: Network, seconds: float) -> str:
    """The same training and gradient in torch, in another Python, one after the other in this run."""
    start = task.init(HP, KEY)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.npz"
        arrays = {"x": task.train[0], "y": task.train[1], "xv": task.valid[0], "yv": task.valid[1]}
        arrays["rows"] = jax.vmap(task.rows)(jnp.arange(task.steps))
        np.savez(path, **{k: np.asarray(v) for k, v in (arrays | start).items()})
        script = Path(__file__).with_name("hypergrad_peers.py")
        run = subprocess.run(
            [python, str(script), str(path), str(seconds)], capture_output=True, text=True, check=False, cwd=folder
        )
    if run.returncode:
        return f"  peers: {run.stderr.strip().splitlines()[-1]}"
    ours = float(compiled(task, Spec("reverse"))(task, HP)[1]["lr"])
    lines = []
    for name, found in json.loads(run.stdout).items():
        lines.append(
            f"  {name:16} {found['ratio']:6.2f} x of its own training of {found['training'] * 1e3:.1f} ms; "
            f"d/d lr = {found['lr']:.6g}, ours {ours:.6g}"
        )
    return "\n".join(lines)


def memory(args: argparse.Namespace) -> None:
    """Slopes of temporary memory against T, from compiled programs that are not run."""
    lengths = (100, 400, 1600, 6400, 25600)
    for size in args.sizes:
        print(f"\n{size}: temporary memory in kB for T = {lengths}")
        for levels, target in ((0, 1), (1, 1), (2, 1 / 2), (3, 1 / 3)):
            measured, expected, constant = [], [], 0
            for steps in lengths:
                task = network(size, steps)
                spec = Spec("reverse", levels=levels)
                measured.append(compiled(task, spec).memory_analysis().temp_size_in_bytes)
                expected.append(expected_bytes(known(task), spec))
                constant = constant or compiled(network(size, 1), spec).memory_analysis().temp_size_in_bytes
            slope = np.polyfit(np.log(lengths), np.log(measured), 1)[0]
            above = np.polyfit(np.log(lengths), np.log(np.array(measured) - constant), 1)[0]
            ratio = np.array(expected) / np.array(measured)
            print(
                f"  {levels} levels {[round(m / 1e3) for m in measured]}: slope {slope:.2f}, {above:.2f} above the "
                f"{constant / 1e3:.0f} kB of T = 1 (target {target:.2f}); expected / measured {ratio.min():.2f} to "
                f"{ratio.max():.2f}",
                flush=True,
            )


def population(args: argparse.Namespace) -> None:
    """A member of 32 beside one alone: value and gradient of each, two levels of rematerialisation."""
    steps, members = args.steps[0], 32
    for size in args.sizes:
        task, spec = network(size, steps), Spec("reverse", levels=2)
        many = {name: x * jnp.linspace(0.5, 1.0, members) for name, x in HP.items()}
        run = jax.jit(jax.vmap(lambda task, hp, spec=spec: estimate(task, hp, KEY, spec)[:2], (None, 0)))
        programs = {"one": (compiled(task, spec), HP), "32": (run.lower(task, many).compile(), many)}
        programs["training"] = (compiled(task, None), HP)
        times = best_times({n: functools.partial(p, task, hp) for n, (p, hp) in programs.items()}, args.seconds)
        sizes = {n: p.memory_analysis().temp_size_in_bytes for n, (p, _) in programs.items()}
        print(
            f"{size}: T = {steps}, {members} members: {times['32'] / times['one']:.1f} times the time of one "
            f"({times['32'] / times['one'] / members:.2f} a member), {sizes['32'] / sizes['one'] / members:.2f} of its "
            f"memory a member ({sizes['32'] / members / 1e3:.0f} of {sizes['one'] / 1e3:.0f} kB)",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cost", "memory", "population"])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 400, 1600])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seconds", type=float, default=8.0, help="measuring time for each size and length")
    parser.add_argument("--peer", help="a Python with torch and higher or torchopt")
    args = parser.parse_args()
    print(f"jax {jax.__version__} on {jax.devices()[0].platform}")
    {"cost": cost, "memory": memory, "population": population}[args.what](args)


if __name__ == "__main__":
    main()
