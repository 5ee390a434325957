"""Bayesian optimisation: the strategy, its history, its models, and the search for the next points.

May import `space`, `strategies.base`, the base modules and kernels.
"""

from jhpo.strategies.bayes.strategy import BayesOpt as BayesOpt
