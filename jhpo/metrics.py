"""`jhpo.training.metrics` by its public name, for ``import jhpo.metrics``."""

import sys

from jhpo.training.metrics import *  # noqa: F403  (for type checkers and editors)

sys.modules[__name__] = sys.modules["jhpo.training.metrics"]
