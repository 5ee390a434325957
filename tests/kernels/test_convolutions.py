"""Gradients of convolutions of members and folds, on arrays of a mesh."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jhpo.kernels.convolutions import batchable

MEMBERS = PartitionSpec("members")


def loss(w: jax.Array, x: jax.Array) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jnp.sum(jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=numbers) ** 2)


def trained(gradient, scale: jax.Array, x: jax.Array) -> jax.Array:
    """Two steps of one member on one fold."""
    w = scale * jnp.ones((2, 2, 1, 3))
    return jax.lax.fori_loop(0, 2, lambda i, w: w - 0.01 * gradient(w, x), w)


@pytest.mark.quick
@pytest.mark.parametrize("spread", ["by the compiler", "by shard_map"])
def test_members_and_folds(spread: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 1)).astype(np.float32)
    scale = np.array([0.5, 1.0], np.float32)

    def both(gradient):
        return jax.vmap(jax.vmap(lambda s, x: trained(gradient, s, x), (None, 0)), (0, None))

    expected = jax.jit(both(jax.grad(loss)))(scale, x)
    mesh = Mesh(np.array(jax.devices()[:1]), ("members",))
    placed = (
        jax.device_put(scale, NamedSharding(mesh, MEMBERS)),
        jax.device_put(x, NamedSharding(mesh, PartitionSpec())),
    )

    def run(gradient):
        function = both(gradient)
        if spread == "by shard_map":
            function = jax.shard_map(function, mesh=mesh, in_specs=(MEMBERS, PartitionSpec()), out_specs=MEMBERS)
        return jax.jit(function)(*placed)

    # if JAX batches it by itself one day, `batchable` can go
    with pytest.raises(NotImplementedError):
        run(jax.grad(loss))
    np.testing.assert_allclose(run(batchable(jax.grad(loss))), expected, rtol=1e-6)
