"""The shuffle is a bijection, close to uniform by as much as its comment says, and epochs are permutations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jhpo.kernels.shuffle import ROUNDS, batch_positions, batch_rows, permuted


def permutations(count: int, n: int) -> np.ndarray:
    """``int32[count, n]``: whole permutations from different keys."""
    keys = jax.random.split(jax.random.key(7), count)
    return np.asarray(jax.jit(jax.vmap(lambda k: permuted(k, jnp.arange(n, dtype=jnp.int32), n)))(keys))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 1000])
def test_it_is_a_bijection(n: int) -> None:
    for row in permutations(5, n):
        assert sorted(row.tolist()) == list(range(n))


def test_it_stays_in_range_and_distinct_up_to_the_largest_size() -> None:
    n = 2**31 - 1
    positions = jnp.concatenate([jnp.arange(1000, dtype=jnp.int32), n - 1 - jnp.arange(1000, dtype=jnp.int32)])
    images = np.asarray(permuted(jax.random.key(0), positions, n))
    assert (images >= 0).all() and (images < n).all() and len(set(images.tolist())) == 2000
    assert stats.kstest(images / n, "uniform").pvalue > 1e-3


def test_all_small_permutations_are_equally_likely() -> None:
    rows = permutations(24_000, 4)
    codes, counts = np.unique(rows @ np.array([64, 16, 4, 1]), return_counts=True)
    assert len(codes) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_pairs_of_images_are_equally_likely() -> None:
    rows = permutations(45_000, 10)
    for a, b in ((0, 1), (2, 9)):
        counts = np.bincount(rows[:, a] * 10 + rows[:, b], minlength=100).reshape(10, 10)
        assert (np.diag(counts) == 0).all()
        assert stats.chisquare(counts[~np.eye(10, dtype=bool)]).pvalue > 1e-3


def test_what_the_rounds_leave_unmixed_is_what_the_comment_says() -> None:
    n, count = 1000, 2000
    rows = permutations(count, n)
    stay, beside = 2.0**-ROUNDS, 2.0**-ROUNDS
    for share, expected in (
        ((rows == np.arange(n)).mean(), 1 / n + stay),
        ((np.abs(np.diff(rows, axis=1)) == 1).mean(), 2 / n + beside),
    ):
        assert share == pytest.approx(expected, abs=6 * np.sqrt(expected / (n * count)))
    # ranks keep no trace of the positions
    correlation = [stats.spearmanr(np.arange(n), row).statistic for row in rows[:200]]
    assert np.std(correlation) == pytest.approx(1 / np.sqrt(n - 1), rel=0.2)
    assert abs(np.mean(correlation)) < 4 / np.sqrt(n * 200)


@pytest.mark.parametrize(("n", "batch"), [(24, 8), (25, 8), (7, 7), (9, 1)])
def test_an_epoch_visits_no_row_twice(n: int, batch: int) -> None:
    per_epoch = n // batch
    t = jnp.arange(6 * per_epoch, dtype=jnp.int32)
    rows = np.asarray(jax.vmap(lambda t: batch_rows(jax.random.key(3), t, n, batch))(t)).reshape(6, -1)
    assert all(len(set(epoch.tolist())) == per_epoch * batch for epoch in rows)
    if n > 2:
        assert len({tuple(epoch.tolist()) for epoch in rows}) > 1, "another order in another epoch"
    if n % batch:
        left = {frozenset(range(n)) - frozenset(epoch.tolist()) for epoch in rows}
        assert len(left) > 1, "other rows are left over in another epoch"


def test_a_batch_follows_from_key_and_step_alone() -> None:
    key = jax.random.key(5)
    one = batch_rows(key, jnp.int32(11), 50, 8)
    np.testing.assert_array_equal(one, jax.jit(batch_rows, static_argnums=(2, 3))(key, jnp.int32(11), 50, 8))
    assert (one != batch_rows(jax.random.key(6), jnp.int32(11), 50, 8)).any()
    epoch, positions = batch_positions(jnp.int32(11), 50, 8)
    assert int(epoch) == 1 and positions.tolist() == list(range(40, 48))
    assert one.dtype == jnp.int32
