"""The programs of docs/clusters.md, each in two local processes with the environment that SLURM gives."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jhpo
from tests.evaluation.pairs import outputs

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"
MINE = """
import os
import time

import jax
import numpy as np
import optax

import jhpo

space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})


def train(params, trial):  # takes a moment, so that both workers get some
    for step in range(3):
        time.sleep(0.02)
        trial.report(step, (params["lr"] - 0.1) ** 2)
    return (params["lr"] - 0.1) ** 2


x = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
model = (lambda key, x: {"w": 0.3 * jax.random.normal(key, (5, 2))}, lambda p, x: x @ p["w"])
data = (x, (x[:, 0] > 0).astype(np.int32))
task = jhpo.supervised(model, lambda hp: optax.adam(hp["lr"]), train=data, valid=data, batch_size=8, steps=20)
"""


def recipe(name: str) -> str:
    """The program of that name in the page."""
    (found,) = re.findall(rf"```text\n# {re.escape(name)}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return found


def in_two_processes(program: str, folder: Path, **more: str) -> list[str]:
    """Run a program twice, as SLURM does on one node; what each printed."""
    (folder / "mine.py").write_text(MINE)
    (folder / "program.py").write_text(program)
    # JAX derives the coordinator's port from the number of the job
    slurm = {"SLURM_JOB_ID": str(random.randrange(10**6)), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    running = []
    for number in range(2):
        own = {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number), "JAX_PLATFORMS": "cpu"}
        running.append(
            subprocess.Popen(
                [sys.executable, "program.py"], cwd=folder, env=os.environ | slurm | own | more, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    return outputs(running)


@pytest.mark.slow
def test_workers_share_a_budget(tmp_path):
    program = recipe("worker.py").replace('"bayes"', '"random"').replace("budget=500", "budget=40")
    in_two_processes(program, tmp_path, STUDY_URL=str(tmp_path / "study.db"))
    with jhpo.Study.load(tmp_path / "study.db", read_only=True) as study:
        assert study.evaluations == len(study) == 40 and not study.failures
        assert all(len(study[number].curve) == 3 for number in range(40))
        assert study.best.value < 0.01


@pytest.mark.slow
def test_a_population_over_two_processes_and_again_after_a_requeue(tmp_path):
    program = recipe("population.py")
    first = in_two_processes(program.replace("budget=96", "budget=64"), tmp_path)
    assert "lr" in first[0] and "lr" not in first[1]  # process 0 alone prints
    in_two_processes(program, tmp_path)
    with jhpo.Study.load(tmp_path / "study.db", read_only=True) as study:
        assert study.evaluations == 96
        stored = study.history.table.value.array.tolist()
    (tmp_path / "whole").mkdir()
    in_two_processes(program, tmp_path / "whole")
    with jhpo.Study.load(tmp_path / "whole" / "study.db", read_only=True) as study:
        assert study.history.table.value.array.tolist() == stored  # no bit differs
