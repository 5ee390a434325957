"""The options of BayesOpt and their checks."""

from __future__ import annotations

import dataclasses

from jhpo.errors import check_integer, invalid
from jhpo.kernels.covariance import JETS, PROFILES
from jhpo.strategies.base import static_field

REGIONS = ("auto", "always", "never")
PICKS = ("greedy", "thompson")
WARPS = ("half_rank", "none")


@dataclasses.dataclass(frozen=True)
class BayesOptions:
    """Fields of `jhpo.BayesOpt`, which documents them; all are static."""

    batch: int = static_field(default=1)
    initial: int = static_field(default=0)
    kernel: str = static_field(default="matern52")
    warp: str = static_field(default="half_rank")
    picks: str = static_field(default="greedy")
    region: str = static_field(default="auto")
    constraints: int = static_field(default=0)
    gradients: bool = static_field(default=False)
    candidates: int = static_field(default=1024)
    starts: int = static_field(default=8)
    fantasies: int = static_field(default=16)
    fit_iterations: int = static_field(default=30)
    search_iterations: int = static_field(default=40)
    capacity: int = static_field(default=0)

    def __post_init__(self) -> None:
        check_integer("batch", self.batch, 1, 512)
        check_integer("initial", self.initial, 0)
        check_integer("constraints", self.constraints, 0)
        check_integer("candidates", self.candidates, 64)
        check_integer("starts", self.starts, 2)
        check_integer("fantasies", self.fantasies, 1)
        check_integer("fit_iterations", self.fit_iterations)
        check_integer("search_iterations", self.search_iterations)
        check_integer("capacity", self.capacity, 0)
        if not isinstance(self.gradients, bool):
            raise invalid("gradients", "True or False", self.gradients)
        for name, allowed in (("kernel", tuple(PROFILES)), ("warp", WARPS), ("region", REGIONS), ("picks", PICKS)):
            if getattr(self, name) not in allowed:
                raise invalid(name, f"one of {allowed}", getattr(self, name))
        if self.gradients and PROFILES[self.kernel] not in JETS:
            raise invalid("kernel", "one that is smooth enough for gradients, matern52 or rbf", self.kernel)
        if self.gradients and self.picks != "greedy":
            raise invalid("picks", "'greedy' with gradients", self.picks)
