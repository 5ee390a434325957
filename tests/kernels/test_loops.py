"""Rows side by side are the same numbers, a loop apart stays one, and rows in turn do not wait for one another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.loops import abreast, apart, in_turn


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
    if jax.default_backend() == "cpu":
        text = str(jax.make_jaxpr(batched)(rows, jnp.float32(1.0)))
        assert text.count("scan[") == 1 and "bool[3]" not in text  # no loop whose rows end at different times
