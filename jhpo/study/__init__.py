"""Studies: trials with ids, durable results, resumption bit for bit, several workers.

May import `search`, `storage`, `report` and the layers below them.
"""

from jhpo.study.study import Study as Study
from jhpo.study.tuning import Tuning as Tuning
