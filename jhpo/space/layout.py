"""The data of a space that the codecs need: parameters, their coordinates, and their conditions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable

import numpy as np
from jax.typing import ArrayLike

from jhpo.space.declared import Uncached
from jhpo.space.outline import Outline
from jhpo.space.parameters import Parameter
from jhpo.values.pytrees import HP, Structure

Constraint = Callable[[HP], ArrayLike]  # feasible where every number is >= 0
# (index of the parent parameter, boolean table of its allowed cells)
Condition = tuple[int, tuple[bool, ...]]


class Layout(Uncached):
    """Base of `Space` with plain attributes, so that the codecs need not import the space itself.

    From a point to hyperparameters: a strategy proposes a unit row ``float[d]``. `outline.canonical` snaps its discrete
    coordinates to the centres of their cells and resets inactive ones. `codec.decode_traced` converts the row to the
    tree of traced values that the objective gets inside jit; `host_rows.decode_rows` converts it to host values. Both
    find the cell of a coordinate as `cells.index_of` does, in float32 and integers, so that they agree. The inverses
    are `encode_traced` and `encode_host`, by `cells.centre_of`.
    """

    names: tuple[str, ...]  # dotted, in the order of the tree's leaves
    parameters: tuple[Parameter, ...]
    treedef: Structure
    plainly: tuple[bool, ...]  # of each parameter, see `tree.Leaves`
    conditions: tuple[tuple[Condition, ...], ...]  # of each parameter
    order: tuple[int, ...]  # indices of parameters, parents before children
    dim: int  # coordinates of a unit row
    slices: tuple[slice, ...]  # of each parameter in the row
    cells: np.ndarray  # int32[d], number of values of a coordinate, 0 where it is continuous
    categorical: np.ndarray  # bool[d]
    static_mask: np.ndarray  # bool[d], a Python value inside the objective
    default: np.ndarray  # float64[d], the unit row of the declared defaults
    constraints: tuple[Constraint, ...]
    outline: Outline  # the tables above as arrays, for traced code

    @functools.cached_property
    def _content(self) -> tuple[Hashable, ...]:
        """Spaces are equal if these are; functions are known by identity, so pickles do not hold it."""
        return self.names, tuple(p.key for p in self.parameters), self.treedef, self.constraints
