"""How fast a population trains: digits, an MLP of 64-32-10, 200 Adam steps of batch 64, own rates for every member.

    python benchmarks/population.py                      256 and 1,024 members beside the loops a user would write
    python benchmarks/population.py --chunks             seconds a model by chunk, to check what was chosen
    python benchmarks/population.py --processor          seconds of a core, for a machine with other work

Opponents, timed in the same run, for every repeat in turn:
- a loop of Optuna trials around scikit-learn's MLPClassifier, with the same number of steps;
- a loop over one jitted JAX program that trains one model (written by hand with optax, its data order drawn by
  `jax.random.permutation`, nothing of jhpo in it).

The share of the matrix-product rate is that of the products a training needs (forward, gradients of the weights,
gradient of the hidden layer) at the rate of a large product in the same run; beside it the share by the usual count of
6 operations a weight and example. Compilation is not counted. The best of the repeats of each contestant is compared:
other work on the machine only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jhpo
from jhpo.evaluation.chunks import preferred_chunk

STEPS, BATCH, HIDDEN, TRAIN = 200, 64, 32, 1280  # 20 batches an epoch, ten epochs
WEIGHTS = 64 * HIDDEN + HIDDEN * 10
NEEDED = STEPS * 2 * BATCH * (2 * WEIGHTS + HIDDEN * 10)  # floating-point operations of the products of one training
USUAL = STEPS * 6 * BATCH * WEIGHTS  # by the usual count of 6 a weight and example
SPACE = jhpo.Space({"lr": jhpo.Float(1e-4, 1e-1, log=True), "b1": jhpo.Float(0.5, 0.99, scale="reverse_log")})

clock = time.perf_counter
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.target))
X, Y = (digits.data[order] / 16.0).astype(np.float32), digits.target[order].astype(np.int32)


def init(key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
    """Parameters of one network."""
    first, second = jax.random.split(key)
    return {
        "w1": jax.random.normal(first, (64, HIDDEN)) * (2 / 64) ** 0.5,
        "b1": jnp.zeros((HIDDEN,)),
        "w2": jax.random.normal(second, (HIDDEN, 10)) * (2 / HIDDEN) ** 0.5,
        "b2": jnp.zeros((10,)),
    }


def apply(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Logits of a batch."""
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def adam(hp: dict[str, jax.Array]) -> optax.GradientTransformation:
    """The optimiser of one member."""
    return optax.adam(hp["lr"], b1=hp["b1"])


def supervised(independent: bool) -> Any:
    """The problem as a user of jhpo writes it."""
    return jhpo.supervised(
        (init, apply), adam, "classification", train=(X[:TRAIN], Y[:TRAIN]), valid=(X[TRAIN:], Y[TRAIN:]),
        batch_size=BATCH, steps=STEPS, independent_batches=independent,
    )  # fmt: skip


def jitted_model() -> Callable[[dict[str, Any], jax.Array], jax.Array]:
    """One training as a jitted function, as one would write it by hand."""
    x, y, vx, vy = (jnp.asarray(a) for a in (X[:TRAIN], Y[:TRAIN], X[TRAIN:], Y[TRAIN:]))

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()

    @jax.jit
    def train(hp: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        params = init(key, x)
        optimiser = adam(hp)
        epochs = jax.vmap(lambda k: jax.random.permutation(k, TRAIN))(jax.random.split(key, STEPS * BATCH // TRAIN))

        def step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
            params, state = carry
            updates, state = optimiser.update(jax.grad(loss)(params, x[rows], y[rows]), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), epochs.reshape(STEPS, BATCH))
        return loss(params, vx, vy)

    return train


def jitted_loop(count: int) -> Callable[[], float]:
    """Seconds a model of a Python loop over the jitted training."""
    train = jitted_model()
    units = np.random.default_rng(1).random((count, 2))
    members = [jax.device_put(SPACE.decode(u)) for u in units]
    keys = list(jax.random.split(jax.random.key(0), count))
    float(train(members[0], keys[0]))

    def once() -> float:
        start = clock()
        for hp, key in zip(members, keys):
            value = train(hp, key)
        value.block_until_ready()
        return (clock() - start) / count

    return once


def optuna_loop(count: int) -> Callable[[], float]:
    """Seconds a model of Optuna's random sampler around scikit-learn."""
    import warnings

    import optuna
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ConvergenceWarning)

    def objective(trial: Any) -> float:
        model = MLPClassifier(
            (HIDDEN,), solver="adam", batch_size=BATCH, max_iter=STEPS * BATCH // TRAIN, alpha=0.0, tol=0.0,
            learning_rate_init=trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            beta_1=1.0 - trial.suggest_float("1-b1", 0.01, 0.5, log=True), random_state=0,
        )  # fmt: skip
        model.fit(X[:TRAIN], Y[:TRAIN])
        return 1.0 - model.score(X[TRAIN:], Y[TRAIN:])

    def once() -> float:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        start = clock()
        study.optimize(objective, count)
        return (clock() - start) / count

    return once


def population(count: int, independent: bool, chunk: int | None = None) -> Callable[[], float]:
    """Seconds a model of `jhpo.Population`."""
    evaluator = jhpo.Population(supervised(independent), SPACE, chunk=chunk)
    units = np.random.default_rng(1).random((count, 2))
    root, ids = jax.random.key(0), np.arange(count)
    value = evaluator.evaluate(units, ids, root).value
    assert np.isfinite(value).all() and value.min() < 0.2, "these networks learn"

    def once() -> float:
        start = clock()
        evaluator.evaluate(units, ids, root)
        return (clock() - start) / count

    return once


def product_rate(size: int = 1536) -> Callable[[], float]:
    """Seconds of one large product in float32, all cores."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()

    def once() -> float:
        start = clock()
        for _ in range(5):
            result = product(a)
        result.block_until_ready()
        return (clock() - start) / 5 / (2 * size**3)

    return once


def best(contestants: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """The shortest time of each, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, once in contestants.items():
            seconds[name].append(once())
    return {name: min(s) for name, s in seconds.items()}


def main() -> None:
    """Print the seconds a model and the ratios as JSON lines."""
    global clock
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", action="store_true", help="seconds a model by chunk instead")
    parser.add_argument("--processor", action="store_true", help="processor time of all cores instead of wall time")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.processor:
        clock = time.process_time
    device = jax.devices()[0]
    print(json.dumps({"jax": jax.__version__, "device": device.device_kind, "machine": platform.machine()}))
    if options.chunks:
        for independent in (False, True):
            sizes = {str(c): population(1024, independent, c) for c in (8, 16, 32, 64, 128, 256, 512)}
            ms = {name: round(1e3 * s, 3) for name, s in best(sizes, options.repeats).items()}
            chosen = preferred_chunk(4 * 3 * (WEIGHTS + HIDDEN + 10), device.platform)
            print(json.dumps({"independent": independent, "chosen": chosen, "ms_a_model_by_chunk": ms}))
        return
    contestants = {
        "scikit-learn under Optuna": optuna_loop(16),
        "jitted JAX loop": jitted_loop(64),
        "product": product_rate(),
        **{f"{n} {kind}": population(n, kind == "own") for n in (256, 1024) for kind in ("shared", "own")},
    }
    seconds = best(contestants, options.repeats)
    rate = 1.0 / seconds.pop("product")
    print(json.dumps({"GFLOP_a_model": [NEEDED / 1e9, USUAL / 1e9], "product_GFLOP_a_second": round(rate / 1e9, 1)}))
    for name, each in seconds.items():
        line: dict[str, Any] = {"contestant": name, "ms_a_model": round(1e3 * each, 3)}
        if name.endswith(("shared", "own")):
            line |= {
                "times_optuna": round(seconds["scikit-learn under Optuna"] / each, 1),
                "times_jitted_loop": round(seconds["jitted JAX loop"] / each, 2),
                "share_of_product_rate": round(NEEDED / each / rate, 3),
                "share_by_the_usual_count": round(USUAL / each / rate, 3),
            }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
