"""The counter generator is uniform, uncorrelated in every direction, and the same everywhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jhpo.kernels import counter_random as cr

N, D = 20_000, 20
SEEDS = [0, 1, 12345]


def block(seed: int, stream: int = 0) -> np.ndarray:
    words = cr.seeds(jax.random.key(seed), stream + 1)[stream]
    return np.asarray(jax.jit(lambda w: cr.uniform(w, (N, D)))(words))


@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_by_cells_and_by_distribution(seed: int) -> None:
    u = block(seed)
    counts = np.bincount((u.ravel() * 1000).astype(int), minlength=1000)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert stats.kstest(u.ravel().astype(float), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("bit", range(32))
def test_every_bit_is_fair_and_independent_of_the_next_number(bit: int) -> None:
    words = np.asarray(cr.bits(cr.seeds(jax.random.key(5), 1)[0], (N * D,)))
    ones = (words >> np.uint32(bit)) & 1
    sigma = 0.5 / np.sqrt(ones.size)
    assert abs(ones.mean() - 0.5) < 5 * sigma
    same = (ones[1:] == ones[:-1]).mean()
    assert abs(same - 0.5) < 5 * sigma


@pytest.mark.parametrize("lag", [1, 2, 3, 7, D, 2 * D, 64, 1024, 4096, 65536])
def test_no_serial_correlation(lag: int) -> None:
    u = block(2).ravel().astype(float) - 0.5
    assert abs(np.corrcoef(u[lag:], u[:-lag])[0, 1]) < 5 / np.sqrt(u.size - lag)


def test_no_correlation_between_dimensions_streams_and_generations() -> None:
    u = block(3).astype(float)
    between = np.corrcoef(u.T) - np.eye(D)
    assert np.abs(between).max() < 5.5 / np.sqrt(N)
    flat = u.ravel()
    # the other stream of the same key, and the keys of the generations that follow
    other = [block(3, 1).ravel()] + [
        np.asarray(cr.uniform(cr.seeds(jax.random.fold_in(jax.random.key(3), g), 1)[0], (N * D,))) for g in range(6)
    ]
    for series in other:
        assert abs(np.corrcoef(flat, series)[0, 1]) < 5 / np.sqrt(flat.size)


def test_seeds_from_random_keys_are_independent() -> None:
    keys = jax.random.split(jax.random.key(12), 4_000)
    words = np.asarray(jax.jit(jax.vmap(lambda k: cr.more_seeds(k, 6)))(keys))
    assert len(np.unique(words)) > words.size - 10  # 48,000 of 2**32: .27 pairs are equal by chance
    bits = (words.reshape(len(keys), -1)[:, :, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 1).reshape(len(keys), -1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(len(keys))
    assert np.abs(np.corrcoef(bits.T) - np.eye(bits.shape[1])).max() < 5.5 / np.sqrt(len(keys))


def test_pairs_fill_the_square() -> None:
    u = block(4)
    cells = (u[:, :-1] * 64).astype(int) * 64 + (u[:, 1:] * 64).astype(int)
    counts = np.bincount(cells.ravel(), minlength=64 * 64)
    assert stats.chisquare(counts).pvalue > 1e-4


def test_seeds_that_differ_in_one_bit_share_nothing() -> None:
    base = np.array([0x12345678, 0x9ABCDEF0], np.uint32)
    reference = np.asarray(cr.bits(jnp.asarray(base), (50_000,)))
    for word in range(2):
        for bit in (0, 1, 15, 16, 31):
            seed = base.copy()
            seed[word] ^= np.uint32(1 << bit)
            changed = np.asarray(cr.bits(jnp.asarray(seed), (50_000,)))
            flipped = np.unpackbits((reference ^ changed).view(np.uint8)).mean()
            assert abs(flipped - 0.5) < 0.01, (word, bit, flipped)


def test_pairs_are_uniform_and_independent_of_each_other() -> None:
    a, b = (np.asarray(x) for x in cr.uniform_pair(cr.seeds(jax.random.key(11), 1)[0], (N, D)))
    for u in (a, b):
        assert u.min() > 0 and u.max() < 1
        assert stats.chisquare(np.bincount((u.ravel() * 1000).astype(int), minlength=1000)).pvalue > 1e-4
        assert np.abs(np.corrcoef(u.astype(float).T) - np.eye(D)).max() < 5.5 / np.sqrt(N)
    cells = (a * 64).astype(int) * 64 + (b * 64).astype(int)
    assert stats.chisquare(np.bincount(cells.ravel(), minlength=64 * 64)).pvalue > 1e-4
    for lag in (0, 1, D):  # one half and the other half of a later word
        x, y = a.ravel().astype(float), np.roll(b.ravel(), lag).astype(float)
        assert abs(np.corrcoef(x, y)[0, 1]) < 5 / np.sqrt(N * D)


def test_normal_has_the_normal_distribution() -> None:
    z = np.asarray(cr.normal(cr.seeds(jax.random.key(6), 1)[0], (N, 5)))
    assert stats.kstest(z.ravel().astype(float), "norm").pvalue > 1e-4
    assert np.isfinite(z).all()


def test_integers_are_uniform_and_in_range() -> None:
    k = np.asarray(cr.integers(cr.seeds(jax.random.key(7), 1)[0], (N,), 40))
    assert k.min() == 0 and k.max() == 39
    assert stats.chisquare(np.bincount(k, minlength=40)).pvalue > 1e-4


@pytest.mark.parametrize("below", [1, 2, 40, 2**16 - 1, 2**16, 2**16 + 1, 10**6, 2**31 - 1])
def test_scaled_words_are_the_high_half_of_the_product(below: int) -> None:
    words = np.concatenate([np.random.default_rng(0).integers(0, 2**32, 10_000), [0, 2**16 - 1, 2**16, 2**32 - 1]])
    got = np.asarray(cr.scale(jnp.asarray(words.astype(np.uint32)), below))
    np.testing.assert_array_equal(got, words.astype(np.uint64) * np.uint64(below) >> np.uint64(32))


def test_the_same_alone_under_vmap_and_under_another_compiler_path() -> None:
    seeds = jax.vmap(lambda k: cr.seeds(k, 1)[0])(jax.random.split(jax.random.key(8), 5))
    together = jax.jit(jax.vmap(lambda s: cr.bits(s, (33, 7))))(seeds)
    for i in range(5):
        np.testing.assert_array_equal(together[i], cr.bits(seeds[i], (33, 7)))


def test_known_words() -> None:
    """The stream is part of what makes a study repeatable: it must not change unnoticed."""

    def reference(i: int, k0: int, k1: int) -> int:
        mask = 0xFFFFFFFF
        h = ((i + k0) * 0x9E3779B9) & mask
        h = (((h ^ h >> 17) * 0xED5AD4BB) & mask) ^ k1
        h = ((h ^ h >> 11) * 0xAC4C1B51) & mask
        h = ((h ^ h >> 15) * 0x31848BAB) & mask
        return h ^ h >> 14

    got = np.asarray(cr.bits(jnp.array([7, 11], jnp.uint32), (4, 3))).ravel()
    assert got.tolist() == [reference(i, 7, 11) for i in range(12)]


def test_doubles_use_all_their_bits(x64: None) -> None:
    u = np.asarray(cr.uniform(cr.seeds(jax.random.key(9), 1)[0], (100_000,), jnp.float64))
    assert ((u >= 0) & (u < 1)).all()
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    low = (u * 2.0**53).astype(np.int64) & 1023
    assert stats.chisquare(np.bincount(low, minlength=1024)).pvalue > 1e-4


def test_more_than_a_stream_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape: expected at most 2\*\*32 elements"):
        cr.bits(jnp.zeros(2, jnp.uint32), (2**17, 2**16))
