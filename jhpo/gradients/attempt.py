"""One call of `jhpo.hypergrad`, its arguments checked: probe the training, choose a method, estimate, judge."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jhpo.errors import InvalidArgument, UnusableGradient
from jhpo.gradients.estimators import estimate_program
from jhpo.gradients.plan import LEVELS, Choice, Facts, Findings, choose, expected_bytes
from jhpo.gradients.probe import probe_program
from jhpo.gradients.report import Diagnostics, Hypergradient, in_units
from jhpo.gradients.spec import HP, Estimate, Spec
from jhpo.gradients.trust import check_result, doubts, no_derivative
from jhpo.kernels.chaos import TRUSTED
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import Trainable
from jhpo.training.values import without


class Call(NamedTuple):
    """What was asked for, beside the method."""

    trainable: Trainable
    hp: HP
    key: jax.Array  # key[]
    facts: Facts
    limit: int  # bytes of temporary memory
    levels: int | None  # of rematerialisation; None for the fewest that fit
    check: bool  # measure how chaotic the training is


class Fit(NamedTuple):
    """A choice whose program fits the memory."""

    spec: Spec
    why: str
    measured: int | None  # temporary bytes of the compiled program, None where the backend does not tell


def automatic(call: Call, spec: Spec) -> Hypergradient:
    """The estimate by the method that fits what is known of the training."""
    found = probed(call, spec)
    if found.exponent is None:
        return _by_norms(call, spec)
    result = attempt(call, found, choose(call.facts, spec, found))
    if result.diagnostics.method != "implicit" or not result.diagnostics.notes:
        return result
    note = f"implicit gradients were tried in vain: {result.diagnostics.notes[-1]}"
    return attempt(call, found, choose(call.facts, spec, found, skip=("implicit",)), (note,))


def _by_norms(call: Call, spec: Spec) -> Hypergradient:
    """Reverse mode where steps have no other derivative: the norms of dE/dw_t it finds tell whether it is sound."""
    why = "steps with jax.custom_vjp have no other derivative"
    result = attempt(call, Findings(), Choice(spec._replace(method="reverse"), why))
    exponent = result.diagnostics.exponent
    if exponent is None or exponent <= TRUSTED:
        return result
    found = Findings(exponent=exponent)
    return attempt(call, found, choose(call.facts, spec, found))


def probed(call: Call, spec: Spec) -> Findings:
    """Chaos exponent and convergence, where they were asked for and can be measured.

    Raises:
      UnusableGradient: the training fails, or has no derivative and the method is "auto".
    """
    if not (call.check and call.facts.forward_step):
        return Findings()
    with objective_errors():
        read = Spec(horizon=spec.horizon, metric=spec.metric, wrt=spec.wrt)
        found = probe_program(call.trainable, call.hp, call.key, read)
    growth = np.asarray(found.growth)
    failed = np.flatnonzero(~np.isfinite(growth) & (growth > 0))
    if not np.isfinite(found.value):
        when = f" from about step {failed[0] + 1} on" if failed.size else ""
        raise UnusableGradient(
            f"training: expected a finite value, got {float(found.value)}: the state is not finite{when}; try a "
            "smaller learning rate, clipped gradients, or a shorter horizon"
        )
    if failed.size and spec.method == "auto":
        raise UnusableGradient(no_derivative(f"from step {failed[0] + 1} on"))
    return Findings(
        exponent=float(found.exponent),
        growth=growth,
        stationary=float(found.stationary) if call.facts.implicit else None,
        # a method that was asked for may get around it: reverse mode where the bad part has no weight
        broken=int(failed[0]) + 1 if failed.size else None,
    )


def attempt(call: Call, found: Findings, choice: Choice, notes: tuple[str, ...] = ()) -> Hypergradient:
    """The estimate by the chosen method, with ``notes`` and the doubts about it.

    Raises:
      InvalidArgument: its program does not fit the memory.
      UnusableGradient: the training failed, or the gradient is not finite.
    """
    fit = _fitted(call, choice)
    with objective_errors():
        arguments = (call.trainable, call.hp, call.key)
        out = estimate_program.compile(*arguments, fit.spec)(*arguments)
    if found.exponent is None and out.norms is not None and fit.spec.method == "reverse" and call.check:
        sizes = np.asarray(out.norms)
        found = found._replace(exponent=float(np.log(np.max(sizes) / sizes[-1])) if sizes[-1] > 0 else 0.0)
    check_result(call.hp, call.facts, fit.spec, found, out)
    notes = (*notes, *doubts(call.facts, fit.spec, found, out))
    return Hypergradient(out.value, without(out.grad), _report(call, fit, found, out, notes))


def _fitted(call: Call, choice: Choice) -> Fit:
    """The fewest levels whose program fits the memory; compiles it, and what fits is not compiled again."""
    spec, why = choice
    spec = spec._replace(norms=spec.method in ("reverse", "truncated", "forward") and call.facts.steps > 0)
    open_levels = spec.method in ("reverse", "truncated") and call.levels is None and call.facts.steps > 0
    tried: list[tuple[int, str]] = []
    # with `mixed_grad` in the steps, one level costs less memory than none and no more time
    candidates = LEVELS[1:] if call.facts.gradients else LEVELS
    for levels in candidates if open_levels else (spec.levels,):
        spec = spec._replace(levels=levels)
        expected = expected_bytes(call.facts, spec)
        if open_levels and expected > call.limit:
            tried.append((expected, f"{levels}: {in_units(expected)} expected"))
            continue
        with objective_errors():
            analysis = estimate_program.compile(call.trainable, call.hp, call.key, spec).memory_analysis()
        measured = None if analysis is None else int(analysis.temp_size_in_bytes)
        if measured is None or measured <= call.limit:
            if tried:
                why += f"; fewest levels in {in_units(call.limit)} ({', '.join(text for _, text in tried)})"
            return Fit(spec, why, measured)
        tried.append((measured, f"{levels}: {in_units(measured)} measured"))
    least, _ = min(tried)
    every = f" ({', '.join(text for _, text in tried)})" if open_levels else ""
    raise InvalidArgument(
        f"memory: expected at least {least} bytes for method {spec.method!r}{every}, got {call.limit}; "
        "forward mode (method='forward') keeps few states, a smaller batch makes steps need less"
    )


def _report(call: Call, fit: Fit, found: Findings, out: Estimate, notes: tuple[str, ...]) -> Diagnostics:
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
        exponent=found.exponent,
        growth=found.growth,
        stationary=found.stationary,
        norms=None if out.norms is None else np.asarray(out.norms),
        error=out.error,
        residual=None if out.residual is None else float(out.residual),
        negative=None if out.negative is None else bool(out.negative),
        agreement=None if out.agreement is None else float(out.agreement),
        state_bytes=facts.state,
        memory_expected=expected_bytes(facts, spec),
        memory_measured=fit.measured,
        memory_limit=call.limit,
        notes=notes,
    )
