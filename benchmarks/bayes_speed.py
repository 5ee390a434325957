"""Speed of Bayesian optimisation beside BoTorch and Optuna's GP sampler, in the same run and thread setting.

    python benchmarks/bayes_speed.py --peers DIR --peers-python PYTHON           # everything
    python benchmarks/bayes_speed.py --parts studies --cpu-devices 2               # some parts; a device a core

Parts: ``study`` (seconds a suggestion over a study of 100 trials in 8 dimensions, fit included, compilation apart),
``long`` (a suggestion when 500 and 1,000 trials are known), ``fresh`` (first suggestion of a new process, with an
empty and a filled compilation cache), ``studies`` (64 studies of 50 trials under vmap and one after another),
``memory`` (peak at 1,000 and 10,000 trials; growth over 1,000 suggestions). The peers run in a Python of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import comparison
import jax
import numpy as np
import surrogates
from jax.sharding import PartitionSpec

import jhpo
from jhpo.programs.devices import AXIS, member_mesh
from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation

PARTS = ("study", "long", "fresh", "studies", "memory")
PROBLEM = "levy8"


def drive(driver: Driver, turns: int, units: np.ndarray | None = None, value: float = 1.0) -> list[float]:
    """Seconds of each of some turns; the objective is free of charge here."""
    seconds, result = [], Evaluation(value=np.full(1, value, np.float32))
    for _ in range(turns):
        start = time.perf_counter()
        units = driver.turn(units, result)
        seconds.append(time.perf_counter() - start)
        result = Evaluation(value=((units - 0.3) ** 2).sum(axis=1).astype(np.float32))
    return seconds


def study(options: argparse.Namespace) -> None:
    """100 trials: the first run compiles (its extra time is the compilation), the second is timed."""
    jhpo_lines = [
        comparison.run_jhpo("jhpo", jhpo.BayesOpt(), PROBLEM, None, options.trials, seed) for seed in range(3)
    ]
    mine = min(x["ask_s"] for x in jhpo_lines[1:]) / options.trials
    compiling = jhpo_lines[0]["ask_s"] - mine * options.trials
    print(f"a study of {options.trials}: jhpo {mine:.4f} s a suggestion, and {compiling:.1f} s of compilation")
    for peer in options.methods:
        command = [options.peers_python, "-W", "ignore", "-B", str((options.peers / "peers.py").resolve()), peer]
        line = comparison.run_peer([*command, PROBLEM, str(options.trials), "0"], options.peers)[-1]
        theirs = line["ask_s"] / options.trials
        print(f"a study of {options.trials}: {peer} {theirs:.4f} s a suggestion, jhpo / {peer} = {mine / theirs:.3f}")


def long(options: argparse.Namespace) -> None:
    """A suggestion with its share of fits, after so many known trials; every one is a turn of tell and ask."""
    for n in options.known:
        driver = Driver(jhpo.BayesOpt(), surrogates.get(PROBLEM).space, jax.random.key(0))
        known(driver, n - options.turns)
        drive(driver, 1)  # compiles, and begins to compile the next bucket in the background
        driver.ahead.wait()
        mine = float(np.mean(drive(driver, options.turns, np.full((1, 8), 0.5))))
        print(f"n = {n}: jhpo {mine:.3f} s a suggestion (mean of {options.turns}, fits included)")
        for peer in options.methods:
            script = str((Path(__file__).parent / "speed_peers.py").resolve())
            command = [options.peers_python, "-W", "ignore", "-B", script, peer, str(n), "3"]
            theirs = comparison.run_peer(command, options.peers)[-1]["seconds"]
            print(f"n = {n}: {peer} {theirs:.3f} s a suggestion, jhpo / {peer} = {mine / theirs:.3f}")


def known(driver: Driver, n: int) -> None:
    """Tell a strategy ``n`` results it did not ask for."""
    generator = np.random.default_rng(0)
    for _ in range(n):
        units = generator.random((1, 8))
        driver.absorb(units, Evaluation(value=((units - 0.3) ** 2).sum(axis=1), mask=np.ones(1, bool)))


_FRESH = """
import time; start = time.perf_counter()
import jax, numpy as np, jhpo
from jhpo.search.driver import Driver
imported = time.perf_counter()
space = jhpo.Space({f"x{i}": jhpo.Float(-10.0, 10.0) for i in range(8)})
Driver(jhpo.BayesOpt(), space, jax.random.key(0)).turn(None, jhpo.Evaluation(value=np.zeros(1, np.float32)))
print(imported - start, time.perf_counter() - imported)
"""


def fresh(options: argparse.Namespace) -> None:
    """The first suggestion of a new process, default threads: without and with a filled compilation cache."""
    environment = {k: v for k, v in os.environ.items() if k not in comparison.THREADS}
    with tempfile.TemporaryDirectory() as folder:
        cache = {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        for name in ("cold", "with the cache", "with the cache"):
            done = subprocess.run(
                [sys.executable, "-c", _FRESH], env={**environment, **cache}, capture_output=True, text=True, check=True
            )
            imports, first = map(float, done.stdout.split())
            print(f"fresh process, {name}: imports {imports:.2f} s, first suggestion {first:.2f} s")


def studies(options: argparse.Namespace) -> None:
    """64 studies of 50 trials: one compiled study called 64 times, one vmapped program, and that on all devices."""
    problem, count, trials = surrogates.get(PROBLEM), options.studies, 50
    mesh, rows = member_mesh(), PartitionSpec(AXIS)

    def one(key: jax.Array) -> jax.Array:
        return jhpo.run(jhpo.BayesOpt(), problem.objective, problem.space, trials, key)[1].value.min()

    keys = jax.random.split(jax.random.key(0), count)
    alone = jax.jit(one)
    forms = {"in a row": lambda ks: np.stack([alone(k) for k in ks]), "under vmap": jax.jit(jax.vmap(one))}
    if mesh.size > 1:
        spread = jax.shard_map(jax.vmap(one), mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False)
        forms[f"under vmap on {mesh.size} devices"] = jax.jit(spread)
    for form in forms.values():
        jax.block_until_ready(form(keys))
    reference = None
    for name, form in forms.items():
        start = time.perf_counter()
        found = np.asarray(form(keys))
        seconds = time.perf_counter() - start
        reference = reference or seconds
        print(f"{count} studies of {trials} trials {name}: {seconds:.2f} s, ratio {seconds / reference:.2f}, ", end="")
        print(f"median of the best {np.median(found):.3g}")


_MEMORY = "import sys; sys.path.insert(0, {here!r}); import bayes_speed; bayes_speed.peak({n})"


def peak(n: int) -> None:
    """In a process of its own: peak memory in MiB after ``n`` trials and a few suggestions."""

    def usage() -> float:  # not ru_maxrss: a process inherits that of the one it was started from
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

    driver = Driver(jhpo.BayesOpt(), surrogates.get(PROBLEM).space, jax.random.key(0))
    before = usage()
    known(driver, n)
    drive(driver, 3)
    print(json.dumps({"n": n, "before": before, "peak": usage()}))


def memory(options: argparse.Namespace) -> None:
    """Peaks in fresh processes; then growth over 1,000 suggestions of one process, in which nothing new compiles."""
    for n in (0, 1000, 10_000):
        code = _MEMORY.format(here=str(Path(__file__).parent), n=n)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        line = json.loads(done.stdout)
        print(f"memory, n = {n}: {line['before']:.0f} MiB after the imports, peak {line['peak']:.0f} MiB")
    strategy = jhpo.BayesOpt(capacity=64)
    space = surrogates.get(PROBLEM).space
    with jax.enable_x64(True):
        state = jax.jit(strategy.init)(space, jax.random.key(0))
        ask = jax.jit(lambda s, st, key: s.ask(st, key))
        rss = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20  # noqa: E731
        for i in range(1100):
            if i == 100:
                start = rss()
            _, state = jax.block_until_ready(ask(strategy, state, jax.random.key(i)))
    print(f"memory, resident: {rss() - start:+.1f} MiB over 1,000 suggestions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--peers", type=Path, help="folder of peers.py and problems.py; jhpo alone without it")
    parser.add_argument("--peers-python", help="interpreter in which the peers are installed")
    parser.add_argument("--methods", nargs="*", default=["botorch", "optuna_gp"])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--known", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--turns", type=int, default=16)
    parser.add_argument("--studies", type=int, default=64)
    parser.add_argument("--cpu-devices", type=int, default=1, help="of part studies: devices the CPU is shown as")
    options = parser.parse_args()
    comparison.fix_threads()
    if options.cpu_devices > 1:
        jax.config.update("jax_num_cpu_devices", options.cpu_devices)
    if not (options.peers and options.peers_python):
        print("no peers: --peers DIR --peers-python PYTHON were not given")
        options.methods = []
    for part in options.parts:
        globals()[part](options)


if __name__ == "__main__":
    main()
