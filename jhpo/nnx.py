"""`jhpo.training.nnx` by its public name, for ``import jhpo.nnx``."""

import sys

from jhpo.training.nnx import *  # noqa: F403  (for type checkers and editors)

sys.modules[__name__] = sys.modules["jhpo.training.nnx"]
