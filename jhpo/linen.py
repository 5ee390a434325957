"""`jhpo.training.linen` by its public name, for ``import jhpo.linen``."""

import sys

from jhpo.training.linen import *  # noqa: F403  (for type checkers and editors)

sys.modules[__name__] = sys.modules["jhpo.training.linen"]
