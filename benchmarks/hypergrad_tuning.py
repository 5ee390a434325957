"""Tuning a learning rate, momentum, weight decay and a schedule: hypergradients beside random search, TPE and BayesOpt.

    python benchmarks/hypergrad_tuning.py                       # all problems, 5 data splits, 200 trials
    python benchmarks/hypergrad_tuning.py --quick               # a smoke test

Every method minimises the same deterministic function: the mean validation loss of a few trainings with fixed seeds.
What is counted are training steps of that function; a gradient counts as one training here, and the time it really
takes is printed beside it. The best point of each method is also trained with seeds nobody has seen.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_breast_cancer, load_digits

import jhpo
from jhpo.strategies.base import Request

FRESH = 16  # seeds nobody has seen


class MLP(nn.Module):
    width: int = 32

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(10)(nn.relu(nn.Dense(self.width)(x)))


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x[..., None]))
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


class Tabular(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.tanh(nn.Dense(8)(x)))


def sgd(steps: int) -> Callable[[Any], optax.GradientTransformation]:
    """Momentum SGD with weight decay and a schedule by knots."""

    def make(hp):
        return optax.chain(optax.add_decayed_weights(hp["wd"]), optax.sgd(knots(hp, steps), momentum=hp["momentum"]))

    return make


def adamw(steps: int) -> Callable[[Any], optax.GradientTransformation]:
    """AdamW with a schedule by knots."""
    return lambda hp: optax.adamw(knots(hp, steps), b1=hp["momentum"], weight_decay=hp["wd"], eps_root=1e-8)


def knots(hp: Any, steps: int) -> Callable[[jax.Array], jax.Array]:
    """The learning rate at a step: ``lr`` times the linear interpolation of the knots."""
    at = jnp.linspace(0.0, float(steps), hp["knots"].shape[0], dtype=hp["knots"].dtype)
    return lambda count: hp["lr"] * jnp.interp(count.astype(at.dtype), at, hp["knots"])


def space(highest: float, count: int) -> jhpo.Space:
    return jhpo.Space(
        {
            "lr": jhpo.Float(1e-4, highest, log=True),
            "momentum": jhpo.Float(0.0, 0.99),
            "wd": jhpo.Float(1e-6, 1e-1, log=True),
            "knots": jhpo.Float(0.0, 1.0, shape=(count,)),
        }
    )


def halves(bunch: Any, split: int, train: int, valid: int) -> tuple[Any, Any]:
    """Training and validation data of one random split, standardised by the training half where it is tabular."""
    order = np.random.default_rng(split).permutation(len(bunch.target))
    y = bunch.target.astype(np.int32)[order]
    if "images" in bunch:
        x = (bunch.images / 16.0).astype(np.float32)[order]
    else:
        x = bunch.data.astype(np.float32)[order]
        x = (x - x[:train].mean(0)) / x[:train].std(0)
    return (x[:train], y[:train]), (x[train : train + valid], y[train : train + valid])


@functools.partial(jax.tree_util.register_dataclass, data_fields=["task", "keys"], meta_fields=[])
class FixedSeeds:
    """A trainable whose value is the mean over trainings with seeds that are the same in every trial."""

    def __init__(self, task: Any, keys: jax.Array) -> None:
        self.task, self.keys = task, keys

    @property
    def steps(self) -> int:
        return self.task.steps

    @property
    def metric(self) -> str:
        return self.task.metric

    def init(self, hp, key):
        return jax.vmap(lambda k: self.task.init(hp, jax.random.wrap_key_data(k)))(self.keys)

    def step(self, hp, states, t):
        return jax.vmap(lambda s: self.task.step(hp, s, t))(states)

    def evaluate(self, hp, states):
        return jax.tree.map(jnp.mean, jax.vmap(lambda s: self.task.evaluate(hp, s))(states))


def seeds(root: int, count: int) -> jax.Array:
    return jax.random.key_data(jax.random.split(jax.random.key(root), count))


def problem(name: str, split: int, quick: bool) -> tuple[Any, jhpo.Space, int]:
    """The task of a data split, its space, and the number of fixed seeds."""
    steps = 20 if quick else {"mlp": 100, "cnn": 60, "tabular": 80}[name]
    if name == "tabular":
        train, valid = halves(load_breast_cancer(), split, 250, 200)
        task = jhpo.supervised(Tabular(), adamw(steps), train=train, valid=valid, batch_size=32, steps=steps)
        return task, space(0.3, 4), 2 if quick else 8
    train, valid = halves(load_digits(), split, 1000, 400)
    model = MLP() if name == "mlp" else CNN()
    task = jhpo.supervised(model, sgd(steps), train=train, valid=valid, batch_size=64, steps=steps)
    return task, space(1.0, 8), 2 if quick else 4


def strategies(names: list[str], few: int) -> dict[str, Any]:
    short = 8 * max(1, few // 10)  # trials of a chain's search, each a quarter of a training: a fifth of the budget
    known = {
        "random": lambda: jhpo.RandomSearch(8),
        "bayes": lambda: jhpo.BayesOpt(),
        "pso": lambda: jhpo.PSO(16),
        "bayes-gradients": lambda: jhpo.BayesOpt(gradients=True),
        "hypergradient": lambda: jhpo.HyperGradient(1),
        "population": lambda: jhpo.HyperGradient(4, starts=1),
        "adam": lambda: jhpo.HyperGradient(1, starts=1, learning_rate=0.1, options={}, chaos=1e9),
        "logit": lambda: jhpo.HyperGradient(1, coordinates="logit", learning_rate=0.6, max_step=1.0),
        "chain": lambda: jhpo.Chain(jhpo.SobolSearch(8), jhpo.HyperGradient(1, starts=1), evaluations=short),
    }
    return {n: known[n]() for n in names if n in known}


def tpe(task: Any, where: jhpo.Space, trials: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows and values of Optuna's TPE, with distributions on the parameters' own scales."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    population, root = jhpo.Population(task, where, chunk=1), jax.random.key(0)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    units, values = np.empty((trials, where.dim)), np.empty(trials)
    for i in range(trials):
        trial = study.ask()
        params: dict[str, Any] = {}
        for name, p in zip(where.names, where.parameters):
            rows = [trial.suggest_float(f"{name}{j}", p.low, p.high, log=p.scale == "log") for j in range(p.size)]
            params[name] = np.array(rows).reshape(p.shape) if p.shape else rows[0]
        units[i] = where.encode(params)
        values[i] = population.evaluate(units[i : i + 1], np.arange(1), root).value[0]
        if np.isfinite(values[i]):
            study.tell(trial, float(values[i]))
        else:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
    return units, values


def search(method: str, strategy: Any, task: Any, where: jhpo.Space, trials: int, seed: int) -> dict[str, Any]:
    """Units, best value after each training (in trainings of full length), and seconds."""
    start = time.perf_counter()
    if method == "tpe":
        units, values = tpe(task, where, trials, seed)
        horizon = np.ones(trials)
    else:
        result = jhpo.minimize(task, where, strategy, budget=trials, seed=seed, chunk=1)
        units, values, horizon = result.history.units, result.history.value, result.history.horizon
    seconds = time.perf_counter() - start
    cost = np.cumsum(horizon)
    values = np.where(np.isfinite(values) & (horizon == 1.0), values, np.inf)
    return {"units": units, "best": np.minimum.accumulate(values), "cost": cost, "seconds": seconds, "values": values}


def at(run: dict[str, Any], trainings: float) -> float:
    """Best value after so many trainings."""
    done = run["cost"] <= trainings + 1e-9
    return float(run["best"][done][-1]) if done.any() else float("inf")


def reached(run: dict[str, Any], goal: float) -> float:
    """Trainings after which the value was reached; inf if never."""
    there = run["best"] <= goal
    return float(run["cost"][np.argmax(there)]) if there.any() else float("inf")


def gradient_cost(task: Any, where: jhpo.Space, repeats: int) -> tuple[float, float]:
    """Seconds of a training, and of one with its gradient, beside each other."""
    population, root = jhpo.Population(task, where, chunk=1), jax.random.key(0)
    row, ids, seconds = where.default_unit()[None], np.arange(1), []
    requests = (Request(), Request(grad=True))
    for request in requests:
        population.evaluate(row, ids, root, request)
    for _ in range(repeats):
        for request in requests:
            start = time.perf_counter()
            population.evaluate(row, ids, root, request)
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[::2])), float(np.median(seconds[1::2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", default=["mlp", "cnn", "tabular"], choices=["mlp", "cnn", "tabular"])
    parser.add_argument("--methods", nargs="+", default=["random", "tpe", "bayes", "hypergradient", "chain"])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="number of the first data split")
    parser.add_argument("--seed", type=int, default=0, help="another one for other searches of the same splits")
    parser.add_argument("--trials", type=int, default=200, help="of the methods without gradients")
    parser.add_argument("--share", type=int, default=5, help="methods with gradients get 1/share of the trainings")
    parser.add_argument(
        "--results", type=Path, help="folder that keeps finished searches; what is there is not run again"
    )
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.splits, args.trials = 1, 20
    for name in args.problems:
        compare(name, args)


def compare(name: str, args: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, Any]]] = {m: [] for m in args.methods}
    gradients = [m for m in args.methods if m not in ("random", "tpe", "bayes", "pso")]
    few = args.trials // args.share
    for split in range(args.first, args.first + args.splits):
        task, where, count = problem(name, split, args.quick)
        fixed, unseen = FixedSeeds(task, seeds(5, count)), FixedSeeds(task, seeds(77, FRESH))
        made, judge = strategies(args.methods, few), jhpo.Population(unseen, where, chunk=1)
        for method in args.methods:
            again = f"-seed{args.seed}" if args.seed else ""
            kept = args.results and args.results / f"{name}-{split}-{method}-{args.trials}{again}.npz"
            if kept and kept.exists():
                runs[method].append(dict(np.load(kept)))
                continue
            # a chain's short trainings do not count in full: so many trials are more than enough
            trials = few + max(few, 8) * (method == "chain") if method in gradients else args.trials
            run = search(method, made.get(method), fixed, where, trials, split + 1000 * args.seed)
            best = run["units"][int(np.argmin(np.where(run["cost"] <= args.trials, run["values"], np.inf)))]
            run["unseen"] = judge.evaluate(best[None], np.arange(1), jax.random.key(0)).value[0]
            runs[method].append(run)
            if kept:
                args.results.mkdir(exist_ok=True, parents=True)
                np.savez(kept, **run)
    plain, grad = gradient_cost(fixed, where, 3 if args.quick else 15)
    print(f"\n{name}: {where.dim} hyperparameters, {task.steps} steps x {count} seeds a trial, {args.splits} splits")
    print(f"one trial {1e3 * plain:.1f} ms, with its gradient {1e3 * grad:.1f} ms: {grad / plain:.2f} times")
    print(f"{'method':14s} {'trainings':>9s} {'loss':>10s} {f'after {few}':>10s} {'unseen':>8s} {'s':>7s}  splits")
    for method, group in runs.items():
        total = few if method in gradients else args.trials
        finals = [at(r, total) for r in group]
        early, new = np.mean([at(r, few) for r in group]), np.mean([r["unseen"] for r in group])
        each = " ".join(f"{f:.4f}" for f in finals)
        secs = np.mean([r["seconds"] for r in group])
        print(f"{method:14s} {total:9d} {np.mean(finals):10.4f} {early:10.4f} {new:8.4f} {secs:7.1f}  {each}")
    for method in gradients:
        for other in (m for m in args.methods if m not in gradients):
            goals = [at(r, args.trials) for r in runs[other]]
            needed = [reached(r, g) for r, g in zip(runs[method], goals)]
            mean = np.mean([np.interp(np.arange(1, few + 1), r["cost"], r["best"]) for r in runs[method]], axis=0)
            whole = np.flatnonzero(mean <= np.mean(goals))
            text = f"its mean after {whole[0] + 1} trainings" if len(whole) else "not its mean"
            wins = sum(n <= few for n in needed)
            print(f"{method} reached {other}'s best of {args.trials} within {few} in {wins} of {len(goals)}; {text}")


if __name__ == "__main__":
    main()
