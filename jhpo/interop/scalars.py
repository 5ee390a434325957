"""Hyperparameters as scalars with names, for tools that know no arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def scalars(name: str, value: object) -> Iterator[tuple[str, Any]]:
    """Name and value, or for an array the entries as ``name[0]``, ``name[1, 2]``.

    >>> list(scalars("w", np.array([0.5, 1.0])))
    [('w[0]', 0.5), ('w[1]', 1.0)]
    """
    array = np.asarray(value, object)
    for place in np.ndindex(array.shape):
        item = array[place]
        yield (f"{name}{list(place)}" if place else name), item.item() if isinstance(item, np.generic) else item
