"""Rows side by side are the same numbers, a loop apart stays one, rows in turn do not wait, and sums are wide."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.internals import shape_of
from jhpo.kernels.loops import abreast, apart, in_turn, seldom, wide_sums
from jhpo.kernels.programs import equations


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (7, 7), (40, 5), (48, 3)])
def test_rows_side_by_side(n: int, rows: int) -> None:
    a, row, one = jnp.arange(3.0 * n).reshape(n, 3), jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[4.0]])
    wide, repeated, same = abreast(n, a, row, one)
    assert wide.shape == (rows, 3 * n // rows) and same.shape == (1, 1)
    np.testing.assert_array_equal((wide + repeated + same).reshape(n, 3), a + row + one)


@apart
def _scaled(times: int, a: jax.Array) -> jax.Array:
    return jnp.where(a > 0, times * a, a)


@pytest.mark.parametrize("batched", [False, True])
def test_a_loop_apart_is_computed_once_for_all_readers(batched: bool) -> None:
    def f(a: jax.Array) -> tuple[jax.Array, jax.Array]:
        b = _scaled(3, a - 1)
        return b.sum(), b + 1

    a = jnp.arange(12.0).reshape(3, 4)
    compiled = jax.jit(jax.vmap(f) if batched else f).lower(a).compile()
    expected = np.where(a - 1 > 0, 3 * (a - 1), a - 1)
    total, more = compiled(a)
    np.testing.assert_array_equal(total, expected.sum(axis=1) if batched else expected.sum())
    np.testing.assert_array_equal(more, expected + 1)
    if jax.default_backend() == "cpu":
        text = compiled.as_text()
        assert text.count("inlineable=") == 1 and text.count(" compare(") == 1
    np.testing.assert_array_equal(jax.grad(lambda a: f(a)[0])(a), np.where(a - 1 > 0, 3.0, 1.0))


def test_rows_in_turn_do_not_wait_for_the_slowest() -> None:
    """The halvings that each row needs, in a loop that a batch in lockstep would run as one of 40 times 3 rows."""

    def halvings(a: jax.Array, limit: jax.Array) -> dict[str, jax.Array]:
        smaller = lambda c: (c[0] + 1, c[1] / 2)  # noqa: E731
        steps, left = jax.lax.while_loop(lambda c: c[1] > limit, smaller, (jnp.int32(0), a))
        return {"steps": steps, "left": left}

    rows = jnp.array([1.0, 2.0**40, 8.0])
    batched = jax.jit(jax.vmap(in_turn(halvings), (0, None)))
    found = batched(rows, jnp.float32(1.0))
    assert found["steps"].tolist() == [0, 40, 3] and found["left"].tolist() == [1.0, 1.0, 1.0]
    nested = jax.vmap(jax.vmap(in_turn(halvings), (0, None)), (None, 0))(rows, jnp.array([1.0, 2.0]))
    assert nested["steps"].tolist() == [[0, 40, 3], [0, 39, 2]]
    # no loop whose rows end at different times
    assert "tensor<3xi1>" not in lowered(batched, "cpu", rows, jnp.float32(1.0))
    assert "tensor<3xi1>" in lowered(batched, "cuda", rows, jnp.float32(1.0))


def test_rows_in_turn_within_a_condition_that_differs_between_rows() -> None:
    """JAX makes batches of everything then, of what the function closes over too."""
    branch = lambda x, w: jax.lax.cond(x > 0, in_turn(lambda y: w * y), lambda y: y, x)  # noqa: E731
    x = jnp.array([-1.0, 3.0])
    assert jax.vmap(branch, (0, None))(x, jnp.float32(2.0)).tolist() == [-1.0, 6.0]
    assert jax.jit(jax.vmap(branch))(x, jnp.array([5.0, 7.0])).tolist() == [-1.0, 21.0]


def lowered(f, platform: str, *args) -> str:
    """The program for a platform, as text."""
    return jax.export.export(jax.jit(f), platforms=[platform])(*args).mlir_module()


def _slow_sums(program) -> list[int]:
    """Sizes of the sums over whole arrays that XLA's CPU code makes one by one."""
    sums = [e for e in equations(program.jaxpr) if e.primitive.name == "reduce_sum"]
    whole = [x for e in sums if len(e.params["axes"]) == (x := shape_of(e.invars[0])).ndim]
    return [x.size for x in whole if 128 <= x.size <= 8192]


@pytest.mark.parametrize("shape", [(127,), (128,), (3, 43), (64, 32), (13, 7, 11), (8192,), (91, 91)])
def test_wide_sums_are_the_same_sums(shape: tuple[int, ...]) -> None:
    x = jax.random.normal(jax.random.key(0), shape)

    def f(rate: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.tanh(rate * x), axis=0).sum() + x.sum(dtype=x.dtype)

    found, grads = jax.jit(wide_sums(jax.value_and_grad(f, argnums=(0, 1))))(jnp.asarray(0.5, x.dtype), x)
    y = np.asarray(x, np.float64)
    slope = y * (1 - np.tanh(y / 2) ** 2)
    np.testing.assert_allclose(found, (np.tanh(y / 2) + y).sum(), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(grads[0], slope.sum(), rtol=1e-5, atol=1e-5 * np.abs(slope).sum())
    np.testing.assert_allclose(grads[1], (1 - np.tanh(y / 2) ** 2) / 2 + 1, rtol=1e-5)
    batched = jax.vmap(wide_sums(jax.grad(f)), (0, None))(jnp.asarray([0.5, 0.0], x.dtype), x)
    np.testing.assert_allclose(batched, [grads[0], y.sum()], rtol=1e-5, atol=1e-5 * np.abs(y).sum())


def test_sums_in_loops_are_wide_and_can_be_differentiated_again() -> None:
    x = jax.random.normal(jax.random.key(1), (40, 20))

    def f(rate: jax.Array) -> jax.Array:
        step = jax.checkpoint(lambda w, _: (w - rate * jnp.sin(w), None))
        return jnp.max(jax.lax.scan(step, x, None, length=3)[0])

    rate = jnp.asarray(0.1, x.dtype)
    plain, wide = jax.grad(f), wide_sums(jax.grad(f))
    assert 800 in _slow_sums(jax.make_jaxpr(plain)(rate))
    whole = "applies stablehlo.add across dimensions = [0, 1] : (tensor<40x20xf32>"
    assert whole in lowered(plain, "cpu", rate) and whole not in lowered(wide, "cpu", rate)
    assert whole in lowered(wide, "cuda", rate)
    np.testing.assert_allclose(wide(rate), plain(rate), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(wide)(rate), jax.grad(plain)(rate), rtol=1e-4)


def test_integers_and_narrow_floats_keep_their_sums() -> None:
    for dtype in (jnp.int32, jnp.bfloat16):
        x = jnp.ones((16, 16), dtype)
        program = jax.make_jaxpr(wide_sums(lambda x: jax.lax.reduce_sum_p.bind(x, axes=(0, 1), out_sharding=None)))(x)
        assert _slow_sums(program) == [256]


def test_what_happens_seldom_is_done_where_it_is_due_and_has_derivatives():
    def f(due, x, y):
        return seldom(lambda x, y: jnp.sin(x) * y, due, x, y)

    due, x, y = jnp.array([True, False, True]), jnp.array([0.5, 1.0, 1.5]), jnp.array([2.0, 3.0, 4.0])
    expected = jnp.where(due, jnp.sin(x) * y, x)
    np.testing.assert_allclose(jax.vmap(f)(due, x, y), expected)
    np.testing.assert_allclose([f(*row) for row in zip(due, x, y)], expected)
    slopes = jax.vmap(jax.grad(f, argnums=(1, 2)))(due, x, y)
    np.testing.assert_allclose(slopes[0], jnp.where(due, jnp.cos(x) * y, 1.0), rtol=1e-6)
    np.testing.assert_allclose(slopes[1], jnp.where(due, jnp.sin(x), 0.0), rtol=1e-6)


def test_xla_does_not_work_in_advance_on_what_happens_seldom():
    """Outside of the loop it would be computed in every generation."""

    def update(carry, i):
        x, stays = carry
        return x + jnp.sin(jnp.arange(1000.0) * i) + jnp.cos(stays), stays

    def generation(carry, i):
        return seldom(update, i < 0, carry, i), None

    zeros = jnp.zeros(1000)
    program = jax.jit(lambda x, y: jax.lax.scan(generation, (x, y), jnp.arange(9.0))[0])
    text = program.lower(zeros, zeros).compile().as_text()
    for name in (" sine(", " cosine("):
        assert text.count(name) == 1
        inner = next(part for part in text.split("\n\n") if name in part)
        assert "while(" not in inner
