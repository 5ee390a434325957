"""Studies: trials with ids, results that survive a crash, resumption bit for bit, several workers.

May import `search`, `storage`, `report` and what lies below them.
"""

from jhpo.study.study import Study as Study
from jhpo.study.tuning import Tuning as Tuning
