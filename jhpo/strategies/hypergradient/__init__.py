"""Descent along hypergradients: the strategy and its outer optimisers.

May import `space`, `strategies.base`, the base modules and kernels.
"""

from jhpo.strategies.hypergradient.strategy import HyperGradient as HyperGradient
