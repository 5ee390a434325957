"""Hypergradients: how an estimator is chosen and checked, the estimators themselves, and online tuning.

May import `training`, `space`, the base modules and kernels.
"""

from jhpo.gradients.hypergrad import hypergrad as hypergrad
from jhpo.gradients.online import OnlineTuning as OnlineTuning
from jhpo.gradients.online import online_tune as online_tune
from jhpo.gradients.report import Hypergradient as Hypergradient
