"""Evaluation of whole generations: populations in chunks on devices, host objectives, and outcomes.

May import `strategies`, `gradients` and the layers below them.
"""

from jhpo.evaluation.ensemble import Ensemble as Ensemble
from jhpo.evaluation.population import Population as Population
