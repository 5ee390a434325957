"""The result of `jhpo.hypergrad`, with diagnostics: how it was computed, why, and whether it can be trusted."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jhpo.gradients.spec import HP
from jhpo.kernels.internals import is_traced
from jhpo.kernels.lyapunov import TRUSTED, USABLE
from jhpo.values.structure import declared


class Hypergradient(NamedTuple):
    """Value and gradient of one training, with diagnostics."""

    value: jax.Array  # float[], the evaluation after training
    grad: HP  # like hp; zeros at leaves that are held fixed
    diagnostics: Diagnostics


@functools.partial(
    declared,
    data=["exponent", "growth", "stationary", "norms", "error", "residual", "negative", "agreement"],
    meta=["method", "why", "levels", "window", "seeds", "names", "size", "steps"]
    + ["state_bytes", "memory_expected", "memory_measured", "memory_limit", "notes"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Diagnostics:
    """How a hypergradient was computed; prints as a few lines. A pytree that a jitted function may return.

    Under tracing the numbers are traced arrays.

    Attributes:
      method: "reverse", "forward", "truncated", "implicit", "pes" or "es_single".
      why: the reason for the method and its levels.
      levels: of rematerialisation (reverse and truncated), else None.
      window: steps of the truncated derivative or of a window of perturbations, else None.
      seeds: gradients that were clipped and averaged.
      names, size: of the hyperparameters that were differentiated, and the number of scalars in them.
      steps: length of the training.
      exponent: chaos exponent Lambda; 0 if nothing grows, None if it was not measured. Estimated from the norms over
        time (see `jhpo.kernels.lyapunov`), or measured with a tangent if these were suspicious.
      growth: ``float[steps]``, log growth of that tangent in every step; None without such a measurement.
      stationary: gradient norm of the training loss at the end over that at the start (implicit).
      norms: ``float[steps]``, |dE/dw_t| over time (reverse, truncated: of the window) or |dw_t/dhp| (forward), over
        the leaves of the state that the evaluation reads, without the optimiser state.
      error: standard error of the gradient, like hp (pes, es_single).
      residual, negative: |H x - v| / |v| of the linear solve, and whether there was negative curvature (implicit).
      agreement: norm of the mean of the seeds' normalised gradients, 1 if all are equal (seeds > 1).
      state_bytes: size S of a training state.
      memory_expected, memory_measured: temporary bytes by formula, and of the compiled program.
      memory_limit: bytes that were allowed.
      notes: warnings and remarks, a sentence each.
    """

    method: str
    why: str
    levels: int | None
    window: int | None
    seeds: int
    names: tuple[str, ...]
    size: int
    steps: int
    exponent: float | jax.Array | None
    growth: np.ndarray | jax.Array | None
    stationary: float | jax.Array | None
    norms: np.ndarray | jax.Array | None
    error: HP | None
    residual: float | jax.Array | None
    negative: bool | jax.Array | None
    agreement: float | jax.Array | None
    state_bytes: int
    memory_expected: int
    memory_measured: int | None
    memory_limit: int
    notes: tuple[str, ...]

    @property
    def trusted(self) -> bool | jax.Array:
        """Whether the estimate can be trusted: no note casts doubt on it, and training is not chaotic.

        ``bool[]`` if the exponent is an array, for example as the condition of a `jnp.where`.
        """
        if self.method in ("pes", "es_single"):
            return not self.notes
        return not self.notes and (self.exponent is None or self.exponent <= TRUSTED)

    def __str__(self) -> str:
        """The report as lines of text."""
        head = [f"{self.method}"]
        head += [f"{self.levels} level{'s' * (self.levels != 1)} of rematerialisation"] if self.levels else []
        head += [f"window of {self.window} steps"] if self.window else []
        head += [f"mean of {self.seeds} seeds"] if self.seeds > 1 else []
        numbers = f"{self.size} number{'s' * (self.size != 1)} in {_some(self.names)}"
        lines = [", ".join(head) + f": {numbers}, {self.steps} steps"]
        rows = [("why", self.why), ("chaos", self._chaos()), ("norms", self._norms()), ("solve", self._solve())]
        rows += [("spread", self._spread()), ("memory", self._memory()), *(("note", note) for note in self.notes)]
        return "\n".join(lines + [f"  {name:7} {text}" for name, text in rows if text])

    __repr__ = __str__

    def _chaos(self) -> str | None:
        if self.exponent is None:
            return None
        if is_traced(self.exponent):
            return "a part of the program that is being traced"
        exponent = float(np.max(self.exponent))
        bounds = ((TRUSTED, f"sound, below {TRUSTED:g}"), (USABLE, f"chaotic, above {TRUSTED:g}"))
        word = next((word for bound, word in bounds if exponent <= bound), f"chaotic, above {USABLE:g}")
        return f"exponent {exponent:.3g} ({word})" + (", of the worst" if np.ndim(self.exponent) else "")

    def _norms(self) -> str | None:
        if self.norms is None or is_traced(self.norms) or self.norms.ndim != 1 or not len(self.norms):
            return None
        what = "|dw_t/dhp|" if self.method == "forward" else "|dE/dw_t|"
        first, last, most = self.norms[0], self.norms[-1], int(np.argmax(self.norms))
        start = self.steps - len(self.norms) + 1
        ends = f"{first:.3g} after step {start} to {last:.3g} after step {self.steps}"
        return f"{what} from {ends}, at most {self.norms[most]:.3g} (step {start + most})"

    def _solve(self) -> str | None:
        if self.residual is None or is_traced(self.residual):
            return None
        return f"relative residual {float(np.max(self.residual)):.1e}" + (
            ", negative curvature met" if np.any(self.negative) else ""
        )

    def _spread(self) -> str | None:
        if self.agreement is None or is_traced(self.agreement):
            return None
        return f"the seeds' directions agree to {float(np.min(self.agreement)):.2f}"

    def _memory(self) -> str:
        measured = "" if self.memory_measured is None else f", {in_units(self.memory_measured)} measured"
        return f"{in_units(self.memory_expected)} expected{measured}; a state has {in_units(self.state_bytes)}"


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f", ... ({len(names)} in all)" if len(names) > 4 else "")


def number(x: jax.Array | None) -> Any:
    """A scalar as a Python number, an array as a NumPy array; tracers and None are returned as they are."""
    if x is None or is_traced(x):
        return x
    return x.item() if x.ndim == 0 else np.asarray(x)


def in_units(size: float) -> str:
    """A number of bytes in readable units.

    >>> in_units(10), in_units(3 * 2**20)
    ('10 B', '3.0 MiB')
    """
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{int(size)} B"
