"""`jhpo.hypergrad` while it is traced (inside jit, scan or vmap): decisions by shapes, as there are no values."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.gradients.attempt import Call, Fit, levels_open, report, too_large, with_norms
from jhpo.gradients.estimators import estimate_program
from jhpo.gradients.plan import Choice, Findings, choose, expected_bytes
from jhpo.gradients.report import Hypergradient, in_units
from jhpo.gradients.spec import Spec
from jhpo.gradients.trust import unused
from jhpo.training.tracing import objective_errors
from jhpo.training.values import without
from jhpo.values.pytrees import HP


def inside(call: Call, spec: Spec) -> Hypergradient:
    """The estimate as a part of the program that is being traced.

    "auto" assumes a stable training. Nothing is measured beforehand and nothing raised afterwards: a failed training
    gives NaN, and the exponent in the diagnostics is a traced number.

    Raises:
      InvalidArgument: the expected memory of the method exceeds the limit.
    """
    choice = Choice(spec, "asked for")
    if spec.method == "auto":
        choice = choose(call.facts, spec, Findings(), implicit=False)
    fit = _fitted(call, choice)
    with objective_errors():
        out = estimate_program(call.trainable, call.hp, call.key, fit.spec)
    found = report(call, fit, Findings(), out, tuple(unused(call.facts)))
    return Hypergradient(out.value, without(_failed_with(out.value, out.grad, spec)), found)


def _failed_with(value: jax.Array, grad: HP, spec: Spec) -> HP:
    """The gradient, NaN where the value is not finite: of a constant NaN it is 0, which would pass for a minimum."""
    leaves, structure = jax.tree.flatten(grad)
    chosen = (True,) * len(leaves) if spec.wrt is None else spec.wrt
    good = jnp.isfinite(value)
    marked = [jnp.where(good, g, jnp.nan).astype(g.dtype) if c else g for g, c in zip(leaves, chosen, strict=True)]
    return jax.tree.unflatten(structure, marked)


def _fitted(call: Call, choice: Choice) -> Fit:
    """The fewest levels whose expected memory is within the limit."""
    spec = with_norms(call, choice.spec)
    candidates = [spec._replace(levels=levels) for levels in levels_open(call, spec)]
    sizes = [expected_bytes(call.facts, s) for s in candidates]
    for candidate, size in zip(candidates, sizes):
        if size <= call.limit:
            return Fit(candidate, choice.why)
    texts = [f"{s.levels}: {in_units(size)} expected" for s, size in zip(candidates, sizes)]
    raise too_large(call, spec, list(zip(sizes, texts)), len(candidates) > 1)
