"""Bytes of a step: what is fused, what is written for a product, what is read once."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from benchmarks.launch_bytes import traffic

N = 4 * 8 * 8  # bytes of the matrix


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda a, b: jnp.exp(a) + b, 3 * N),  # one kernel: two read, one written
        (lambda a, b: (a + b, a - b), 4 * N),  # of one shape: each is read once
        (lambda a, b: (a + b).sum(axis=0), 2 * N + N // 8),  # summed as it is computed
        (lambda a, b: a @ b.T, 3 * N),  # read in another order
        (lambda a, b: a @ jnp.exp(b), 3 * N + 2 * N),  # a product reads memory: first the exponentials are written
        (lambda a, b: jax.jit(lambda x: x + 1.0)(a) * b, 3 * N),  # functions are looked into
        (lambda a, b: jax.lax.dynamic_update_slice(a, b[:1], (2, 0)), N // 8 + N),  # in place: a row, of what is read
        (lambda a, b: a[jnp.argsort(b[0])], None),
    ],
)
def test_kernels_read_and_write(f, expected: int | None) -> None:
    found = traffic(f, (jnp.ones((8, 8)), jnp.ones((8, 8))))
    assert found.total == expected or (expected is None and any(name.startswith("gather") for name, _ in found.kernels))
