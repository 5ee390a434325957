"""Runs of searches on the development problems, as JSON lines: jhpo's in this process, peers' through `bayes_bridge`.

A line is ``{"peer", "problem", "seed", "n", "ask_s", "ys"}``: the values in order of evaluation and the seconds spent
suggesting; ``"q"`` is the batch size, 1 if absent, and ``"truth"`` the values without noise, where there is any.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from bayes_problems import Task

import jhpo
from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation, Strategy

Line = dict[str, Any]


def _line(label: str, task: Task, seed: int, q: int, seconds: float, units: list[np.ndarray], ys: list[float]) -> Line:
    line = dict(peer=label, problem=task.name, seed=seed, n=len(ys), ask_s=round(seconds, 3), ys=_rounded(ys))
    line |= {} if q == 1 else {"q": q}
    if task.truth is None:
        return line
    truth = np.concatenate([task.truth(some) for some in units])
    return line | {"truth": _rounded(truth[: len(ys)])}


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [float(f"{float(v):.7g}") for v in values]


def run_jhpo(label: str, strategy: Strategy, task: Task, budget: int, seed: int) -> Line:
    """One search as `jhpo.minimize` drives it: one program a generation, on the host."""
    if type(strategy).grow is Strategy.grow:  # as minimize does
        strategy = strategy.prepare(budget)
    driver = Driver(strategy, task.space, jax.random.key(seed))
    driver.ahead.compile = lambda *_: None  # type: ignore[method-assign]  # it ends before its buffers do
    ys: list[float] = []
    asked: list[np.ndarray] = []
    units, result, seconds = None, Evaluation(value=np.zeros(strategy.population, np.float32)), 0.0
    while len(ys) < budget:
        start = time.perf_counter()
        units = driver.turn(units, result)
        seconds += time.perf_counter() - start
        result = Evaluation(value=task.told(units))
        asked.append(units)
        ys += [float(v) for v in result.value]
    return _line(label, task, seed, strategy.population, seconds, asked, ys[:budget])


def random_search(task: Task, budget: int, seed: int) -> Line:
    """Random points."""
    units = [unit[None] for unit in np.asarray(task.space.sample_unit(jax.random.key(seed), budget))]
    return _line("random", task, seed, 1, 0.0, units, [float(task.told(unit)[0]) for unit in units])


class Peers:
    """An interpreter with peers in it, run by run.

    Args:
        python: the interpreter. script: ``peers.py PEER PROBLEM BUDGET SEED [BATCH]``, which imports ``problems``.
        batch: points a generation.
    """

    def __init__(self, python: str, script: Path, batch: int = 1) -> None:
        bridge = str(Path(__file__).with_name("bayes_bridge.py"))
        command = [python, "-W", "ignore", "-B", bridge, str(script.resolve()), *([str(batch)] if batch > 1 else [])]
        environment = {**os.environ, "PYTHONPATH": str(script.resolve().parent)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self._batch = batch

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def run(self, peer: str, task: Task, budget: int, seed: int) -> Line:
        """One search by a peer. Raises RuntimeError if its process ended; what it said is on the screen."""
        request = dict(peer=peer, problem=task.name, budget=budget, seed=seed, dims=dimensions(task.space))
        self._say(json.dumps(request))
        units: list[np.ndarray] = []
        assert self._process.stdout is not None
        for text in self._process.stdout:
            if not text.startswith("{"):
                continue
            said = json.loads(text)
            if "configuration" not in said:
                return _line(peer, task, seed, self._batch, said["ask_s"], units, said["ys"])
            configuration = {name.replace(".", "_"): value for name, value in said["configuration"].items()}
            units.append(task.space.encode_some(configuration)[None])
            self._say(repr(float(task.told(units[-1])[0])))
        raise RuntimeError(f"{peer} on {task.name}: its process ended with {self._process.wait()}")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def dimensions(space: jhpo.Space) -> list[dict[str, Any]]:
    """The parameters of a flat space as the peers describe them, parents first."""
    entries = []
    for j in space.order:
        parameter = space.parameters[j]
        entry: dict[str, Any] = {"name": space.names[j]}
        if isinstance(parameter, jhpo.Choice):
            entry |= {"kind": "cat", "choices": list(parameter.choices)}
        else:
            integer = isinstance(parameter, jhpo.Int)
            log = parameter.log if integer else parameter.scale == "log"
            entry |= {"kind": "int" if integer else "float", "low": parameter.low, "high": parameter.high, "log": log}
        if parameter.when:
            ((parent, values),) = parameter.when
            entry["cond"] = [parent, list(values)]
        entries.append(entry)
    return entries
