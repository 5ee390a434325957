"""Processes that work together, started by tests."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def outputs(running: Sequence[subprocess.Popen[str]], seconds: float = 900.0) -> list[str]:
    """What processes print, after all of them have ended without an error; none is left running."""
    try:
        ended = [process.communicate(timeout=seconds) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (_, errors) in zip(running, ended):
        assert process.returncode == 0, errors[-3000:]
    return [out for out, _ in ended]
