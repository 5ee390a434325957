"""Anytime regret on learning curves: LCBench's surrogates with the epoch as the fidelity, beside Optuna.

    python benchmarks/multifidelity_curves.py --yahpo DIR                       # 8 instances, 2 seeds
    python benchmarks/multifidelity_curves.py --yahpo DIR --only freeze-thaw top-k

A training is 52 epochs; every contestant may spend the epochs of so many whole trainings, and what counts is the best
validation accuracy that it has seen, at any epoch, after 10, 30 and 100 % of them. The regret is its distance from the
best that anybody saw on the instance (2,048 random whole trainings among them), in units of the distance between that
and the median of random trainings. Contestants:
- `random`, `bayes`: whole trainings; `BayesOpt` one at a time;
- `median`, `forecast`: `BayesOpt` four at a time, with `early_stop=` by these rules;
- `top-k`: one epoch of many, the best of them trained to the end (arXiv 2307.15422), the floor for what models curves;
- `hyperband`, `bohb-like` (with `BayesOpt` as the proposer), `freeze-thaw`: ours, inside one jitted program each,
  instances and seeds side by side;
- `optuna`: TPE with HyperbandPruner, an epoch reported at a time; `smac`: its multi-fidelity facade; `dehb`.

With `--found FILE` results are kept as JSON lines: contestants that are there are not run again, so peers may run in a
Python of their own.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from multifidelity_peers import PEERS
from surrogates import scenario

import jhpo

EPOCHS, TRAININGS = 52, 30
SHARES = (0.1, 0.3, 1.0)
INSTANCES = ("3945", "126026", "146212", "167104", "167168", "168868", "189866", "189908")


@functools.partial(jax.tree_util.register_dataclass, data_fields=["instance"], meta_fields=["objective"])
class Curve:
    """A training that the surrogate stands for: its state is the number of epochs."""

    steps = EPOCHS

    def __init__(self, instance: Any, objective: Any) -> None:
        self.instance, self.objective = instance, objective

    def init(self, hp: Any, key: jax.Array) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def step(self, hp: Any, epoch: jax.Array, t: jax.Array) -> jax.Array:
        return epoch + 1

    def evaluate(self, hp: Any, epoch: jax.Array) -> jax.Array:
        return self.objective({**hp, "epoch": epoch.astype(jnp.float32)}, self.instance)


def best_after(spent: np.ndarray, value: np.ndarray) -> np.ndarray:
    """``float[..., shares]``: the lowest value among those that had been seen when a share of the epochs was spent."""
    best = np.minimum.accumulate(value, axis=-1)
    at = [np.searchsorted(spent, share * EPOCHS * TRAININGS + 0.5, side="right") - 1 for share in SHARES]
    return np.stack([best[..., max(k, 0)] for k in at], axis=-1)


def inside(strategy: Any, generations: int, space: Any, objective: Any, rows: Any, seeds: int) -> np.ndarray:
    """Searches of `jhpo.run`, all instances and seeds in one program: ``float[instances, seeds, shares]``."""

    def search(row: jax.Array, seed: jax.Array) -> Any:
        return jhpo.run(strategy, Curve(row, objective), space, generations, jax.random.key(seed))[1]

    program = jax.jit(jax.vmap(jax.vmap(search, (None, 0)), (0, None)))
    trace = jax.block_until_ready(program(rows, np.arange(seeds)))
    if not isinstance(trace, jhpo.Trace):
        rungs = strategy.lasting(EPOCHS).rungs(EPOCHS)
        # generations in their order: round by round, rung by rung
        order = sorted((g * len(rungs) + k, k, g) for k, t in enumerate(trace) for g in range(t.value.shape[2]))
        value = [np.asarray(trace[k].value[:, :, g]) for _, k, g in order]
        cost = [rungs[k].size * (rungs[k].stop - rungs[k].start) for _, k, _ in order]
    else:
        each = strategy.lasting(EPOCHS).interval if isinstance(strategy, jhpo.FreezeThaw) else EPOCHS
        value = list(np.moveaxis(np.asarray(trace.value), 2, 0))
        cost = [each * trace.value.shape[-1]] * len(value)
    lowest = np.stack([np.nanmin(np.where(np.isfinite(v), v, np.inf), axis=-1) for v in value], axis=-1)
    return best_after(np.cumsum(cost), lowest)


def top_k(space: Any, objective: Any, rows: Any, seeds: int, share: float = 0.5) -> np.ndarray:
    """Half of the epochs for one epoch each, the other half for the best of these to the end."""
    many = int(share * EPOCHS * TRAININGS)
    k = int((EPOCHS * TRAININGS - many) // (EPOCHS - 1))

    def search(row: jax.Array, seed: jax.Array) -> jax.Array:
        curve, units = Curve(row, objective), space.sample_unit(jax.random.key(seed), many)

        def at(units: jax.Array, epoch: float) -> jax.Array:
            return jax.vmap(lambda u: curve.evaluate(space.from_unit(u), jnp.float32(epoch)))(units)

        first = at(units, 1.0)
        _, chosen = jax.lax.top_k(-first, k)
        return jnp.concatenate([first, at(units[chosen], float(EPOCHS))])

    value = np.asarray(jax.jit(jax.vmap(jax.vmap(search, (None, 0)), (0, None)))(rows, np.arange(seeds)))
    return best_after(np.cumsum([1] * many + [EPOCHS - 1] * k), value)


def bayes(space: Any, objective: Any, row: Any, seed: int) -> np.ndarray:
    """Whole trainings chosen by `BayesOpt`, one at a time."""
    result = jhpo.minimize(Curve(row, objective), space, jhpo.BayesOpt(), budget=TRAININGS, seed=seed)
    return best_after(EPOCHS * np.arange(1, TRAININGS + 1), result.history.value)


def stopped(space: Any, objective: Any, row: Any, seed: int, rule: str) -> np.ndarray:
    """`BayesOpt` with a rule that stops trainings, until the epochs are spent."""
    batch, total = 4, EPOCHS * TRAININGS
    result = jhpo.minimize(
        Curve(row, objective), space, jhpo.BayesOpt(batch=batch), budget=4 * TRAININGS, seed=seed, early_stop=rule
    )
    value = result.curves.value.reshape(-1, batch, len(result.curves.steps))
    parts = np.diff(result.curves.steps, prepend=0)
    spent = np.cumsum(np.isfinite(value).sum(axis=1) * parts[None, :])
    assert spent[-1] >= total, "the budget of members ended before the epochs"
    return best_after(spent, np.nanmin(np.where(np.isfinite(value), value, np.inf), axis=1).reshape(-1))


def main() -> None:
    """Print a table, and a line of JSON for each contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yahpo", type=Path, required=True, help="folder of YAHPO Gym's data")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--instances", nargs="+", default=list(INSTANCES))
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--found", type=Path, help="file of results to read and to add to")
    options = parser.parse_args()
    space, objective, numbers = scenario(options.yahpo, "lcbench")
    rows = np.asarray([numbers[name] for name in options.instances], np.int32)
    total, seeds = EPOCHS * TRAININGS, options.seeds

    def whole(row: jax.Array) -> jax.Array:
        units = space.sample_unit(jax.random.key(999), 2048)
        return jax.vmap(lambda u: Curve(row, objective).evaluate(space.from_unit(u), jnp.float32(EPOCHS)))(units)

    curves = jax.jit(
        lambda row, u: jax.vmap(lambda e: Curve(row, objective).evaluate(space.from_unit(u), e))(
            jnp.arange(1, EPOCHS + 1, dtype=jnp.float32)
        )
    )
    halving = {"eta": 3, "min_steps": 2}
    cycle = sum(r.size * (r.stop - r.start) for r in jhpo.Hyperband(27, **halving).rungs(EPOCHS))
    rounds = -(-total // cycle) * len(jhpo.Hyperband(27, **halving).rungs(EPOCHS))
    contestants: dict[str, Any] = {
        "random": lambda: inside(jhpo.RandomSearch(1), TRAININGS, space, objective, rows, seeds),
        "top-k": lambda: top_k(space, objective, rows, seeds),
        "hyperband": lambda: inside(jhpo.Hyperband(27, **halving), rounds, space, objective, rows, seeds),
        "freeze-thaw": lambda: inside(
            jhpo.FreezeThaw(4, interval=2, capacity=128), total // 8, space, objective, rows, seeds
        ),
        "bayes": lambda: np.stack([[bayes(space, objective, r, s) for s in range(seeds)] for r in rows]),
        **{
            rule: lambda rule=rule: np.stack(
                [[stopped(space, objective, r, s, rule) for s in range(seeds)] for r in rows]
            )
            for rule in ("median", "forecast")
        },
        "bohb-like": lambda: inside(
            jhpo.Hyperband(27, **halving, proposer=jhpo.BayesOpt(batch=9)), rounds, space, objective, rows, seeds
        ),
        **{
            name: lambda peer=peer: np.stack(
                [
                    [peer(space, functools.partial(curves, r), best_after, EPOCHS, total, s) for s in range(seeds)]
                    for r in rows
                ]
            )
            for name, peer in PEERS.items()
        },
    }
    baseline = np.asarray(jax.jit(jax.vmap(whole))(rows))
    found, seconds = {}, {}
    if options.found and options.found.exists():
        for line in map(json.loads, options.found.read_text().splitlines()):
            if line["instances"] == list(options.instances) and line["seeds"] == seeds:
                found[line["who"]], seconds[line["who"]] = np.asarray(line["best"]), line["seconds"]
    for name in options.only or contestants:
        if name in found:
            continue
        begin = time.perf_counter()
        found[name] = contestants[name]()
        seconds[name] = time.perf_counter() - begin
        print(name, f"{seconds[name]:.0f} s", flush=True)
        if options.found:
            line = {"who": name, "instances": list(options.instances), "seeds": seeds, "seconds": seconds[name]}
            with options.found.open("a") as file:
                file.write(json.dumps({**line, "best": found[name].tolist()}) + "\n")
    lowest = np.minimum(baseline.min(axis=1), np.min([v.min(axis=(1, 2)) for v in found.values()], axis=0))
    scale = np.median(baseline, axis=1) - lowest
    print(
        f"{len(rows)} instances, {seeds} seeds, {total} epochs ({TRAININGS} trainings); jax {jax.__version__}, "
        f"{platform.machine()}\n{'':12} regret after 10 %, 30 %, 100 % of the epochs; mean rank likewise; seconds"
    )
    regret = {name: (v - lowest[:, None, None]) / scale[:, None, None] for name, v in found.items()}
    ranks = np.argsort(np.argsort(np.stack(list(regret.values())), axis=0), axis=0).mean(axis=(1, 2)) + 1
    for (name, r), rank in zip(regret.items(), ranks):
        print(
            f"{name:12} " + "  ".join(f"{x:.4f}" for x in r.mean(axis=(0, 1))) + "   "
            + "  ".join(f"{x:.2f}" for x in rank) + f"   {seconds[name]:.0f}"
        )  # fmt: skip


if __name__ == "__main__":
    main()
