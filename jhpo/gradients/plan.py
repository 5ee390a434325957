"""The rules of ``method="auto"``, and the expected memory of each method."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jhpo.gradients.facts import Facts
from jhpo.gradients.spec import Spec
from jhpo.kernels.lyapunov import TRUSTED, USABLE
from jhpo.kernels.unroll import reverse_bytes

# Levels of rematerialisation to try; a fourth level saves memory only from thousands of steps on.
LEVELS = (0, 1, 2, 3, 4)
# Largest k for which forward mode is cheaper than reverse mode, and the directions computed in one pass.
FORWARD, CHUNK = 2, 8
# A training has converged if the gradient norm of the training loss falls below this fraction of the initial one.
CONVERGED = 1e-3
# Largest k for which the variance of an evolution-strategy estimate is acceptable.
PERTURBED = 64
SEEDS = 8


class Findings(NamedTuple):
    """What was measured on the training; None if it was not."""

    exponent: float | None = None  # chaos exponent Lambda
    growth: np.ndarray | None = None  # float[T], log of the growth of a small change in every step
    broken: int | None = None  # the first step without a finite derivative


def expected_bytes(facts: Facts, spec: Spec) -> int:
    """Expected temporary memory of a method in bytes: states, and what is saved for backward passes."""
    state, steps = facts.state, facts.steps
    if spec.method in ("reverse", "truncated"):
        steps = min(spec.window, steps) if spec.method == "truncated" else steps
        return reverse_bytes(steps, spec.levels, state, facts.gradients, facts.residuals)
    if spec.method == "forward":
        return (1 + min(facts.size, CHUNK)) * state
    if spec.method in ("pes", "es_single"):
        return 4 * spec.pairs * state  # 2 N trainings, each with the state before and after a step
    if spec.method == "implicit":
        vectors = spec.iterations * 3 if spec.solver == "nystrom" else 6
        return state + vectors * facts.params + facts.residuals
    return 2 * state


def trusted_steps(growth: np.ndarray, last: bool) -> int:
    """The number of first (or last) steps whose exponent is within `TRUSTED`."""
    sums = np.cumsum(growth[::-1] if last else growth)
    beyond = np.flatnonzero(~(sums <= TRUSTED))
    return int(beyond[0]) if beyond.size else len(growth)


class Choice(NamedTuple):
    """A method and the reason in words; the levels of reverse mode are not chosen yet."""

    spec: Spec
    why: str


def choose(facts: Facts, spec: Spec, found: Findings, implicit: bool = True) -> Choice:
    """The choice of ``method="auto"``.

    Args:
      facts: of the trainable.
      spec: options that the user fixed.
      found: what was measured; a training counts as stable if its exponent is unknown.
      implicit: whether implicit gradients may be chosen.
    """
    exponent = 0.0 if found.exponent is None else found.exponent
    if facts.steps == 0:
        return Choice(spec._replace(method="reverse", levels=0), "there are no steps: plain differentiation")
    if implicit and facts.implicit and all(facts.in_loss):
        why = "all hyperparameters act through the loss, and training converged"
        return Choice(spec._replace(method="implicit"), why)
    few = facts.size <= FORWARD and facts.forward
    if exponent <= TRUSTED:
        if few:
            return Choice(spec._replace(method="forward"), f"{_count(facts.size)}: forward mode costs least")
        if not facts.forward_step:
            why = "steps with jax.custom_vjp have no other derivative"
            return Choice(spec._replace(method="reverse"), why)
        return Choice(spec._replace(method="reverse"), f"{_count(facts.size)} through {facts.steps} sound steps")
    if exponent <= USABLE and facts.random:
        why = f"chaotic (exponent {exponent:.1f} > {TRUSTED:g}): clipped and averaged over {SEEDS} seeds"
        method = "forward" if few else "reverse"
        return Choice(spec._replace(method=method, seeds=max(spec.seeds, SEEDS)), why)
    chaotic = f"chaotic (exponent {exponent:.1f} > {USABLE:g}): no derivative of the unroll has a meaning"
    if exponent <= USABLE:
        chaotic = f"chaotic (exponent {exponent:.1f} > {TRUSTED:g}), and seeds change nothing that could be averaged"
    if facts.size <= PERTURBED:
        return Choice(spec._replace(method="pes", window=0), f"{chaotic}; the gradient of the smoothed loss has")
    # without the steps after a member's own, which change nothing
    window = 1 if found.growth is None else max(trusted_steps(np.trim_zeros(found.growth, "b"), last=True), 1)
    why = f"{chaotic}; too many hyperparameters ({facts.size}) to perturb: the last {window} steps alone"
    return Choice(spec._replace(method="truncated", window=window), why)


def _count(size: int) -> str:
    return "1 hyperparameter" if size == 1 else f"{size} hyperparameters"
