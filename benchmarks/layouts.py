"""What other layouts could gain in a population's training step on a CPU: digits MLPs of 64-32-10 under Adam.

    python benchmarks/layouts.py            # about half a minute of a core
    python benchmarks/layouts.py --products # the products by themselves, GFLOP/s of the least time

One chunk of 32 members is trained by `jax.vmap` of the training with JAX's gradients and by gradients written by hand,
with the members in another place of the arrays. All give the same weights up to rounding. The least and the median of
the processor time of several turns in one process are printed, in microseconds a member and step.

- "by columns": as a population trains, with what is in `kernels/columns.py`.
- "members in the middle": the first layer's weights are kept as [64, members, 32], so that the product of all members
  with the shared minibatch needs no copy of them, and neither does its gradient.
- "second gradient turned": that of the second layer's weights as ``dlogits^T hidden`` behind an optimization barrier
  instead of ``hidden^T dlogits``, a batched product that goes through a plain loop.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jhpo.kernels.columns import by_columns

M, BATCH, D, H, OUT, STEPS, TURNS = 32, 64, 64, 32, 10, 200, 8
_keys = jax.random.split(jax.random.key(0), 5)
X, Y = jax.random.normal(_keys[0], (1280, D)), jax.random.randint(_keys[1], (1280,), 0, OUT)
LR, B1 = jnp.geomspace(1e-4, 1e-2, M), jnp.linspace(0.5, 0.99, M)
ROWS = jax.random.randint(_keys[4], (STEPS, BATCH), 0, 1280)
PARAMS = {
    "w1": 0.17 * jax.random.normal(_keys[2], (M, D, H)),
    "b1": jnp.zeros((M, H)),
    "w2": 0.25 * jax.random.normal(_keys[3], (M, H, OUT)),
    "b2": jnp.zeros((M, OUT)),
}
Tree = dict[str, jax.Array]


def trained(columns: bool) -> Tree:
    """The training of one member, mapped over all of them."""

    def loss(p: Tree, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def one(lr: jax.Array, b1: jax.Array, p: Tree) -> Tree:
        optimiser = optax.adam(lr, b1=b1)

        def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
            p, state = carry
            updates, state = optimiser.update(jax.grad(loss)(p, X[rows], Y[rows]), state, p)
            return (optax.apply_updates(p, updates), state), None

        done: Tree = jax.lax.scan(step, (p, optimiser.init(p)), ROWS)[0][0]
        return done

    return jax.vmap(by_columns(one) if columns else one)(LR, B1, PARAMS)


def by_hand(middle: bool, turned: bool) -> Tree:
    """Gradients and Adam written out for all members at once."""
    barrier = jax.lax.optimization_barrier

    def forward(p: Tree, x: jax.Array) -> jax.Array:
        if middle:
            return (x @ p["w1"].reshape(D, M * H)).reshape(-1, M, H).transpose(1, 0, 2)
        return jnp.einsum("bd,mdh->mbh", x, p["w1"])

    def gradients(p: Tree, x: jax.Array, y: jax.Array) -> Tree:
        z = forward(p, x) + p["b1"][:, None]
        hidden = jax.nn.relu(z)
        logits = jnp.einsum("mbh,mho->mbo", hidden, p["w2"]) + p["b2"][:, None]
        dlogits = (jax.nn.softmax(logits) - jax.nn.one_hot(y, OUT)) / BATCH
        dz = jnp.where(z > 0, jnp.einsum("mbo,mho->mbh", dlogits, p["w2"]), 0.0)
        if turned:
            dw2 = barrier(jnp.matmul(barrier(dlogits.transpose(0, 2, 1)), hidden)).transpose(0, 2, 1)
        else:
            dw2 = jnp.einsum("mbh,mbo->mho", hidden, dlogits)
        if middle:
            dw1 = (x.T @ dz.transpose(1, 0, 2).reshape(-1, M * H)).reshape(D, M, H)
        else:
            dw1 = jnp.einsum("bd,mbh->mdh", x, dz)
        return {"w1": dw1, "b1": dz.sum(1), "w2": dw2, "b2": dlogits.sum(1)}

    start = PARAMS | {"w1": PARAMS["w1"].transpose(1, 0, 2) if middle else PARAMS["w1"]}

    def of_leaf(rates: jax.Array, name: str) -> jax.Array:
        if middle and name == "w1":
            return rates[None, :, None]
        return rates.reshape(M, *[1] * (start[name].ndim - 1))

    def step(carry: Any, at: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        p, first, second = carry
        rows, t = at
        g = gradients(p, X[rows], Y[rows])
        first = {n: of_leaf(B1, n) * first[n] + (1 - of_leaf(B1, n)) * g[n] for n in p}
        second = {n: 0.999 * second[n] + 0.001 * g[n] ** 2 for n in p}

        def moved(n: str) -> jax.Array:
            mean = first[n] / of_leaf(1 - B1**t, n)
            return p[n] - of_leaf(LR, n) * mean / (jnp.sqrt(second[n] / (1 - 0.999**t)) + 1e-8)

        return ({n: moved(n) for n in p}, first, second), None

    zeros = jax.tree.map(jnp.zeros_like, start)
    counts = jnp.arange(1, STEPS + 1, dtype=jnp.float32)
    p = jax.lax.scan(step, (start, zeros, zeros), (ROWS, counts))[0][0]
    return p | {"w1": p["w1"].transpose(1, 0, 2) if middle else p["w1"]}


def products() -> None:
    """Print the rate of the products of a step, each written in several ways."""
    barrier, each = jax.lax.optimization_barrier, jax.lax.map
    normal = lambda *shape: jax.random.normal(_keys[0], shape)  # noqa: E731
    hidden, dlogits, x, dz = normal(M, BATCH, H), normal(M, BATCH, OUT), normal(BATCH, D), normal(M, BATCH, H)
    many = lambda a: jnp.broadcast_to(a, (M, *a.shape))  # noqa: E731
    second, first, forward = (hidden, dlogits), (x, dz), (x, PARAMS["w1"])
    ways: dict[str, tuple[Callable[..., jax.Array], tuple[jax.Array, jax.Array]]] = {
        "second gradient, as now": (lambda h, g: jnp.einsum("mbh,mbo->mho", h, g), second),
        "hidden^T behind a barrier": (lambda h, g: jnp.matmul(barrier(h.transpose(0, 2, 1)), g), second),
        "dlogits^T hidden": (lambda h, g: jnp.matmul(barrier(g.transpose(0, 2, 1)), h), second),
        "the same, turned back": (
            lambda h, g: jnp.matmul(barrier(g.transpose(0, 2, 1)), h).transpose(0, 2, 1), second,
        ),
        "a sum of products": (lambda h, g: (h[:, :, :, None] * g[:, :, None, :]).sum(1), second),
        "a loop over members": (lambda h, g: each(lambda a: a[0].T @ a[1], (h, g)), second),
        "first layer, as now": (lambda x, w: jnp.einsum("bd,mdh->mbh", x, w), forward),
        "batched": (lambda x, w: jnp.matmul(many(x), w), forward),
        "in a loop": (lambda x, w: each(lambda w: x @ w, w), forward),
        "first gradient, as now": (lambda x, g: jnp.einsum("bd,mbh->mdh", x, g), first),
        "batched ": (lambda x, g: jnp.matmul(many(x.T), g), first),
        "in a loop ": (lambda x, g: each(lambda g: x.T @ g, g), first),
    }  # fmt: skip
    made = {name: jax.jit(way).lower(*arguments).compile() for name, (way, arguments) in ways.items()}
    least = dict.fromkeys(made, np.inf)
    for _ in range(TURNS):
        for name, program in made.items():
            busy = time.process_time()
            for _ in range(100):
                out = program(*ways[name][1])
            jax.block_until_ready(out)
            least[name] = min(least[name], (time.process_time() - busy) / 100)
    for name, seconds in least.items():
        inner = OUT if ways[name][1] is second else D
        print(f"{name:28s} {2 * M * BATCH * H * inner / seconds / 1e9:6.1f} GFLOP/s")


def main() -> None:
    """Print the time of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", action="store_true", help="the products by themselves")
    if parser.parse_args().products:
        products()
        return
    ways: dict[str, Callable[[], Tree]] = {
        "by rows": functools.partial(trained, False),
        "by columns": functools.partial(trained, True),
        "by hand": functools.partial(by_hand, False, False),
        "second gradient turned": functools.partial(by_hand, False, True),
        "members in the middle": functools.partial(by_hand, True, False),
        "both": functools.partial(by_hand, True, True),
    }
    options = {"xla_backend_optimization_level": "2"}  # as jhpo compiles populations
    made = {name: jax.jit(way).lower().compile(compiler_options=options) for name, way in ways.items()}
    expected, times = made["by rows"](), {name: list[float]() for name in made}
    for program in made.values():
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), program(), expected)
    for _ in range(TURNS):
        for name, program in made.items():
            busy = time.process_time()
            jax.block_until_ready(program())
            times[name].append((time.process_time() - busy) / STEPS / M * 1e6)
    usual = times["by rows"]
    for name, each in times.items():
        ratios = min(usual) / min(each), np.median(usual) / np.median(each)
        print(f"{name:24s} {min(each):6.2f} {np.median(each):6.2f} us   {ratios[0]:.2f} {ratios[1]:.2f} times")


if __name__ == "__main__":
    main()
