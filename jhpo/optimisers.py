"""`jhpo.training.optimisers` by its public name, for ``import jhpo.optimisers``."""

import sys

from jhpo.training.optimisers import *  # noqa: F403  (for type checkers and editors)

sys.modules[__name__] = sys.modules["jhpo.training.optimisers"]
