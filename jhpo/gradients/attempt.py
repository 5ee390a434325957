"""One call of `jhpo.hypergrad` with checked arguments: choose a method, estimate, and judge the estimate.

The estimate comes first. The norms over time, computed along with the gradient, show whether the training is stable
enough for the method. Only if they are suspicious does a probe train once more, carrying a tangent. Its finding is
remembered for trainables of the same structure, so that a loop over hyperparameters pays for it once.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jhpo.errors import InvalidArgument, UnusableGradient
from jhpo.gradients.estimators import estimate_program
from jhpo.gradients.facts import Experience, Facts
from jhpo.gradients.plan import CONVERGED, LEVELS, Choice, Findings, choose, expected_bytes
from jhpo.gradients.probe import probe_program
from jhpo.gradients.report import Diagnostics, Hypergradient, in_units, number
from jhpo.gradients.spec import HP, Estimate, Spec
from jhpo.gradients.trust import check_result, doubts, no_derivative, no_value, solve_doubts
from jhpo.kernels.lyapunov import TRUSTED
from jhpo.process.lifetimes import Executable
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import Trainable
from jhpo.training.values import without

# Growth of the norms up to which a training is stable without a probe. In reverse mode it is the exponent itself; in
# forward mode it may be two or three less, see `jhpo.kernels.lyapunov.forward_growth`.
SURELY = {"reverse": TRUSTED, "truncated": TRUSTED, "forward": TRUSTED / 2}


class Call(NamedTuple):
    """The arguments of a call, without the method."""

    trainable: Trainable
    hp: HP
    key: jax.Array  # key[]
    facts: Facts
    experience: Experience
    limit: int  # bytes of temporary memory
    levels: int | None  # of rematerialisation; None for the fewest that fit
    check: bool  # probe if the norms are suspicious


class Fit(NamedTuple):
    """A choice whose program fits the memory."""

    spec: Spec
    why: str
    measured: int | None = None  # temporary bytes of the compiled program, None if the backend does not report them


class Trial(NamedTuple):
    """An estimate that has not been checked."""

    fit: Fit
    out: Estimate


def automatic(call: Call, spec: Spec) -> Hypergradient:
    """The estimate by ``method="auto"``."""
    past = call.experience
    found = probed(call, spec) if past.chaotic and call.facts.forward_step else Findings()
    trial = tried(call, choose(call.facts, spec, found, past.vain is None))
    if trial.fit.spec.method == "implicit":
        past.vain = _in_vain(trial.out)
        if past.vain is None:
            return judged(call, trial, found)
        trial = tried(call, choose(call.facts, spec, found, implicit=False))
    if found.exponent is None:
        found = examined(call, spec, trial)
        choice = choose(call.facts, spec, found, implicit=False)
        if choice.spec != choose(call.facts, spec, Findings(), implicit=False).spec:
            trial = tried(call, choice)
    notes = (f"implicit gradients were tried in vain: {past.vain}",) if past.vain else ()
    return judged(call, trial, found, notes)


def asked(call: Call, spec: Spec) -> Hypergradient:
    """The estimate by the requested method."""
    trial = tried(call, Choice(spec, "asked for"))
    return judged(call, trial, examined(call, spec, trial))


def tried(call: Call, choice: Choice) -> Trial:
    """The estimate by the chosen method.

    Raises:
      InvalidArgument: its program does not fit the memory.
    """
    fit, program = _fitted(call, choice)
    with objective_errors():
        return Trial(fit, program(call.trainable, call.hp, call.key))


def examined(call: Call, spec: Spec, trial: Trial) -> Findings:
    """The chaos exponent from the norms over time, or from a probe if they are suspicious.

    Raises:
      UnusableGradient: see `probed`.
    """
    out, method, past = trial.out, trial.fit.spec.method, call.experience
    growth = None if out.growth is None else float(out.growth)
    fine = growth is None or growth <= SURELY[method]
    if (fine and np.isfinite(out.value)) or not (call.check and call.facts.forward_step):
        return Findings(exponent=growth)
    if growth is not None and method in past.excess and growth - past.excess[method] <= TRUSTED:
        return Findings(exponent=growth - past.excess[method])
    found = probed(call, spec)
    if growth is not None and found.exponent is not None:
        past.chaotic = not found.exponent <= TRUSTED
        if not past.chaotic and np.isfinite(growth):
            past.excess[method] = growth - found.exponent
    return found


def probed(call: Call, spec: Spec) -> Findings:
    """The chaos exponent from a training that carries a tangent.

    Raises:
      UnusableGradient: the training fails, or has no derivative and the method is "auto".
    """
    with objective_errors():
        read = Spec(horizon=spec.horizon, metric=spec.metric, wrt=spec.wrt)
        found = probe_program(call.trainable, call.hp, call.key, read)
    growth = np.asarray(found.growth)
    failed = np.flatnonzero(~np.isfinite(growth) & (growth > 0))
    if not np.isfinite(found.value):
        when = f" from about step {failed[0] + 1} on" if failed.size else ""
        raise UnusableGradient(no_value(found.value, bool(found.sound), when))
    if failed.size and spec.method == "auto":
        raise UnusableGradient(no_derivative(f"from step {failed[0] + 1} on"))
    return Findings(
        exponent=float(found.exponent),
        growth=growth,
        # a requested method may avoid it: in reverse mode the bad part may have a zero cotangent
        broken=int(failed[0]) + 1 if failed.size else None,
    )


def judged(call: Call, trial: Trial, found: Findings, notes: tuple[str, ...] = ()) -> Hypergradient:
    """The checked estimate with its diagnostics, which hold ``notes`` and the doubts about it.

    Raises:
      UnusableGradient: the training failed, or the gradient is not finite.
    """
    fit, out = trial
    check_result(call.hp, call.facts, fit.spec, found, out)
    notes = (*notes, *doubts(call.facts, fit.spec, found, out))
    return Hypergradient(out.value, without(out.grad), report(call, fit, found, out, notes))


def with_norms(call: Call, spec: Spec) -> Spec:
    """The spec with ``norms`` set if the method computes norms over time."""
    return spec._replace(norms=spec.method in SURELY and call.facts.steps > 0)


def levels_open(call: Call, spec: Spec) -> tuple[int, ...]:
    """The levels of rematerialisation to try."""
    if spec.method not in ("reverse", "truncated") or call.levels is not None or call.facts.steps == 0:
        return (spec.levels,)
    # if the steps use `mixed_grad`, one level needs less memory than none and no more time
    return LEVELS[1:] if call.facts.gradients else LEVELS


def _in_vain(out: Estimate) -> str | None:
    """Why implicit gradients cannot be used here; "" if training has not converged, None if they can."""
    assert out.stationary is not None
    if not float(out.stationary) <= CONVERGED:
        return ""
    return next(iter(solve_doubts(out)), None)


def _fitted(call: Call, choice: Choice) -> tuple[Fit, Executable]:
    """The spec with the fewest levels whose program fits the memory, and the compiled program."""
    spec, why = with_norms(call, choice.spec), choice.why
    candidates = levels_open(call, spec)
    tried: list[tuple[int, str]] = []
    for levels in candidates:
        spec = spec._replace(levels=levels)
        expected = expected_bytes(call.facts, spec)
        if len(candidates) > 1 and expected > call.limit:
            tried.append((expected, f"{levels}: {in_units(expected)} expected"))
            continue
        with objective_errors():
            program = estimate_program.compile(call.trainable, call.hp, call.key, spec)
        analysis = program.memory_analysis()
        measured = None if analysis is None else int(analysis.temp_size_in_bytes)
        if measured is None or measured <= call.limit:
            if tried:
                why += f"; fewest levels in {in_units(call.limit)} ({', '.join(text for _, text in tried)})"
            return Fit(spec, why, measured), program
        tried.append((measured, f"{levels}: {in_units(measured)} measured"))
    raise too_large(call, spec, tried, len(candidates) > 1)


def too_large(call: Call, spec: Spec, tried: list[tuple[int, str]], listed: bool) -> InvalidArgument:
    """The error for a memory limit that no number of levels fits."""
    every = f" ({', '.join(text for _, text in tried)})" if listed else ""
    return InvalidArgument(
        f"memory: expected at least {min(tried)[0]} bytes for method {spec.method!r}{every}, got {call.limit}; "
        "forward mode (method='forward') keeps few states, a smaller batch makes steps need less"
    )


def report(call: Call, fit: Fit, found: Findings, out: Estimate, notes: tuple[str, ...]) -> Diagnostics:
    """The diagnostics of an estimate."""
    spec, facts = fit.spec, call.facts
    leveled = spec.method in ("reverse", "truncated")
    windowed = spec.method in ("truncated", "pes", "es_single") and spec.window
    return Diagnostics(
        method=spec.method,
        why=fit.why,
        levels=spec.levels if leveled else None,
        window=spec.window if windowed else None,
        seeds=spec.seeds,
        names=facts.names,
        size=facts.size,
        steps=facts.steps,
        exponent=number(out.growth) if found.exponent is None else found.exponent,
        growth=found.growth,
        stationary=number(out.stationary),
        norms=number(out.norms),
        error=out.error,
        residual=number(out.residual),
        negative=number(out.negative),
        agreement=number(out.agreement),
        state_bytes=facts.state,
        memory_expected=expected_bytes(facts, spec),
        memory_measured=fit.measured,
        memory_limit=call.limit,
        notes=notes,
    )
