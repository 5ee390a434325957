"""Sobol points against SciPy's: the same two-dimensional sequence, and as even in more dimensions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc

from jhpo.kernels.sobol import MAX_DIM, direction_numbers, sobol

pytestmark = pytest.mark.quick


def test_the_first_two_dimensions_are_scipys() -> None:
    np.testing.assert_array_equal(sobol(0, 64, 2), qmc.Sobol(2, scramble=False).random(64).astype(np.float32))


def test_blocks_join() -> None:
    whole = sobol(0, 32, 5)
    np.testing.assert_array_equal(whole[16:], sobol(16, 16, 5))
    np.testing.assert_array_equal(whole[16:], jax.jit(lambda s: sobol(s, 16, 5))(np.uint32(16)))


@pytest.mark.parametrize("start", [0, 255, 1000, 2**32 - 300])
def test_long_blocks_are_short_ones_joined(start: int) -> None:
    parts = [np.asarray(sobol((start + i) % 2**32, 100, 5)) for i in range(0, 1500, 100)]
    np.testing.assert_array_equal(np.asarray(sobol(start, 1500, 5)), np.concatenate(parts))


@pytest.mark.parametrize("scrambled", [False, True])
def test_every_dimension_is_balanced(scrambled: bool) -> None:
    dim = 40
    seed = jax.random.bits(jax.random.key(0), (dim,), jnp.uint32) if scrambled else None
    points = np.asarray(sobol(0, 256, dim, seed))
    cells = np.sort(np.floor(points * 256).astype(int), axis=0)
    np.testing.assert_array_equal(cells, np.repeat(np.arange(256)[:, None], dim, axis=1))


@pytest.mark.parametrize(("dim", "n"), [(3, 128), (8, 256), (16, 512)])
def test_as_even_as_scipys(dim: int, n: int) -> None:
    ours, theirs, random = [], [], []
    for s in range(8):
        seed = jax.random.bits(jax.random.key(s), (dim,), jnp.uint32)
        ours.append(qmc.discrepancy(np.asarray(sobol(0, n, dim, seed), np.float64)))
        theirs.append(qmc.discrepancy(qmc.Sobol(dim, seed=s).random(n)))
        random.append(qmc.discrepancy(np.random.default_rng(s).random((n, dim))))
    assert np.mean(ours) < 1.3 * np.mean(theirs)
    assert np.mean(ours) < 0.8 * np.mean(random)


def test_the_scramble_is_uniform_and_its_seeds_differ() -> None:
    first = jnp.stack([sobol(0, 1, 4, jax.random.bits(jax.random.key(s), (4,), jnp.uint32))[0] for s in range(200)])
    counts = np.histogram(np.asarray(first).ravel(), bins=8, range=(0, 1))[0]
    assert ((counts - 100) ** 2 / 100).sum() < 24.3  # chi-square, 7 degrees of freedom, 0.1%


def test_direction_numbers_are_bounded() -> None:
    assert direction_numbers(MAX_DIM).shape == (MAX_DIM, 32)
    with pytest.raises(ValueError, match="dim: expected an integer"):
        direction_numbers(MAX_DIM + 1)
