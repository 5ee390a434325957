"""Matrices by columns: the same values and derivatives whatever a program does with them, and fewer transpositions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.columns import by_columns
from jhpo.kernels.internals import shape_of
from jhpo.kernels.programs import equations

ROWS, INPUTS, OUTPUTS, MEMBERS = 5, 3, 2, 4  # all different: an array by columns has another shape


@pytest.fixture
def numbers() -> tuple[jax.Array, jax.Array]:
    """Inputs ``float[rows, inputs]`` and the weights of the members, ``float[members, inputs, outputs]``."""
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(ROWS, INPUTS))), jnp.asarray(rng.normal(size=(MEMBERS, INPUTS, OUTPUTS)))


def product(x: jax.Array, w: jax.Array, i: int = 1, j: int = 0) -> jax.Array:
    return jax.lax.dot_general(x, w, (((i,), (j,)), ((), ())))


def labels(z: jax.Array) -> jax.Array:
    return (jax.lax.broadcasted_iota(jnp.int32, z.shape, 1) == jnp.argmax(z, axis=1)[:, None]).astype(z.dtype)


def trained(x: jax.Array, w: jax.Array, loop: str = "scan") -> Any:
    """Weights of two layers after three steps, and what a scan puts together on the way."""
    target = jnp.arange(ROWS, dtype=jnp.int32) % OUTPUTS

    def loss(p: dict[str, jax.Array]) -> jax.Array:
        hidden = jax.nn.relu(x @ p["first"] + p["bias"][None])
        z = jax.nn.log_softmax(hidden @ p["second"])
        return -jnp.where(jax.nn.one_hot(target, OUTPUTS, dtype=bool), z, 0.0).sum(axis=1).mean()

    def step(p: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return jax.tree.map(lambda p, g: p - 0.5 * g / (jnp.sqrt(g**2) + 1.0), p, jax.grad(loss)(p))

    start = {"first": w, "bias": jnp.ones((OUTPUTS,), w.dtype), "second": w[:OUTPUTS] + 1.0}
    if loop == "scan":
        return jax.lax.scan(lambda p, _: (step(p), (loss(p), p["second"])), start, length=3)
    if loop == "reverse":
        xs = jnp.arange(3.0, dtype=w.dtype)[:, None, None] * jnp.ones_like(w)[None]
        return jax.lax.scan(lambda p, x: (step({**p, "first": p["first"] + x}), x), start, xs, reverse=True, unroll=3)
    if loop == "nested":
        return jax.lax.fori_loop(0, 2, lambda _, p: jax.lax.scan(lambda p, _: (step(p), None), p, length=2)[0], start)
    steps = jnp.sum(w).astype(jnp.int32) % 3 + 2  # traced, and another number for every member
    return jax.lax.fori_loop(0, steps, lambda _, p: step(p), start)


@jax.custom_vjp
def own(z: jax.Array) -> jax.Array:
    return jnp.tanh(z)


own.defvjp(lambda z: (own(z), None), lambda _, cotangent: (7.0 * cotangent,))

ACTIVATIONS: dict[str, Callable[[jax.Array], Any]] = {
    "sums": lambda z: (z.sum(), z.sum(axis=0), z.max(axis=1), z.min(), z.prod(axis=1), jnp.argmin(z, axis=0)),
    "softmax": lambda z: jax.nn.softmax(z, axis=1) - jax.nn.softmax(z, axis=0),
    "broadcasts": lambda z: (z + z[0][None]) * z[:, 1][:, None] + jnp.full_like(z, 2.0),
    "labels": lambda z: z * labels(z),
    "turned": lambda z: (z.T * jnp.arange(ROWS, dtype=z.dtype)[None]).T + z,
    "rows beside": lambda z: z * jnp.cumsum(jnp.ones_like(z), axis=1) - jnp.arange(10.0, dtype=z.dtype).reshape(5, 2),
    "conditions": lambda z: jnp.where(z > 0, jnp.clip(z, -0.5, 0.5), jnp.exp(z)).astype(jnp.int32),
    "others": lambda z: (jnp.sort(z, axis=0), z[1:], z.ravel(), jnp.concatenate([z, z], axis=1), jnp.linalg.norm(z)),
    "jit": lambda z: jax.jit(lambda z: (jnp.sin(z), z.T))(z),
    "relu": lambda z: jax.nn.relu(z) + jax.nn.gelu(z),
    "own derivative": lambda z: own(z),
    "cond": lambda z: jax.lax.cond(z[0, 0] > 0, lambda z: 2.0 * z, lambda z: z + 1.0, z),
    "checkpoint": lambda z: jax.checkpoint(lambda z: jnp.sin(z) @ z.T)(z),
    "dropout": lambda z: jnp.where(jax.random.bernoulli(jax.random.key(0), 0.5, z.shape), z, 0.0),
    "more products": lambda z: (z.T @ z, z @ z.T, z.T @ z @ z.T, product(z, z.T, 0, 1), z @ z[0]),
    "batched product": lambda z: jnp.einsum("bi,bj->bij", z, z) @ z.T,
}
LOOPS = ("scan", "reverse", "nested", "while")


def check(f: Callable[..., Any], x: jax.Array, w: jax.Array) -> None:
    """The same trees, shapes and dtypes, and the same values up to rounding, for one member and for several."""
    for got, want in (
        (by_columns(f)(x, w[0]), f(x, w[0])),
        (jax.jit(jax.vmap(by_columns(f), (None, 0)))(x, w), jax.vmap(f, (None, 0))(x, w)),
    ):
        assert jax.tree.map(lambda a: (a.shape, a.dtype), got) == jax.tree.map(lambda a: (a.shape, a.dtype), want)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_are_those_of_the_function(name: str, numbers: tuple[jax.Array, jax.Array]) -> None:
    check(lambda x, w: ACTIVATIONS[name](x @ w), *numbers)


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_products_over_any_axes(i: int, j: int, numbers: tuple[jax.Array, jax.Array]) -> None:
    x, w = numbers
    x, w = (x.T if i == 0 else x), (jnp.swapaxes(w, 1, 2) if j == 1 else w)
    check(lambda x, w: product(product(x, w, i, j), jnp.sin(x), 0, 1 - i), x, w)


@pytest.mark.parametrize("loop", LOOPS)
def test_loops(loop: str, numbers: tuple[jax.Array, jax.Array]) -> None:
    check(lambda x, w: trained(x, w, loop), *numbers)


def test_loops_in_float64(x64: None) -> None:
    rng = np.random.default_rng(1)
    x, w = jnp.asarray(rng.normal(size=(ROWS, INPUTS))), jnp.asarray(rng.normal(size=(INPUTS, OUTPUTS)))
    (got, of_steps), (want, _) = by_columns(trained)(x, w), trained(x, w)
    assert {leaf.dtype for leaf in jax.tree.leaves((got, of_steps))} == {jnp.dtype("float64")}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), got, want)


def test_precisions_follow_their_operands(numbers: tuple[jax.Array, jax.Array]) -> None:
    def f(x: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.matmul(x, v.T, precision=("highest", "default"))

    x, w = numbers
    program = jax.make_jaxpr(by_columns(f))(x, w[0].T)
    (product,) = (e for e in program.jaxpr.eqns if e.primitive.name == "dot_general")
    assert shape_of(product.invars[0]).shape == (OUTPUTS, INPUTS)  # exchanged
    assert [str(p) for p in product.params["precision"]] == ["DEFAULT", "HIGHEST"]


@pytest.mark.parametrize("name", ["softmax", "turned", "relu", "own derivative", "more products"])
def test_derivatives_are_those_of_the_function(name: str, numbers: tuple[jax.Array, jax.Array]) -> None:
    def total(f: Callable[..., Any]) -> Callable[..., jax.Array]:
        return lambda x, w: sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(f(x, w)))  # type: ignore[return-value]

    def f(x: jax.Array, w: jax.Array) -> Any:
        return ACTIVATIONS[name](x @ w)

    x, w = numbers
    got = jax.vmap(jax.grad(total(by_columns(f)), 1), (None, 0))(x, w)
    np.testing.assert_allclose(got, jax.vmap(jax.grad(total(f), 1), (None, 0))(x, w), rtol=1e-4, atol=1e-5)


def test_derivatives_inside(numbers: tuple[jax.Array, jax.Array]) -> None:
    check(lambda x, w: jax.value_and_grad(lambda w: jnp.sum(own(x @ w) + jax.nn.relu(x @ w)))(w), *numbers)


def products_and_turns(f: Callable[..., Any], x: jax.Array, w: jax.Array) -> tuple[list[int], list[int], list[Any]]:
    """Axes from the end over which first operands are contracted, sizes that are transposed, carries of the loop."""
    program = jax.make_jaxpr(jax.vmap(f, (None, 0)))(x, w)
    (scan,) = (e for e in program.jaxpr.eqns if e.primitive.name == "scan")
    found = list(equations(scan.params["jaxpr"].jaxpr))
    dots = [e for e in found if e.primitive.name == "dot_general"]
    over = [shape_of(e.invars[0]).ndim - e.params["dimension_numbers"][0][0][0] for e in dots]
    turned = [shape_of(e.invars[0]).size for e in found if e.primitive.name == "transpose"]
    return over, turned, [shape_of(v).shape for v in scan.outvars]


def test_a_training_transposes_no_activations(numbers: tuple[jax.Array, jax.Array]) -> None:
    def f(x: jax.Array, w: jax.Array) -> Any:
        return trained(x, w)[0]

    over, turned, carried = products_and_turns(by_columns(f), *numbers)
    assert set(over) == {1} and len(over) >= 5
    assert max(turned) < ROWS * OUTPUTS * MEMBERS
    assert (MEMBERS, OUTPUTS, INPUTS) in carried
    over, turned, carried = products_and_turns(f, *numbers)  # by rows: the test can fail
    assert set(over) != {1} and (MEMBERS, OUTPUTS, INPUTS) not in carried


def test_programs_without_products_stay_as_they_are() -> None:
    def f(x: jax.Array) -> jax.Array:
        x = jax.lax.scan(lambda c, _: (c.sum() + c, None), x, length=2)[0]
        return jnp.einsum("bij,bjk->bik", x, jax.nn.relu(x))

    x = jnp.ones((2, 3, 3))
    assert str(jax.make_jaxpr(by_columns(f))(x)) == str(jax.make_jaxpr(f)(x))
