"""The options of BayesOpt and their checks."""

from __future__ import annotations

import dataclasses
from math import isfinite
from numbers import Real
from typing import Any, ClassVar

import jax
import numpy as np

from jhpo.errors import check_integer, invalid, no_float
from jhpo.kernels.covariance import JETS, PROFILES
from jhpo.strategies.base import static_field

REGIONS = ("auto", "always", "never")
PICKS = ("greedy", "thompson")
WARPS = ("half_rank", "none")


@dataclasses.dataclass(frozen=True)
class BayesOptions:
    """Fields of `jhpo.BayesOpt`, which documents them; all are static."""

    opens: ClassVar[bool] = False  # asks for points of the design alone

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
    objectives: int = static_field(default=1)
    reference: tuple[float, ...] | None = static_field(default=None)
    signs: tuple[float, ...] = static_field(default=())

    def __post_init__(self) -> None:
        check_integer("batch", self.batch, 1, 512)
        check_integer("initial", self.initial, 0)
        check_integer("constraints", self.constraints, 0)
        check_integer("objectives", self.objectives)
        check_integer("candidates", self.candidates, 64)
        check_integer("starts", self.starts, 2)
        check_integer("fantasies", self.fantasies, 1)
        check_integer("fit_iterations", self.fit_iterations)
        check_integer("search_iterations", self.search_iterations)
        check_integer("capacity", self.capacity, 0)
        for name, allowed in (("kernel", tuple(PROFILES)), ("warp", WARPS), ("region", REGIONS), ("picks", PICKS)):
            if getattr(self, name) not in allowed:
                raise invalid(name, f"one of {allowed}", getattr(self, name))
        if self.gradients and PROFILES[self.kernel] not in JETS:
            raise invalid("kernel", "one that is smooth enough for gradients, matern52 or rbf", self.kernel)
        if self.gradients and self.picks != "greedy":
            raise invalid("picks", "'greedy' with gradients", self.picks)
        if self.objectives > 1:
            self._check_several()
        if self.reference is not None:
            self._check_reference()

    def _check_several(self) -> None:
        for name, allowed in (("picks", "greedy"), ("gradients", False)):
            if getattr(self, name) != allowed:
                raise invalid(name, f"{allowed!r} with several objectives", getattr(self, name))
        if self.region == "always":
            raise invalid("region", "'auto' or 'never' with several objectives", self.region)

    def _check_reference(self) -> None:
        given: Any = self.reference
        if isinstance(given, (np.ndarray, jax.Array)) and given.ndim == 1:
            given = given.tolist()
        numbers = isinstance(given, (tuple, list)) and all(isinstance(v, Real) and not no_float(v) for v in given)
        if not numbers or not all(map(isfinite, given)):
            raise invalid("reference", "a tuple of finite numbers, one for each objective", given)
        object.__setattr__(self, "reference", tuple(float(v) for v in given))  # a list would not be hashable
        if self.objectives > 1 and len(given) != self.objectives:
            raise invalid("reference", f"{self.objectives} numbers, one for each objective", given)
