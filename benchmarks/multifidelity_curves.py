"""Anytime regret on learning curves: LCBench's surrogates with the epoch as the fidelity, beside Optuna.

    python benchmarks/multifidelity_curves.py --yahpo DIR                       # 8 instances, 3 seeds
    python benchmarks/multifidelity_curves.py --yahpo DIR --only freeze-thaw top-k
    python benchmarks/multifidelity_curves.py --yahpo DIR --instances choose --only random \
        --also "mine=freeze-thaw(batch=2, interval=1, capacity=128)"

A training is 52 epochs; every contestant may spend the epochs of so many whole trainings, and what counts is the best
validation accuracy that it has seen, at any epoch, after 10, 30 and 100 % of them. The regret is its distance from the
best that anybody saw on the instance (2,048 random whole trainings among them), in units of the distance between that
and the median of random trainings. Contestants:
- `random`, `bayes`: whole trainings; `BayesOpt` one at a time;
- `median`, `forecast`: `BayesOpt` four at a time, with `early_stop=` by these rules;
- `top-k`: one epoch of many, the best of them trained to the end (arXiv 2307.15422), the floor for what models curves;
- `hyperband`, `bohb-like` (with `BayesOpt` as the proposer), `asha`, `asha-bayes` (likewise), `freeze-thaw`: ours,
  inside one jitted program each, instances and seeds side by side;
- `optuna`: TPE with HyperbandPruner, an epoch reported at a time; `smac`: its multi-fidelity facade; `dehb`.

With `--found FILE` results are kept as JSON lines, one for each search: what is there is not run again, so peers may
run in a Python of their own. Defaults are chosen on the instances `choose`; `confirm`, where the peers run, has no part
in it. `--also NAME=STRATEGY` adds contestants that are written as for `jhpo tune --strategy`.
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
from jhpo.strategies import strategy_from_text

EPOCHS, TRAININGS = 52, 30
SHARES = (0.1, 0.3, 1.0)
INSTANCES = {
    "confirm": ("3945", "126026", "146212", "167104", "167168", "168868", "189866", "189908"),
    "choose": (
        "7593", "34539", "126025", "167083", "167149", "167152", "167161", "168329", "168908", "168910", "189354",
        "189905", "189906", "189909",
    ),
}  # fmt: skip


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


def inside(
    strategy: Any, generations: int, together: bool, space: Any, objective: Any, rows: Any, seeds: Any
) -> np.ndarray:
    """Searches of `jhpo.run`: ``float[instances, seeds, shares]``.

    Together they are one program; one after the other where a vmapped condition would cost what both branches do.
    """

    def search(row: jax.Array, seed: jax.Array) -> Any:
        return jhpo.run(strategy, Curve(row, objective), space, generations, jax.random.key(seed))[1]

    if together:
        program = jax.jit(jax.vmap(jax.vmap(search, (None, 0)), (0, None)))
        trace = jax.block_until_ready(program(rows, seeds))
    else:
        alone = jax.jit(search)
        each = [jax.tree.map(np.asarray, alone(row, seed)) for row in rows for seed in seeds]
        trace = jax.tree.map(lambda *x: np.stack(x).reshape(len(rows), len(seeds), *x[0].shape), *each)
    if not isinstance(trace, jhpo.Trace):
        rungs = strategy.lasting(EPOCHS).rungs(EPOCHS)
        # generations in their order: round by round, rung by rung
        order = sorted((g * len(rungs) + k, k, g) for k, t in enumerate(trace) for g in range(t.value.shape[2]))
        value = [np.asarray(trace[k].value[:, :, g]) for _, k, g in order]
        cost = [rungs[k].size * (rungs[k].stop - rungs[k].start) for _, k, _ in order]
    else:
        interval = strategy.lasting(EPOCHS).interval if strategy.thaws else EPOCHS
        value = list(np.moveaxis(np.asarray(trace.value), 2, 0))
        cost = [interval * trace.value.shape[-1]] * len(value)
    lowest = np.stack([np.nanmin(np.where(np.isfinite(v), v, np.inf), axis=-1) for v in value], axis=-1)
    return best_after(np.cumsum(cost), lowest)


def top_k(space: Any, objective: Any, rows: Any, seeds: Any, share: float = 0.5) -> np.ndarray:
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

    value = np.asarray(jax.jit(jax.vmap(jax.vmap(search, (None, 0)), (0, None)))(rows, seeds))
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


def contestants(also: list[str]) -> dict[str, Any]:
    """By name: a function of space, objective, rows and seeds that gives ``float[instances, seeds, shares]``."""
    total, halving = EPOCHS * TRAININGS, {"eta": 3, "min_steps": 2}

    def generations(strategy: Any) -> int:
        """As many as spend the epochs."""
        if strategy.thaws:
            return total // (strategy.lasting(EPOCHS).interval * strategy.batch)
        if not strategy.pauses:
            return total // (EPOCHS * strategy.population)
        rungs = strategy.lasting(EPOCHS).rungs(EPOCHS)
        return -(-total // sum(r.size * (r.stop - r.start) for r in rungs)) * len(rungs)

    def ours(strategy: Any, together: bool = True) -> Any:
        return functools.partial(inside, strategy, generations(strategy), together)

    def one_by_one(search: Any, *options: Any) -> Any:
        return lambda space, objective, rows, seeds: np.stack(
            [[search(space, objective, row, int(seed), *options) for seed in seeds] for row in rows]
        )

    def peer(search: Any) -> Any:
        def found(space: Any, objective: Any, row: Any, seed: int) -> np.ndarray:
            @jax.jit
            def curve(unit: jax.Array) -> jax.Array:
                hp, epochs = space.from_unit(unit), jnp.arange(1, EPOCHS + 1)
                return jax.vmap(lambda epoch: Curve(row, objective).evaluate(hp, epoch))(epochs)

            return search(space, lambda unit: np.asarray(curve(unit)), best_after, EPOCHS, total, seed)

        return one_by_one(found)

    return {
        "random": ours(jhpo.RandomSearch(1)),
        "top-k": top_k,
        "hyperband": ours(jhpo.Hyperband(27, **halving)),
        "bohb-like": ours(jhpo.Hyperband(27, **halving, proposer=jhpo.BayesOpt(batch=9)), together=False),
        "asha": ours(jhpo.ASHA(**halving, batch=4)),
        "asha-bayes": ours(
            jhpo.ASHA(**halving, batch=4, capacity=384, proposer=jhpo.BayesOpt(batch=9)), together=False
        ),
        "freeze-thaw": ours(jhpo.FreezeThaw(4, interval=2, capacity=128, effort=TRAININGS / 128), together=False),
        "bayes": one_by_one(bayes),
        "median": one_by_one(stopped, "median"),
        "forecast": one_by_one(stopped, "forecast"),
        **{name: peer(search) for name, search in PEERS.items()},
        **{name: ours(strategy_from_text(text)) for name, text in (each.split("=", 1) for each in also)},
    }


def stored(file: Path | None) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The searches of a file, by contestant, instance and seed."""
    if file is None or not file.exists():
        return {}
    lines = map(json.loads, file.read_text().splitlines())
    return {(line["who"], line["instance"], line["seed"]): line for line in lines}


def report(found: dict[str, np.ndarray], baseline: np.ndarray) -> None:
    """Print accuracies, regrets and ranks: means over instances of the means over seeds, and their standard errors.

    Args:
        found: ``float[instances, seeds, shares]`` of each contestant.
        baseline: ``float[instances, n]``, random whole trainings.
    """
    everybody = np.stack(list(found.values()))
    lowest = np.minimum(baseline.min(axis=1), everybody.min(axis=(0, 2, 3)))
    scale = np.median(baseline, axis=1) - lowest
    regret = (everybody - lowest[None, :, None, None]) / scale[None, :, None, None]
    below = (everybody[None] < everybody[:, None]).sum(axis=1)
    level = (everybody[None] == everybody[:, None]).sum(axis=1)
    rank = 1.0 + below + 0.5 * (level - 1.0)  # those that are level share the mean of their ranks

    def columns(values: np.ndarray, digits: int) -> str:
        each = values.mean(axis=1)  # [instances, shares]
        error = each.std(axis=0, ddof=1) / len(each) ** 0.5 if len(each) > 1 else np.full(len(SHARES), np.nan)
        return "  ".join(f"{m:6.{digits}f} +- {e:.{digits}f}" for m, e in zip(each.mean(axis=0), error))

    print(f"{'':14} accuracy in %, regret, rank (of {len(found)}) after 10 %, 30 %, 100 % of the epochs")
    for k, name in enumerate(found):
        parts = columns(-everybody[k], 2), columns(regret[k], 4), columns(rank[k], 2)
        print(f"{name:14} " + " | ".join(parts))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yahpo", type=Path, required=True, help="folder of YAHPO Gym's data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--instances", nargs="+", default=["confirm"], help="choose, confirm, or numbers")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--also", nargs="+", default=[], metavar="NAME=STRATEGY")
    parser.add_argument("--found", type=Path, help="file of searches to read and to add to")
    options = parser.parse_args()
    space, objective, numbers = scenario(options.yahpo, "lcbench")
    names = [name for given in options.instances for name in INSTANCES.get(given, (given,))]
    known, searches = stored(options.found), contestants(options.also)
    shape = len(names), options.seeds, len(SHARES)
    found = {}
    for who in options.only or list(searches):
        missing = [n for n in names if any((who, n, seed) not in known for seed in range(options.seeds))]
        seeds = [seed for seed in range(options.seeds) if any((who, n, seed) not in known for n in missing)]
        # programs of many searches serve all instances at once; what runs one by one is stored one by one
        for part in [missing] if missing and who not in PEERS else [[name] for name in missing]:
            begin = time.perf_counter()
            rows = np.asarray([numbers[name] for name in part], np.int32)
            values = searches[who](space, objective, rows, np.asarray(seeds, np.int32))
            seconds = (time.perf_counter() - begin) / values[..., 0].size
            print(who, *part, f"{seconds:.1f} s a search", flush=True)
            for name, each in zip(part, values):
                for seed, best in zip(seeds, each.tolist()):
                    line = {"who": who, "instance": name, "seed": seed, "best": best, "seconds": round(seconds, 2)}
                    known[who, name, seed] = line
                    if options.found:
                        with options.found.open("a") as file:
                            file.write(json.dumps(line) + "\n")
        best = [known[who, name, seed]["best"] for name in names for seed in range(options.seeds)]
        found[who] = np.asarray(best).reshape(shape)

    def whole(row: jax.Array) -> jax.Array:
        units = space.sample_unit(jax.random.key(999), 2048)
        return jax.vmap(lambda u: Curve(row, objective).evaluate(space.from_unit(u), jnp.float32(EPOCHS)))(units)

    rows = np.asarray([numbers[name] for name in names], np.int32)
    baseline = np.asarray(jax.jit(lambda rows: jax.lax.map(whole, rows))(rows))
    print(
        f"{len(names)} instances, {options.seeds} seeds, {EPOCHS * TRAININGS} epochs ({TRAININGS} trainings); "
        f"jax {jax.__version__}, {platform.machine()}"
    )
    report(found, baseline)


if __name__ == "__main__":
    main()
