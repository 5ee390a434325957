"""A process that searches often stays as it is: the short version of benchmarks/many_searches.py."""

from __future__ import annotations

import gc
import random
import sys

import pytest

from benchmarks.many_searches import mixed, objectives, some_space, studies, usage

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
    marks = []
    for number, _ in enumerate(mixed(90, trials=4, folder=tmp_path), 1):
        if number in (30, 90):
            gc.collect()  # what was forgotten stays until then
            marks.append(usage(0.0))
    begun, ended = marks
    assert ended.files <= begun.files + 3 and ended.threads <= begun.threads + 2  # of the last study
    assert ended.maps < 1.3 * begun.maps and ended.resident - begun.resident < 100
