"""Names for trees whose structure is the user's or a library's: any type to a checker, a meaning to a reader."""

from __future__ import annotations

from typing import Any

HP = (
    Any  # hyperparameters in the shape of the space's tree: arrays inside programs, Python's and NumPy's values outside
)
Params = Any  # a model's trained parameters, a pytree of arrays
State = Any  # what a training or a strategy carries from step to step, a pytree of arrays
Tree = Any  # any pytree
Structure = Any  # what `jax.tree.structure` gives; its stubs lack the methods
