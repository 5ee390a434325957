"""Runs peers in their own Python on objectives that stay where they are: every evaluation is a line out and a line in.

`bayes_quality.py` starts it with the path of a script of peers, whose problems it replaces. Each line read begins a
run, ``{"peer", "problem", "budget", "seed", "dims"}``; then ``{"configuration": ...}`` goes out and a value comes back,
until the line with the finished run goes out. The interpreter, with its slow imports, lives for many runs.
"""

from __future__ import annotations

import json
import runpy
import sys
import types
from typing import Any


class Remote:
    """A problem as the peers know it."""

    def __init__(self, dims: list[dict[str, Any]]) -> None:
        self.dims = dims

    def f(self, configuration: dict[str, Any]) -> float:
        """The value, from the other process."""
        print(json.dumps({"configuration": configuration}, default=lambda v: v.item()), flush=True)
        return float(sys.stdin.readline())


def main() -> None:
    script, *batch = sys.argv[1:]
    problems = sys.modules["problems"] = types.ModuleType("problems")
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        problems.get = lambda _, dims=request["dims"]: Remote(dims)  # type: ignore[attr-defined]
        wanted = (request[k] for k in ("peer", "problem", "budget", "seed"))
        sys.argv = [script, *map(str, wanted), *batch]
        runpy.run_path(script, run_name="__main__")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
