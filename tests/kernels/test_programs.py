"""Programs are read and rewritten within loops, branches and calls, and only where that is safe."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.internals import runnable
from jhpo.kernels.programs import equations, replaced

CASES = {
    "straight": lambda f: f,
    "jit": jax.jit,
    "scan": lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, length=3)[0],
    "while": lambda f: lambda x: jax.lax.while_loop(lambda c: c.sum() > 2.0, f, x),
    "cond": lambda f: lambda x: jax.lax.cond(x.sum() > 0.0, f, jnp.exp, x),
    "checkpoint": jax.checkpoint,
    "backward": lambda f: jax.grad(lambda x: jax.checkpoint(lambda x: f(x) ** 2)(x).sum()),
    "nested": lambda f: lambda x: jax.lax.map(jax.jit(lambda row: jax.lax.cond(row > 0.0, f, jnp.exp, row)), x),
    "solve": lambda f: lambda x: jax.lax.custom_linear_solve(lambda y: y, x, lambda _, b: f(b), symmetric=True),
}
X = jnp.arange(1.0, 5.0)


def rounded(equation):
    return jax.lax.floor if equation.primitive.name == "ceil" else None


@pytest.mark.parametrize("around", CASES.values(), ids=CASES)
@pytest.mark.parametrize("batched", [False, True])
def test_equations_are_replaced_wherever_they_are(around: Callable, batched: bool) -> None:
    before, after = (around(lambda x, g=g: x * 0.7 + 0.1 * g(x)) for g in (jnp.ceil, jnp.floor))
    before, after = (jax.vmap(f) if batched else f for f in (before, after))
    x = X + 0.4 if not batched else jnp.stack([X + 0.4, X + 1.7])
    program = jax.make_jaxpr(before)(x)
    changed = replaced(program, rounded)
    names = [e.primitive.name for e in equations(changed.jaxpr)]
    assert "ceil" not in names and "floor" in names
    np.testing.assert_allclose(jax.jit(runnable(changed))(x)[0], after(x), rtol=1e-6)
    assert not np.allclose(before(x), after(x)) and replaced(changed, rounded) is changed


def test_what_is_called_often_stays_one_function() -> None:
    inner = jax.jit(jnp.ceil)
    program = jax.make_jaxpr(lambda x: inner(inner(x) - 0.5) + jax.jit(jnp.cos)(x))(X)
    changed = replaced(program, rounded)
    before, after = ([e.params["jaxpr"] for e in p.jaxpr.eqns if "jaxpr" in e.params] for p in (program, changed))
    assert after[0] is after[1] and after[0] is not before[0] and after[2] is before[2]
    np.testing.assert_allclose(runnable(changed)(X)[0], X - 1 + np.cos(X), rtol=1e-6)


def test_rules_of_derivatives_are_left_alone() -> None:
    """A function with its own derivative would no longer fit it."""
    own = jax.custom_jvp(jnp.ceil)
    own.defjvp(lambda primals, tangents: (own(*primals), tangents[0]))
    program = jax.make_jaxpr(own)(X)
    assert replaced(program, rounded) is program
