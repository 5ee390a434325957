"""`jhpo.training.schedules` by its public name, for ``import jhpo.schedules``."""

import sys

from jhpo.training.schedules import *  # noqa: F403  (for type checkers and editors)

sys.modules[__name__] = sys.modules["jhpo.training.schedules"]
