"""Rows that are known to lie in the unit cube are not clipped, and their values are the same and within the bounds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.space.codec import decode_traced

SPACE = jhpo.Space(
    {
        "x": jhpo.Float(0.0, 1.0),
        "y": jhpo.Float(-0.1, 0.7, shape=(3,)),
        "lr": jhpo.Float(1e-5, 0.3, log=True),
        "kind": jhpo.Choice(["a", "b"]),
        "n": jhpo.Int(1, 9, when={"kind": "b"}),
    }
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_those_of_clipped_rows(dtype):
    with jax.enable_x64(dtype == "float64"):
        rng = np.random.default_rng(0)
        units = rng.uniform(size=(200, SPACE.dim))
        units[:40] = rng.integers(0, 2, (40, SPACE.dim))  # corners
        rows = jnp.asarray(units, dtype)
        found, wanted = (jax.jit(lambda u, i=i: decode_traced(SPACE, u, {}, i))(rows) for i in (True, False))
        jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_value_of_a_linear_scale_exceeds_its_bounds(dtype):
    """Some bounds let ``low + (high - low)`` exceed ``high`` by rounding, others do not: only the first are clipped."""
    rng = np.random.default_rng(1)
    exceeds = 0
    with jax.enable_x64(dtype == "float64"):
        kind = np.dtype(dtype).type
        for low, high in rng.uniform([-1.0, 0.0], [0.0, 1.0], (200, 2)):
            values = np.asarray(jhpo.Float(low, high).value(jnp.asarray([0.0, 0.5, 1.0], dtype)))
            assert (kind(low) <= values).all() and (values <= kind(high)).all()
            exceeds += bool(kind(low) + kind(high - low) > kind(high))
    assert 0 < exceeds < 200
