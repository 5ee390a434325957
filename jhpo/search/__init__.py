"""Searches: the pure loop `run`, the host loop of `minimize`, and stop rules.

May import `evaluation` and the layers below it.
"""

from jhpo.search.meter import Summary as Summary
from jhpo.search.meter import Update as Update
from jhpo.search.minimize import maximize as maximize
from jhpo.search.minimize import minimize as minimize
from jhpo.search.progress import ProgressBar as ProgressBar
from jhpo.search.result import Result as Result
from jhpo.search.run import Trace as Trace
from jhpo.search.run import run as run
from jhpo.search.stopping import StopRules as StopRules
