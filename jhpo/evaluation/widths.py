"""Which programs train the members of a generation: their widths, and the members that share one."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from jax.sharding import Mesh

from jhpo.evaluation.chunks import next_power

SMALLEST_WIDTH = 8  # members of the smallest program where no plan says otherwise
# What a step of a program costs beside that of its members, in members. On a CPU digits MLPs took 10 us and 17 us a
# member, so that narrow programs are worth their compilation; on an accelerator they take as long as wider ones.
OVERHEAD, OVERHEAD_ON_CPU = 8, 1
# Widths are dropped from a plan as long as the time grows by no more than this factor in all: a compilation less each.
SLACK = 1.1


def layout(
    count: int, size: int, devices: int, threads: int, plan: Sequence[int] = ()
) -> list[tuple[int, int]]:  # fmt: skip
    """How many members go through programs of which width, ``[(members, width), ...]``.

    Full chunks where there are enough members, otherwise widths of the plan, or powers of two, that leave no core idle
    and few places empty.

    Args:
      count: members.
      size: of a chunk on one device.
      devices: that share a chunk.
      threads: chunks that run side by side.
      plan: widths on one device that are preferred, ascending; see `planned`.

    >>> layout(171, 64, 1, 2)
    [(64, 64), (64, 64), (43, 64)]
    >>> layout(57, 64, 1, 2), layout(19, 64, 1, 2)
    ([(32, 32), (25, 32)], [(16, 16), (3, 8)])
    >>> layout(19, 64, 1, 2, plan=(10, 43))
    [(10, 10), (9, 10)]
    """

    def width(rows: int) -> int:
        usual = min(size, max(next_power(rows), SMALLEST_WIDTH))
        return next((w for w in plan if rows <= w <= size), usual)

    return _parts(count, size, devices, threads, width)


def _parts(
    count: int, size: int, devices: int, threads: int, width: Callable[[int], int]
) -> list[tuple[int, int]]:  # fmt: skip
    """The chunks of a generation; ``width`` says which program on one device takes so many rows."""

    def wide(rows: int) -> int:
        return devices * width(min(-(-rows // devices), size))

    each = wide(-(-count // threads))
    parts = [(each, each)] * (count // each)
    rest = count - each * len(parts)
    return [*parts, (rest, wide(rest))] if rest else parts


def planned(
    rungs: Sequence[tuple[int, int]], size: int, devices: int, threads: int, overhead: int
) -> tuple[int, ...]:  # fmt: skip
    """The widths of programs, on one device, for generations whose sizes are known: few, and with few empty places.

    At first each generation gets widths that fit it. Then those are dropped, one after the other, without which the
    time grows the least, as long as it grows little: each width is one more program to compile. The time of a step is
    taken to be an overhead, and proportional to the members of a program.

    Args:
      rungs: members and steps of each generation.
      size, devices, threads: as in `layout`.
      overhead: what a step of a program costs beside that of its members, in members; also the narrowest width.

    >>> planned([(256, 15), (85, 30), (28, 90), (9, 270)], 64, 1, 2, 1)
    (5, 14, 43, 64)
    >>> planned([(27, 2), (9, 4), (3, 12), (1, 34)], 32, 1, 1, 8)
    (9, 27)
    """

    def exact(rows: int) -> int:
        return min(max(rows, overhead), size)

    def time(widths: Sequence[int]) -> int:
        def width(rows: int) -> int:
            return next((w for w in widths if w >= rows), widths[-1])

        def step(count: int) -> int:
            chunks = [wide // devices + overhead for _, wide in _parts(count, size, devices, threads, width)]
            return sum(chunks[::threads])  # the first one of those that run side by side is the widest

        return sum(steps * step(count) for count, steps in rungs)

    every = {wide // devices for count, _ in rungs for _, wide in _parts(count, size, devices, threads, exact)}
    widths = tuple(sorted(every))
    most = SLACK * time(widths)
    while len(widths) > 1:
        # the widest one stays, for the largest generation
        fewer = min(itertools.combinations(widths[:-1], len(widths) - 2), key=lambda some: time((*some, widths[-1])))
        if time((*fewer, widths[-1])) > most:
            break
        widths = (*fewer, widths[-1])
    return widths


@functools.lru_cache(maxsize=64)
def planned_for(rungs: tuple[tuple[int, int], ...], size: int, mesh: Mesh, threads: int) -> tuple[int, ...]:
    """`planned` on the devices of a mesh; nothing without rungs."""
    overhead = OVERHEAD_ON_CPU if mesh.devices.flat[0].platform == "cpu" else OVERHEAD
    return planned(rungs, size, mesh.size, threads, overhead) if rungs else ()


def slices(
    rows: np.ndarray, size: int, devices: int, threads: int, plan: Sequence[int] = ()
) -> list[tuple[np.ndarray, int]]:  # fmt: skip
    """Members ``int[n]`` that go through one program together, and its width, by `layout`."""
    parts = layout(len(rows), size, devices, threads, plan)
    ends = np.cumsum([count for count, _ in parts])
    return [(rows[end - count : end], width) for end, (count, width) in zip(ends, parts)]


def slices_of_widths(rows: np.ndarray, widths: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """The same for members whose programs have the widths ``int[n]``, as those that trained them the first time."""
    out: list[tuple[np.ndarray, int]] = []
    for width in np.unique(widths).tolist():
        these = rows[widths == width]
        out.extend((these[at : at + width], width) for at in range(0, len(these), width))
    return out
