"""Population-based training: schedules against the best constant, and the time of an exchange against a disk.

python benchmarks/pbt.py                # about two minutes on two cores
python benchmarks/pbt.py --quick        # shortened
python benchmarks/pbt.py --variants     # sub-populations, and exploring by a model, on the first task
python benchmarks/pbt.py --short-sighted   # the same on a task that misleads who looks a few steps ahead

1. Noisy descent on a quadratic, whose best learning rate is known to decay. `PopulationBasedTraining` against the best
   of as many constant rates, trained for as many steps, 5 seeds. What each found is trained again with 64 fresh seeds,
   as the least of many noisy values flatters both.
2. Digits MLPs: a generation (training and exchange) through `minimize`, beside a loop that trains the same members with
   one jitted program and exchanges them by a file a member, written and read again, as checkpointing tuners do.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from sklearn.datasets import load_digits

import jhpo
from jhpo.keys import is_key
from jhpo.training.trainable import evaluate_state, train, train_and_evaluate


class Descent:
    """Noisy descent on a quadratic of condition number 10 from a distant start."""

    steps = 200

    def init(self, hp: Any, key: jax.Array) -> Any:
        """Far from the minimum."""
        return {"w": 3.0 * jnp.ones(8), "key": key}

    def step(self, hp: Any, state: Any, t: jax.Array) -> Any:
        """One step along a gradient with noise of variance 1."""
        noise = jax.random.normal(jax.random.fold_in(state["key"], t), (8,))
        return state | {"w": state["w"] - hp["lr"] * (_CURVATURE * state["w"] + noise)}

    def evaluate(self, hp: Any, state: Any) -> jax.Array:
        """The quadratic, without noise."""
        return jnp.sum(_CURVATURE * state["w"] ** 2) / 2


class ShortSighted(Descent):
    """The same with directions of very different curvature, as far from their minimum by their loss: 2,000 steps.

    With a constant rate the loss ends at a floor that is proportional to the rate, and what is left of directions of
    little curvature decays with rate times curvature. Whoever lowers the rate sees the loss fall at once, and learns
    only a thousand steps later what it cost (short-horizon bias, Wu et al. 2018).
    """

    steps = 2000

    def init(self, hp: Any, key: jax.Array) -> Any:
        """A loss of 4.5 in each direction."""
        return {"w": 3.0 / jnp.sqrt(_UNLIKE), "key": key}

    def step(self, hp: Any, state: Any, t: jax.Array) -> Any:
        """One step along a gradient with noise of variance 1."""
        noise = jax.random.normal(jax.random.fold_in(state["key"], t), (8,))
        return state | {"w": state["w"] - hp["lr"] * (_UNLIKE * state["w"] + noise)}

    def evaluate(self, hp: Any, state: Any) -> jax.Array:
        """The quadratic, without noise."""
        return jnp.sum(_UNLIKE * state["w"] ** 2) / 2


_UNLIKE = np.geomspace(0.003, 1.0, 8, dtype=np.float32)
_CURVATURE = np.linspace(0.1, 1.0, 8, dtype=np.float32)
SPACE = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True)})


class Quality(NamedTuple):
    """Mean values with fresh seeds of what each search found, ``float[seeds]``."""

    pbt: np.ndarray
    constant: np.ndarray
    best_constant: float  # of 41 rates, each judged by the fresh seeds themselves
    schedules: list[list[float]]


def quality(seeds: int, members: int, exchange: int, fresh: int) -> Quality:
    """Schedules and constant rates found with the same number of training steps."""
    task = Descent()
    keys = jax.random.split(jax.random.key(1_000), fresh)
    judge = jax.jit(lambda task, hp: jax.vmap(lambda key: train_and_evaluate(task, hp, key).value)(keys).mean())
    pbt, constant, schedules = [], [], []
    for seed in range(seeds):
        strategy = jhpo.PopulationBasedTraining(members, exchange=exchange)
        evolved = jhpo.minimize(task, SPACE, strategy, budget=members, seed=seed)
        plain = jhpo.minimize(task, SPACE, jhpo.RandomSearch(members), budget=members, seed=seed)
        assert evolved.steps == members * task.steps
        schedule = evolved.schedule()
        pbt.append(float(judge(jhpo.replay(task, schedule), {})))
        constant.append(float(judge(jhpo.as_trainable(task), {"lr": jnp.float32(plain.best["lr"])})))
        schedules.append(schedule.of("lr"))
    rates = np.geomspace(1e-4, 1.0, 41, dtype=np.float32)
    best = min(float(judge(jhpo.as_trainable(task), {"lr": jnp.asarray(rate)})) for rate in rates)
    return Quality(np.array(pbt), np.array(constant), best, schedules)


def variants(seeds: int, fresh: int, short_sighted: bool) -> dict[str, np.ndarray]:
    """What variants of the strategy find on one task, judged alike: ``float[seeds]`` each."""
    task, keys = ShortSighted() if short_sighted else Descent(), jax.random.split(jax.random.key(1_000), fresh)
    judge = jax.jit(lambda task, hp: jax.vmap(lambda key: train_and_evaluate(task, hp, key).value)(keys).mean())
    each: dict[str, Any] = {
        "32 members": jhpo.PopulationBasedTraining(32, exchange=10),
        "32 members, intervals=(1, 4)": jhpo.PopulationBasedTraining(32, exchange=10, intervals=(1, 4)),
        "8 members": jhpo.PopulationBasedTraining(8, exchange=20),
        "8 members, explore='bandit'": jhpo.PopulationBasedTraining(8, exchange=20, explore="bandit"),
    }
    if short_sighted:
        each = {
            "constants, the best of 32": jhpo.RandomSearch(32),
            "32 members": jhpo.PopulationBasedTraining(32, exchange=10),
            "32 members, exchange=200": jhpo.PopulationBasedTraining(32, exchange=200),
            "32 members, intervals=(1, 4)": jhpo.PopulationBasedTraining(32, exchange=10, intervals=(1, 4)),
            "32 members, intervals=(1, 5, 25, 50)": jhpo.PopulationBasedTraining(
                32, exchange=10, intervals=(1, 5, 25, 50)
            ),
            "32 members, explore='bandit'": jhpo.PopulationBasedTraining(32, exchange=10, explore="bandit"),
        }

    def judged(search: jhpo.Result, strategy: jhpo.Strategy) -> float:
        if not strategy.evolves:
            return float(judge(jhpo.as_trainable(task), {"lr": jnp.float32(search.best["lr"])}))
        return float(judge(jhpo.replay(task, search.schedule()), {}))

    found: dict[str, np.ndarray] = {}
    for name, strategy in each.items():
        searches = [
            jhpo.minimize(task, SPACE, strategy, budget=strategy.population, seed=seed) for seed in range(seeds)
        ]
        found[name] = np.array([judged(search, strategy) for search in searches])
        if strategy.evolves:
            rates = searches[0].schedule().of("lr")
            shown = " ".join(f"{rate:.2g}" for rate in rates[:: max(len(rates) // 10, 1)])
            print(f"{name}: rates of the first search, a tenth of the training apart: {shown}", flush=True)
    return found


def digits(steps: int) -> Any:
    """A multi-layer perceptron 64-32-10 on the digits, trained with Adam."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16.0).astype(np.float32)

    def model(rngs: Any) -> Any:
        from flax import nnx

        return nnx.Sequential(nnx.Linear(64, 32, rngs=rngs), nnx.relu, nnx.Linear(32, 10, rngs=rngs))

    return jhpo.supervised(
        model, lambda hp: optax.adam(hp["lr"]), "classification",
        train=(x[:1400], y[:1400]), valid=(x[1400:], y[1400:]), batch_size=64, steps=steps,
    )  # fmt: skip


class Times(NamedTuple):
    """Seconds a generation, medians."""

    pbt: float
    disk: float
    exchange: float  # of `disk`, what its files take


def times(members: int, steps: int, exchange: int) -> Times:
    """A generation through `minimize` and in a loop with files, both after everything is compiled."""
    task = digits(steps)
    strategy = jhpo.PopulationBasedTraining(members, exchange=exchange)
    jhpo.minimize(task, SPACE, strategy, budget=members)
    ends: list[float] = []
    jhpo.minimize(task, SPACE, strategy, budget=members, seed=1, callback=lambda update: ends.append(update.seconds))
    pbt = float(np.median(np.diff(ends)))

    begin = jax.jit(jax.vmap(lambda rate, key: task.init({"lr": rate}, key)))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, None))  # one step number for all, so that they share minibatches too
    def further(rate: jax.Array, state: Any, start: jax.Array) -> tuple[Any, jax.Array]:
        state = train(task, {"lr": rate}, state, start, exchange)
        return state, evaluate_state(task, {"lr": rate}, state).value

    rng = np.random.default_rng(0)
    rate = np.exp(rng.uniform(np.log(1e-4), 0.0, members)).astype(np.float32)
    states = begin(rate, jax.random.split(jax.random.key(0), members))
    whole, files = [], []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, steps, exchange):
            begun = time.perf_counter()
            states, value = further(rate, states, np.int32(start))
            value = np.asarray(jax.block_until_ready(value))
            trained = time.perf_counter()
            states, rate = exchange_by_files(Path(folder), states, rate, value, rng)
            jax.block_until_ready(states)
            whole.append(time.perf_counter() - begun)
            files.append(time.perf_counter() - trained)
    return Times(pbt, float(np.median(whole[1:])), float(np.median(files[1:])))


def exchange_by_files(
    folder: Path, states: Any, rate: np.ndarray, value: np.ndarray, rng: np.random.Generator
) -> tuple[Any, np.ndarray]:
    """Every member writes its state; the worst quarter reads those of the best."""
    leaves, treedef = jax.tree.flatten(states)
    keys = [is_key(x) for x in leaves]
    host = [np.array(jax.random.key_data(x) if key else x) for x, key in zip(leaves, keys)]
    for row in range(len(rate)):
        member = {str(k): x[row] for k, x in enumerate(host)}
        (folder / f"{row}.msgpack").write_bytes(serialization.msgpack_serialize(member))
    order, share = np.argsort(value), len(rate) // 4
    for row in order[-share:].tolist():
        parent = int(rng.choice(order[:share]))
        member = serialization.msgpack_restore((folder / f"{parent}.msgpack").read_bytes())
        for k, x in enumerate(host):
            x[row] = member[str(k)]
        rate[row] = rate[parent] * np.float32(np.exp(rng.normal()))
    back = [jax.random.wrap_key_data(jnp.asarray(x)) if key else jnp.asarray(x) for x, key in zip(host, keys)]
    return jax.tree.unflatten(treedef, back), rate


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--variants", action="store_true", help="sub-populations and a model of gains instead")
    parser.add_argument("--short-sighted", action="store_true", help="the same on a task that misleads the greedy")
    arguments = parser.parse_args()
    quick = arguments.quick
    if arguments.variants or arguments.short_sighted:
        for name, values in variants(2 if quick else 5, 8 if quick else 64, arguments.short_sighted).items():
            print(f"{name:36s} mean {values.mean():.4f}  " + " ".join(f"{value:.4f}" for value in values))
        return
    found = quality(2, 8, 40, 8) if quick else quality(5, 32, 20, 64)
    print("loss with fresh seeds, mean of each search's find; noisy quadratic")
    print("seed  schedule  constant  ratio  the schedule's rates")
    for seed, (a, b, rates) in enumerate(zip(found.pbt, found.constant, found.schedules)):
        print(f"{seed:4d}  {a:8.4f}  {b:8.4f}  {a / b:5.2f}  {' '.join(f'{rate:.3g}' for rate in rates)}")
    print(
        f"mean  {found.pbt.mean():8.4f}  {found.constant.mean():8.4f}  {found.pbt.mean() / found.constant.mean():5.2f}"
    )
    print(f"the best constant of 41: {found.best_constant:.4f}")
    for members in (8,) if quick else (32, 256):
        t = times(members, 20 if quick else 100, 5 if quick else 10)
        print(
            f"{members} digits MLPs, seconds a generation: {t.pbt:.4f} through minimize, {t.disk:.4f} with files "
            f"({t.exchange:.4f} of it for them): {t.disk / t.pbt:.2f} times"
        )


if __name__ == "__main__":
    main()
