"""The options and the result of an estimator."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

HP = Any
METHODS = ("autodiff", "reverse", "forward", "truncated", "implicit", "pes", "es_single")
SOLVERS = ("cg", "neumann", "nystrom")


class Spec(NamedTuple):
    """How a gradient is estimated: static Python values."""

    method: str = "reverse"
    levels: int = 0  # rematerialisation levels of reverse and truncated
    window: int = 0  # steps of the truncated derivative, or of the windows of pes
    horizon: float = 1.0
    metric: str | None = None
    solver: str = "cg"
    iterations: int = 20  # Hessian products of cg and neumann, rank of nystrom
    damping: float = 0.0
    pairs: int = 32  # antithetic pairs of pes and es_single
    sigma: float = 0.02  # their noise, relative to each hyperparameter (absolute where it is zero)
    norms: bool = False  # reverse, truncated, forward: also norms over time
    seeds: int = 1  # number of keys whose gradients are clipped to the median norm and averaged
    wrt: tuple[bool, ...] | None = None  # leaves of hp to differentiate; the others are held fixed; None for all


class Estimate(NamedTuple):
    """Result of an estimator; every field is an array or a tree of arrays."""

    value: jax.Array  # float[]
    grad: HP  # like hp; zeros at leaves that are not floats or held fixed
    norms: jax.Array | None = None  # float[steps], norm of dE/dw_t (reverse, truncated) or of dw_t/dhp (forward)
    growth: jax.Array | None = None  # float[], chaos exponent estimated from the norms (see `jhpo.kernels.lyapunov`)
    error: HP | None = None  # like hp: standard error (pes, es_single)
    stationary: jax.Array | None = None  # float[], |grad of train_loss| at the end over that at the start (implicit)
    residual: jax.Array | None = None  # float[], |H x - v| / |v| (implicit)
    negative: jax.Array | None = None  # bool[], there was negative curvature (implicit)
    agreement: jax.Array | None = None  # float[], |mean of the seeds' directions|, 1 if all are equal (seeds > 1)
