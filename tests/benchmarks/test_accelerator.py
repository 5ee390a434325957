"""The prepared run for accelerators works on the day: at tiny sizes, from a bare checkout, and when parts break."""

import functools
import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jhpo
from tests.selection import slow_except

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "accelerator.py"


def run(tmp_path, *options, script=SCRIPT):
    output = tmp_path / "figures.jsonl"
    done = subprocess.run(
        [sys.executable, str(script), "--tiny", "--output", str(output), *options], capture_output=True, text=True
    )
    return done, [json.loads(line) for line in output.read_text().splitlines()]


def test_parts_run_and_every_figure_is_a_line(tmp_path):
    done, lines = run(tmp_path, "--parts", "device", "populations")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line["part"] for line in lines if line["event"] == "end"] == ["device", "populations"]
    assert next(line for line in lines if line.get("what") == "machine")["device"]
    assert all(line["failed_members"] == 0 for line in lines if "failed_members" in line)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + sum(line["event"] == "figure" for line in lines)


def test_the_strategies_whose_points_are_compared_search_a_function(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    searches = importlib.import_module("accelerator_checks").searches()
    assert {"pso", "cmaes", "bayes", "nsga3"} <= set(searches)
    for strategy, objective, space, _ in searches.values():
        jax.eval_shape(functools.partial(jhpo.run, strategy, objective, space, 1), jax.random.key(0))


BROKEN = {
    "raises": ("raise ValueError('on purpose')", "on purpose"),
    "dies": ("import os; os._exit(7)", "status 7"),
    "hangs": ("import time; time.sleep(600)", "status 1"),
}


@pytest.mark.parametrize("kind", slow_except({"raises"}, BROKEN))
def test_a_broken_part_is_recorded_and_the_later_ones_run(tmp_path, kind):
    statement, said = BROKEN[kind]
    for name in ("accelerator.py", "accelerator_tasks.py", "accelerator_speed.py", "accelerator_checks.py"):
        text = (SCRIPT.parent / name).read_text()
        if name == "accelerator_speed.py":
            sizes = "    steps, counts = (5, (8, 16))"
            text = text.replace(sizes, f"    {statement}\n{sizes}")
        if name == "accelerator.py":
            text = text.replace("HERE.parent\n", f"Path({str(ROOT)!r})\n").replace("GRACE = 10.0", "GRACE = 0.5")
            if kind == "hangs":
                text = text.replace('Part("accelerator_speed", 90)', 'Part("accelerator_speed", 4)')
        (tmp_path / name).write_text(text)
    done, lines = run(tmp_path, "--parts", "populations", "device", script=tmp_path / "accelerator.py")
    assert done.returncode == 1
    (failure,) = [line for line in lines if line["event"] == "failure"]
    assert (
        failure["part"] == "populations"
        and said in failure["error"]
        and (kind == "dies" or "line" in failure["traceback"])
    )
    assert any(line["part"] == "device" and line.get("what") == "copy" for line in lines)
    assert "**failed**" in done.stdout


@pytest.mark.slow
def test_all_parts(tmp_path):
    done, lines = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line.get("holds", True) for line in lines)
