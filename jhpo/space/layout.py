"""What the codecs know of a space: its parameters, where they lie in the unit row, and on what they depend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jax.typing import ArrayLike

from jhpo.pytrees import HP, Structure
from jhpo.space.outline import Outline
from jhpo.space.parameters import Parameter

Constraint = Callable[[HP], ArrayLike]  # feasible where every number is >= 0
# (parent parameter's number, allowed cells of it as a boolean table)
Condition = tuple[int, tuple[bool, ...]]


class Layout:
    """Base of `Space`: plain attributes alone, so that the codecs need not know the space itself.

    How a hyperparameter travels: a strategy proposes a unit row ``float[d]``. `outline.canonical` snaps its discrete
    coordinates to the centres of their cells and resets inactive ones. `codec.decode_traced` turns the row into the
    tree of values that the objective sees inside jit; `host_codec.decode_host` turns the same row into what a person
    sees. Which cell a coordinate lies in is decided by `cells.index_of` alone, in float32 and integers, so that both
    decide alike. The way back is `encode_traced` and `encode_host`, by `cells.centre_of`.
    """

    names: tuple[str, ...]  # dotted, in the order of the tree's leaves
    parameters: tuple[Parameter, ...]
    treedef: Structure
    conditions: tuple[tuple[Condition, ...], ...]  # of each parameter
    order: tuple[int, ...]  # parameter numbers, parents before children
    dim: int  # coordinates of a unit row
    slices: tuple[slice, ...]  # of each parameter in the row
    cells: np.ndarray  # int32[d], number of values of a coordinate, 0 where it is continuous
    categorical: np.ndarray  # bool[d]
    static_mask: np.ndarray  # bool[d], a Python value inside the objective
    default: np.ndarray  # float64[d], the unit row of the declared defaults
    constraints: tuple[Constraint, ...]
    outline: Outline  # the tables above as arrays, for rows inside programs
