"""Which long tests reach nothing that others do not: `tests/long.txt`, from times and lines of a run of the suite.

    pip install pytest-cov
    JHPO_TEST_COSTS=costs.jsonl python -m pytest -n 2 --cov jhpo --cov kernels --cov-context=test
    python tests/costs.py costs.jsonl .coverage > tests/long.txt

Tests of less than a second of a processor all stay. Of the others stay those that are needed to reach every line, the
most lines a second first, and of the rest those of less than ``--most`` seconds. What is in the file already is slow,
so it stays in it.
"""

from __future__ import annotations

import argparse
import collections
import json
import sqlite3
from pathlib import Path

LONG = Path(__file__).with_name("long.txt")
CHEAP = 1.0
# kills and damage: what they promise is not in the lines that they reach
KEPT = ("tests/study/test_reliability.py", "tests/storage/")
HEADER = (
    "# tests that take long and reach no line that others do not, made by tests/costs.py: they run in make test-slow"
)


def listed() -> set[str]:
    """The ids in the file."""
    return {line for line in LONG.read_text().splitlines() if not line.startswith("#")} if LONG.exists() else set()


def lines_of(data: str) -> dict[str, set[tuple[int, int]]]:
    """File and line by test."""
    from coverage.numbits import numbits_to_nums  # type: ignore[import-not-found,unused-ignore]

    database = sqlite3.connect(data)
    names = dict(database.execute("select id, context from context"))
    found: dict[str, set[tuple[int, int]]] = collections.defaultdict(set)
    for file, context, bits in database.execute("select file_id, context_id, numbits from line_bits"):
        found[names[context].partition("|")[0]].update((file, n) for n in numbits_to_nums(bits))
    return found


def needed(costs: dict[str, float], lines: dict[str, set[tuple[int, int]]]) -> set[str]:
    """Tests that together reach every line, with the cheap ones and those that work elsewhere, in other processes."""
    chosen = {t for t, cost in costs.items() if cost < CHEAP or t.startswith(KEPT) or t not in lines}
    reached = set().union(lines.get("", set()), *(lines.get(test, set()) for test in chosen))
    left = {test: lines.get(test, set()) - reached for test in costs if test not in chosen}
    while left:
        best = max(left, key=lambda test: len(left[test]) / costs[test])
        new = left.pop(best)
        if not new:
            break
        chosen.add(best)
        left = {test: there - new for test, there in left.items()}
    return chosen


def main() -> None:
    """Print the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("costs", type=Path)
    parser.add_argument("coverage")
    parser.add_argument("--most", type=float, default=1.5)
    options = parser.parse_args()
    costs = {test: cost for test, cost in map(json.loads, options.costs.read_text().splitlines())}
    stay = needed(costs, lines_of(options.coverage))
    long = {test for test, cost in costs.items() if test not in stay and cost >= options.most}
    print("\n".join([HEADER, *sorted(long | listed())]))


if __name__ == "__main__":
    main()
