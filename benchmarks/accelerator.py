"""Every figure and every promise that needs an accelerator, in one run of a few minutes.

    python benchmarks/accelerator.py --output figures.jsonl         (or: make accelerator)
    python benchmarks/accelerator.py --tiny --output out.jsonl      the same programs at sizes a laptop runs

It runs from a bare checkout with JAX, flax, optax and NumPy: jhpo need not be installed. Parts run in the order of
their importance until `--seconds` are used up. Every figure is a line of JSON that is written at once, so that a killed
run keeps what it had. A part that fails, or does not come back within its time, is recorded with its traceback; the
parts after it still run, and the exit status is 1 at the end. A table for RESULTS.md is printed last.

What a part measures is in accelerator_speed.py and accelerator_checks.py.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
GRACE = 10.0  # seconds a part may run over its own time before its process ends


class Part(NamedTuple):
    """A part: where its function is, and the seconds it may take."""

    module: str
    seconds: float


PARTS = {
    "device": Part("accelerator_speed", 30),
    "populations": Part("accelerator_speed", 90),
    "swarms": Part("accelerator_speed", 60),
    "hypergradients": Part("accelerator_speed", 80),
    "agreement": Part("accelerator_checks", 100),
    "studies": Part("accelerator_speed", 110),
    "promises": Part("accelerator_checks", 50),
    "evolution": Part("accelerator_speed", 40),
    "suggestions": Part("accelerator_speed", 90),
    "cnn": Part("accelerator_speed", 50),
    "botorch": Part("accelerator_speed", 60),
}


class Run(NamedTuple):
    """What a part is told."""

    tiny: bool
    end: float  # time.time() at which the part should be done

    def left(self) -> float:
        """Seconds that are left to the part."""
        return self.end - time.time()


def use_checkout() -> None:
    """Import this checkout's jhpo, its `kernels/` folder as `jhpo.kernels`, whether it is installed or not."""
    import importlib.util

    root = HERE.parent
    sys.path.insert(0, str(root))
    import jhpo

    folder = root / "kernels"
    spec = importlib.util.spec_from_file_location(
        "jhpo.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["jhpo.kernels"] = jhpo.kernels = module  # type: ignore[attr-defined]
    spec.loader.exec_module(module)


class Output:
    """Appends lines of JSON, each flushed."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a", encoding="utf-8")

    def write(self, **line: Any) -> None:
        """One line, also on the screen."""
        text = json.dumps(line, default=str)
        self.file.write(text + "\n")
        self.file.flush()
        print(text[:600], flush=True)


def work(options: argparse.Namespace) -> None:
    """The parts one after the other, in this process."""
    out = Output(options.output)
    use_checkout()
    sys.path.insert(0, str(HERE))
    for name in options.parts:
        room = min(PARTS[name].seconds, options.until - time.time())
        if room < 3:
            out.write(part=name, event="skipped", why="the time of the whole run is used up")
            continue
        out.write(part=name, event="start")
        start = time.time()
        run = Run(options.tiny, start + room)
        # ends the process, even inside a compilation, and writes where it was
        faulthandler.dump_traceback_later(room + GRACE, exit=True)
        try:
            figures: Iterator[dict[str, Any]] = getattr(__import__(PARTS[name].module), name)(run)
            for figure in figures:
                event = "figure" if figure.get("holds", True) else "failure"
                out.write(part=name, event=event, at_s=round(time.time() - start, 2), **figure)
        except Exception as error:  # noqa: BLE001 recorded, and the later parts have to run
            out.write(part=name, event="failure", error=repr(error)[:2000], traceback=traceback.format_exc()[-6000:])
        faulthandler.cancel_dump_traceback_later()
        out.write(part=name, event="end", seconds=round(time.time() - start, 2))


def lines(path: Path) -> list[dict[str, Any]]:
    """All lines written so far; one that a killed process left unfinished is no line."""
    found = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return found


def coordinate(options: argparse.Namespace) -> int:
    """Run the parts in another process, a new one after each that died; the exit status."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("")
    until = time.time() + options.seconds
    left = list(options.parts)
    while left:
        command = [sys.executable, str(Path(__file__).resolve()), "--output", str(options.output)]
        command += ["--until", str(until), "--parts", *left, *(["--tiny"] if options.tiny else [])]
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            process = subprocess.Popen(command, stderr=errors)
            try:
                status = process.wait(max(until - time.time(), 0) + 2 * GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            errors.seek(0)
            said = errors.read()
        settled = {line["part"] for line in lines(options.output) if line["event"] in ("end", "skipped")}
        open_parts = [name for name in left if name not in settled]
        if status and said:
            print(said[-3000:], file=sys.stderr)
        if open_parts:
            started = any(line["part"] == open_parts[0] for line in lines(options.output))
            why = f"its process ended with status {status}" + ("" if started else " before the part began")
            Output(options.output).write(part=open_parts[0], event="failure", error=why, traceback=said[-6000:])
        left = open_parts[1:]
    found = lines(options.output)
    print(table(found))
    return 1 if any(line["event"] == "failure" for line in found) else 0


def table(found: list[dict[str, Any]]) -> str:
    """The figures as a table in markdown."""
    hidden = ("part", "event", "what", "at_s", "traceback")
    rows = ["", "| part | what | figures |", "|---|---|---|"]
    for line in found:
        if line["event"] in ("start", "end"):
            continue
        values = "; ".join(f"{k} {_short(v)}" for k, v in line.items() if k not in hidden and v is not None)
        mark = {"failure": "**failed** ", "skipped": "not run "}.get(line["event"], "")
        rows.append(f"| {line['part']} | {line.get('what', '')} | {mark}{values} |".replace("\n", " "))
    return "\n".join(rows)


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "/")[:160]


def main() -> int:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/accelerator.jsonl"), help="figures, a JSON line each")
    parser.add_argument("--seconds", type=float, default=480.0, help="of the whole run")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that everything works")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)  # of a worker: when the whole run ends
    options = parser.parse_args()
    if options.until is not None:
        work(options)
        return 0
    return coordinate(options)


if __name__ == "__main__":
    sys.exit(main())
