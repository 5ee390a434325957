"""Factorisations one after another: the same values and derivatives, and no batch in what a CPU calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jhpo.kernels.lapack import lapack_in_turn
from jhpo.kernels.programs import equations

EYE = np.eye(4)


def of_lapack(text: str) -> list[str]:
    """The types of the first operands of all calls of LAPACK in a lowered program."""
    return re.findall(r"stablehlo.custom_call @lapack_\w+\(.*?\) .*?: \(tensor<([^>]*)>", text)


@pytest.fixture
def matrices() -> jax.Array:
    a = np.random.default_rng(0).normal(size=(3, 4, 4))
    return jnp.asarray(a @ np.swapaxes(a, -1, -2) + EYE)


@jax.custom_vjp
def own(c: jax.Array) -> jax.Array:
    return jnp.linalg.cholesky(c)


own.defvjp(lambda c: (own(c), None), lambda _, cotangent: (7.0 * cotangent,))

FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[np.ndarray], Any]]] = {
    "cholesky": (jnp.linalg.cholesky, np.linalg.cholesky),
    "qr": (lambda c: jnp.abs(jnp.linalg.qr(c)[1]), lambda c: np.abs(scipy.linalg.qr(c)[1])),
    "eigh": (lambda c: jnp.linalg.eigh(c)[0], scipy.linalg.eigvalsh),
    "svd": (lambda c: jnp.linalg.svd(c)[1], scipy.linalg.svdvals),
    "solve": (lambda c: jnp.linalg.solve(c, jnp.eye(4, dtype=c.dtype)), np.linalg.inv),
    "slogdet": (lambda c: jnp.linalg.slogdet(c)[1], lambda c: np.linalg.slogdet(c)[1]),
    "triangular": (
        lambda c: jax.scipy.linalg.solve_triangular(c, jnp.ones((4,), c.dtype), lower=True),
        lambda c: scipy.linalg.solve_triangular(c, np.ones(4), lower=True),
    ),
    "orthogonal": (
        lambda c: (
            jax.nn.initializers.orthogonal()(jax.random.key(0), (4, 4), c.dtype).T
            @ jax.nn.initializers.orthogonal()(jax.random.key(0), (4, 4), c.dtype)
        ),
        lambda c: EYE,
    ),
    "custom_vjp": (own, np.linalg.cholesky),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batches_have_the_values_of_scipy(name: str, matrices: jax.Array) -> None:
    function, reference = FUNCTIONS[name]
    want = np.stack([reference(np.asarray(c, np.float64)) for c in matrices])
    for batched in (jax.vmap(lapack_in_turn(function)), lapack_in_turn(jax.vmap(function))):
        np.testing.assert_allclose(jax.jit(batched)(matrices), want, rtol=1e-4, atol=1e-4)
    twice = jax.vmap(jax.vmap(lapack_in_turn(function)))(jnp.stack([matrices, matrices[::-1]]))
    np.testing.assert_allclose(twice[1][::-1], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "orthogonal"])
def test_derivatives_are_those_of_the_function(name: str, matrices: jax.Array) -> None:
    function, _ = FUNCTIONS[name]
    plain = jax.vmap(jax.grad(lambda c: jnp.sum(function(c) ** 2)))(matrices)
    of_it = jax.vmap(jax.grad(lambda c: jnp.sum(lapack_in_turn(function)(c) ** 2)))(matrices)
    within = jax.vmap(lapack_in_turn(jax.grad(lambda c: jnp.sum(function(c) ** 2))))(matrices)
    np.testing.assert_allclose(of_it, plain, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(within, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_cpu_is_given_one_matrix_at_a_time(name: str, matrices: jax.Array) -> None:
    function, _ = FUNCTIONS[name]
    lowered = jax.jit(jax.vmap(jax.vmap(lapack_in_turn(jax.vmap(function))))).lower(jnp.ones((2, 5, 3, 4, 4)))
    calls = of_lapack(lowered.as_text())
    assert calls and all(len(shape.split("x")) == 3 for shape in calls)  # rows, columns, dtype
    if name != "orthogonal":  # the same program without it: the test can fail
        plain = of_lapack(jax.jit(jax.vmap(function)).lower(jnp.ones((3, 4, 4))).as_text())
        assert any(len(shape.split("x")) == 4 for shape in plain)


def test_programs_without_factorisations_stay_as_they_are() -> None:
    program = jax.make_jaxpr(jax.vmap(lapack_in_turn(lambda x: jnp.tanh(x) @ x)))(jnp.ones((2, 3)))
    assert not any(e.primitive.name.startswith("custom_vmap") for e in equations(program.jaxpr))
