"""Kernels called with other shapes than they declare stop the tests, and cost users nothing."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels import counter_random, numerics, warp
from tests.shapes import WrongShape, checked

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numerics.cholesky_inverse(jnp.ones((2, 3))), r"matrix: expected Float\[.*'n n'\].*float32\[2, 3\]"),
        (lambda: warp.half_rank(jnp.ones(3), jnp.ones(4, bool)), r"mask: expected Bool.*got bool\[4\]"),
        (lambda: warp.half_rank(jnp.ones(3), jnp.ones(3)), r"mask: expected Bool.*got float32\[3\]"),
        (lambda: counter_random.seeds(jax.random.key_data(jax.random.key(0)), 2), r"key: expected Key.*uint32\[2\]"),
        (lambda: jax.vmap(warp.half_rank)(jnp.ones((2, 3)), jnp.ones((2, 4), bool)), r"got bool\[4\]"),
    ],
)
def test_wrong_shapes_are_caught(call, message: str) -> None:
    with pytest.raises(WrongShape, match=message):
        call()


def test_results_are_checked_too() -> None:
    def halves(x):  # type: ignore[no-untyped-def]
        return x, x / 2

    halves.__annotations__ = {"x": 'Float[Array, "n"]', "return": 'tuple[Float[Array, "n"], Float[Array, ""]]'}
    with pytest.raises(WrongShape, match=r"result\[1\]: expected Float.*got float32\[3\]"):
        checked(halves)(jnp.ones(3))


def test_numpy_arrays_and_traced_ones_pass() -> None:
    mask = np.ones(3, bool)
    expected = warp.half_rank(jnp.arange(3.0), jnp.asarray(mask))
    np.testing.assert_array_equal(jax.jit(warp.half_rank)(np.arange(3, dtype=np.float32), mask), expected)


def test_nothing_is_imported_or_wrapped_outside_the_tests() -> None:
    code = (
        "import sys, jhpo, jhpo.kernels.warp as warp; "
        "assert 'jaxtyping' not in sys.modules and not hasattr(warp.half_rank, '__wrapped__')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
