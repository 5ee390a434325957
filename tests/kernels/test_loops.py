"""Rows side by side are the same numbers, and a loop apart stays one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.loops import abreast, apart


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
