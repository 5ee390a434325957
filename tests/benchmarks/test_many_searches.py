"""A process that searches often stays as it is: the short version of benchmarks/many_searches.py."""

from __future__ import annotations

import gc
import random
import sys

import pytest

from benchmarks.many_searches import mixed, objectives, some_space, studies

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.slow
def test_spaces_of_every_kind_share_a_few_programs() -> None:
    """The memory of thirty studies, on thirty spaces, does not grow with their number."""
    draw = random.Random(1)
    assert len({some_space(draw) for _ in range(30)}) >= 28
    seen = studies(30, trials=11, seed=1)
    compiled = [u for u in seen if u.seconds > 1.5]
    assert len(compiled) <= 12, [round(u.seconds, 2) for u in seen]
    assert seen[-1].maps < 25_000


@pytest.mark.slow
def test_objectives_are_let_go() -> None:
    seen, alive = objectives(30, megabytes=8.0)
    assert alive == 0
    assert seen[-1].resident - seen[9].resident < 120  # 200 MiB of arrays were closed over in between


@pytest.mark.slow
def test_a_service_keeps_no_files_threads_or_programs(tmp_path) -> None:
    """Studies in memory and in files, by hand and by worker threads, a half of them never closed."""
    seen = list(mixed(90, trials=4, folder=tmp_path))
    gc.collect()
    begun, ended = seen[29], seen[-1]
    # what was forgotten goes with the next collection of garbage, so that the numbers go up and down
    assert min(u.files for u in seen[-30:]) <= max(u.files for u in seen[:30])
    assert min(u.threads for u in seen[-30:]) <= max(u.threads for u in seen[:30])
    assert ended.maps < 1.3 * begun.maps and ended.resident - begun.resident < 100
