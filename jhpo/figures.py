"""`jhpo.report.figures` by its public name, for ``import jhpo.figures``."""

import sys

from jhpo.report.figures import *  # noqa: F403  (for type checkers and editors)

sys.modules[__name__] = sys.modules["jhpo.report.figures"]
