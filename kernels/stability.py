"""Convergence of swarms: the spectral radius of a particle's second moments around a fixed attractor."""

from __future__ import annotations

import math

import numpy as np


def spectral_radius(inertia: float, pull: float, variance: float, inertia_variance: float = 0.0) -> float:
    """Spectral radius of the map from E[x_t^2], E[x_t x_{t-1}], E[x_{t-1}^2] to the same moments one step later.

    The particle follows x' = (1 + w - phi) x - w x_prev with w and phi drawn independently in each step. Below 1 its
    variance converges to 0; at 1 or above it diverges (order-2 stability; Poli 2009, doi:10.1109/TEVC.2008.2011744).

    Args:
      inertia: mean of w.
      pull: mean of phi; (c1 + c2) / 2 for two attractors with r uniform in [0, 1].
      variance: variance of phi; (c1^2 + c2^2) / 12.
      inertia_variance: variance of w, if it is random.

    >>> round(spectral_radius(0.7298, 1.49618, 1.49618**2 / 6), 3)
    0.944
    """
    a = 1.0 + inertia - pull
    matrix = np.array(
        [
            [
                a * a + variance + inertia_variance,
                -2.0 * (a * inertia + inertia_variance),
                inertia**2 + inertia_variance,
            ],
            [a, -inertia, 0.0],
            [1.0, 0.0, 0.0],
        ]
    )
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def moments(motion: str, cognitive: float, social: float, informants: int) -> tuple[float, float]:
    """Mean and variance of phi, the total pull, of each kind of motion (see `swarm.move`)."""
    if motion == "sphere":  # centre x - 2c/3 x, and a point at radius U(0, 1) |x - centre| around it
        pull = (cognitive + social) / 3.0
        return pull, pull**2 / 3.0
    if motion == "informed":  # the social pull is the mean over the informants
        return social / 2.0, social**2 / (12.0 * informants)
    if motion == "exemplar":
        return social / 2.0, social**2 / 12.0
    return (cognitive + social) / 2.0, (cognitive**2 + social**2) / 12.0


def swarm_radius(
    motion: str, schedule: str, inertia: float, cognitive: float, social: float, informants: int = 4
) -> float:
    """`spectral_radius` of a swarm's coefficients; infinite if one of them is not finite."""
    if not all(math.isfinite(x) for x in (inertia, cognitive, social)):
        return math.inf
    pull, variance = moments(motion, cognitive, social, informants)
    if motion == "compete":  # the loser's velocity is scaled by r1
        return spectral_radius(inertia / 2.0, pull, variance, inertia**2 / 12.0)
    if schedule == "random":  # w times U(1/2, 1)
        return spectral_radius(0.75 * inertia, pull, variance, inertia**2 / 48.0)
    return spectral_radius(inertia, pull, variance)
