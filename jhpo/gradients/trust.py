"""Checks of an estimate: errors if it cannot be used, and notes that cast doubt on it."""

from __future__ import annotations

import jax
import numpy as np

from jhpo.errors import UnusableGradient
from jhpo.gradients.dependence import names_of
from jhpo.gradients.facts import Facts
from jhpo.gradients.plan import CONVERGED, Findings, trusted_steps
from jhpo.gradients.spec import HP, Estimate, Spec
from jhpo.kernels import trees
from jhpo.kernels.lyapunov import TRUSTED


def check_result(hp: HP, facts: Facts, spec: Spec, found: Findings, out: Estimate) -> None:
    """Raises UnusableGradient if the value or the gradient is not finite; it says why, and what to do."""
    if not np.isfinite(out.value):
        raise UnusableGradient(no_value(out.value))
    bad = [n for n, g in zip(names_of(hp), jax.tree.leaves(out.grad)) if not np.isfinite(np.asarray(g)).all()]
    if not bad:
        return
    if spec.method in ("pes", "es_single"):
        raise UnusableGradient(f"gradient of {bad}: every perturbed training failed; try a smaller sigma")
    if found.broken is None and found.exponent is not None and found.exponent > TRUSTED:
        raise UnusableGradient(
            f"gradient of {bad}: training is chaotic (exponent {found.exponent:.3g}) and its derivative overflowed; "
            f"use method='pes'{_shorter(facts, found)}"
        )
    raise UnusableGradient(no_derivative(f"for {bad}"))


def doubts(facts: Facts, spec: Spec, found: Findings, out: Estimate) -> list[str]:
    """Reasons to doubt the estimate, a sentence each."""
    notes = unused(facts)
    if spec.method in ("reverse", "forward"):
        notes += _of_unrolling(facts, found)
    if spec.method == "truncated" and spec.window < facts.steps:
        notes.append(f"a derivative of the last {spec.window} of {facts.steps} steps prefers small rates")
    if spec.method == "implicit":
        notes += _of_the_optimum(out)
    if spec.method in ("pes", "es_single"):
        noise, size = (float(trees.norm(trees.split_floats(tree)[0])) for tree in (out.error, out.grad))
        if noise > size:
            notes.append(f"the standard error ({noise:.2g}) exceeds the gradient ({size:.2g}): use more pairs")
    if out.agreement is not None and float(out.agreement) < 0.5:
        notes.append(f"the seeds disagree in direction ({float(out.agreement):.2f} of 1): use method='pes'")
    return notes


def unused(facts: Facts) -> list[str]:
    """The note on hyperparameters without an effect."""
    names = [n for n, used in zip(facts.names, facts.used) if not used]
    return [f"{names} do not reach the result: their gradient is zero"] if names else []


def no_value(value: jax.Array, sound: bool = False, when: str | None = None) -> str:
    """The message about a value that is not finite; ``when`` the state ceased to be, if that was measured."""
    if sound:
        return (
            f"evaluate: expected a finite value, got {float(value)}, of a state that is finite: its data hold NaN, or "
            "it divides by zero or takes the logarithm of it"
        )
    state = "" if when is None else f": the state is not finite{when}"
    return (
        f"training: expected a finite value, got {float(value)}{state}; try a smaller learning rate, clipped "
        "gradients, or a shorter horizon, and look for NaN in the data"
    )


def no_derivative(where: str) -> str:
    """The message about a derivative that is not finite."""
    return (
        f"gradient: not finite {where}, although training is: a square root or a division at exactly zero of "
        "something that the hyperparameters move (keep it away from zero: in an optimiser by eps_root=1e-8, else by "
        "adding a small number); or use method='es_single'"
    )


def _of_unrolling(facts: Facts, found: Findings) -> list[str]:
    if found.broken is not None:
        return [no_derivative(f"in parts from step {found.broken} on")]
    if found.exponent is not None and found.exponent > TRUSTED:
        note = f"training is chaotic (exponent {found.exponent:.3g} > {TRUSTED:g})"
        return [f"{note}; use method='pes'{_shorter(facts, found)}"]
    return []


def _of_the_optimum(out: Estimate) -> list[str]:
    notes = []
    if out.stationary is not None and float(out.stationary) > CONVERGED:
        notes.append(
            f"training has not converged (gradient of the training loss fell to {float(out.stationary):.1e} of its "
            "start): train for longer, or use method='reverse'"
        )
    return notes + solve_doubts(out)


def solve_doubts(out: Estimate) -> list[str]:
    """Reasons to doubt the linear solve of implicit gradients."""
    if out.negative is not None and bool(out.negative):
        return ["negative curvature: not at a minimum; use damping or solver='nystrom', or 'reverse'"]
    if out.residual is not None and float(out.residual) > 0.1:
        return [f"the linear solve has a residual of {float(out.residual):.1e}: more iterations, or damping"]
    return []


def _shorter(facts: Facts, found: Findings) -> str:
    """Advice on a shorter horizon, up to which the training is not chaotic."""
    steps = 0 if found.growth is None else trusted_steps(found.growth, last=False)
    return f" or horizon={steps / facts.steps:.3g}" if 0 < steps < facts.steps else ""
