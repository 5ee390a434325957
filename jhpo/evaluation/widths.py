"""Which programs train the members of a generation: their widths, and the members that share one."""

from __future__ import annotations

import numpy as np

from jhpo.evaluation.chunks import next_power

SMALLEST_WIDTH = 8  # members of the smallest program: a smaller one is hardly faster, and another to compile


def layout(count: int, size: int, devices: int, threads: int) -> list[tuple[int, int]]:
    """How many members go through programs of which width, ``[(members, width), ...]``.

    Full chunks where there are enough members, otherwise powers of two that leave no core idle and few places empty.

    Args:
      count: members.
      size: of a chunk on one device.
      devices: that share a chunk.
      threads: chunks that run side by side.

    >>> layout(171, 64, 1, 2)
    [(64, 64), (64, 64), (43, 64)]
    >>> layout(57, 64, 1, 2), layout(19, 64, 1, 2)
    ([(32, 32), (25, 32)], [(16, 16), (3, 8)])
    """

    def width(rows: int) -> int:
        return devices * min(size, max(next_power(-(-rows // devices)), SMALLEST_WIDTH))

    each = min(devices * size, width(-(-count // threads)))
    parts = [(each, each)] * (count // each)
    rest = count - each * len(parts)
    return [*parts, (rest, width(rest))] if rest else parts


def slices(rows: np.ndarray, size: int, devices: int, threads: int) -> list[tuple[np.ndarray, int]]:
    """Members ``int[n]`` that go through one program together, and its width, by `layout`."""
    parts = layout(len(rows), size, devices, threads)
    ends = np.cumsum([count for count, _ in parts])
    return [(rows[end - count : end], width) for end, (count, width) in zip(ends, parts)]


def slices_of_widths(rows: np.ndarray, widths: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """The same for members whose programs have the widths ``int[n]``, as those that trained them the first time."""
    out: list[tuple[np.ndarray, int]] = []
    for width in np.unique(widths).tolist():
        these = rows[widths == width]
        out.extend((these[at : at + width], width) for at in range(0, len(these), width))
    return out
