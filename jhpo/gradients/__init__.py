"""Hypergradients: the choice and the checks of an estimator, the estimators, and online tuning.

May import `training`, `space`, the base modules and kernels.
"""

from jhpo.gradients.estimators import estimate as estimate
from jhpo.gradients.hypergrad import hypergrad as hypergrad
from jhpo.gradients.online import OnlineTuning as OnlineTuning
from jhpo.gradients.online import online_tune as online_tune
from jhpo.gradients.report import Hypergradient as Hypergradient
from jhpo.gradients.spec import Estimate as Estimate
from jhpo.gradients.spec import Spec as Spec
