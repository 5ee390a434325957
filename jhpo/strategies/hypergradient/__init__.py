"""Descent along hypergradients: the strategy, and the outer optimisers that it follows.

May import `space`, `strategies.base`, the base modules and kernels.
"""

from jhpo.strategies.hypergradient.strategy import HyperGradient as HyperGradient
