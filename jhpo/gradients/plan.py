"""The rules by which `auto` chooses a method, and the memory that each one should need."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jhpo.gradients.facts import Facts
from jhpo.gradients.spec import Spec
from jhpo.kernels.lyapunov import TRUSTED, USABLE
from jhpo.kernels.unroll import reverse_bytes

# Levels of rematerialisation tried: a fourth one saves memory only from thousands of steps on.
LEVELS = (0, 1, 2, 3, 4)
# Directions up to which forward mode costs less than reverse mode, and at once in one pass of it.
FORWARD, CHUNK = 2, 8
# |gradient of the training loss| over its size at the start below which a training counts as converged.
CONVERGED = 1e-3
# Hyperparameters up to which an evolution-strategy estimate is worth its variance.
PERTURBED = 64
SEEDS = 8


class Findings(NamedTuple):
    """Measured on the training itself; None where it was not."""

    exponent: float | None = None  # chaos exponent Lambda
    growth: np.ndarray | None = None  # float[T], log of the growth of a small change in every step
    broken: int | None = None  # the first step without a finite derivative


def expected_bytes(facts: Facts, spec: Spec) -> int:
    """Temporary memory a method should need: states, and what backward passes keep."""
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
    """How many of the first (or last) steps have an exponent that can be trusted."""
    sums = np.cumsum(growth[::-1] if last else growth)
    beyond = np.flatnonzero(~(sums <= TRUSTED))
    return int(beyond[0]) if beyond.size else len(growth)


class Choice(NamedTuple):
    """A method, and the reason in words; reverse mode's levels are still open."""

    spec: Spec
    why: str


def choose(facts: Facts, spec: Spec, found: Findings, implicit: bool = True) -> Choice:
    """The rules of ``method="auto"``.

    Args:
      facts: of the trainable.
      spec: options already fixed.
      found: what was measured; a training is taken for sound while its exponent is unknown.
      implicit: gradients at the optimum come into question.
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
    window = 1 if found.growth is None else max(trusted_steps(found.growth, last=True), 1)
    why = f"{chaotic}; too many hyperparameters ({facts.size}) to perturb: the last {window} steps alone"
    return Choice(spec._replace(method="truncated", window=window), why)


def _count(size: int) -> str:
    return "1 hyperparameter" if size == 1 else f"{size} hyperparameters"
