"""Type aliases, all `Any`, for pytrees whose structure belongs to the user or to a library."""

from __future__ import annotations

from typing import Any

HP = Any  # hyperparameters, a tree like the space's: arrays in traced code, Python and NumPy values on the host
Params = Any  # trained parameters of a model, a pytree of arrays
State = Any  # the state of a training or a strategy, a pytree of arrays
Tree = Any  # any pytree
Structure = Any  # a result of `jax.tree.structure`, whose stubs lack the methods
