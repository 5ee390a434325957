"""Evaluation of whole generations: populations in chunks on devices, host objectives, and what counts as a result.

May import `strategies`, `gradients` and what lies below them.
"""

from jhpo.evaluation.population import Population as Population
