"""Differential evolution kernels: distinct donors, laws of F and CR, memory, archive, and what must never be NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jhpo.kernels import counter_random
from jhpo.kernels import differential as de

SEEDS = counter_random.seeds(jax.random.key(0), 10)


def test_donors_are_uniform_over_the_rows_not_taken() -> None:
    taken = jnp.tile(jnp.array([[4, 1]], jnp.int32), (60_000, 1))
    rows = np.asarray(de.distinct_below(SEEDS[0], taken, jnp.int32(6)))
    count = np.bincount(rows, minlength=6)
    assert count[1] == count[4] == 0
    assert stats.chisquare(count[[0, 2, 3, 5]]).pvalue > 1e-3


def test_scale_factors_follow_the_cauchy_law_given_that_they_are_positive() -> None:
    f = np.asarray(de.cauchy_f(SEEDS[1], jnp.full((50_000,), 0.3)))
    law = stats.cauchy(0.3, 0.1)
    below = law.cdf(0.0)
    inner = f[(f > 0.01) & (f < 1.0)]
    expected = lambda x: (law.cdf(x) - below) / (1 - below)  # noqa: E731
    for x in (0.1, 0.3, 0.5, 0.9):
        assert abs((f <= x).mean() - expected(x)) < 0.01
    assert inner.size > 40_000 and f.min() > 0 and f.max() == 1.0


def test_crossover_rates_stay_in_the_unit_interval_and_a_terminal_one_is_zero() -> None:
    cr = np.asarray(de.normal_cr(SEEDS[2], jnp.where(jnp.arange(2000) < 1000, 0.95, -1.0)))
    assert (cr[:1000] >= 0.5).all() and (cr[:1000] <= 1).all() and (cr[:1000] == 1).any()
    assert (cr[1000:] == 0).all()


@pytest.mark.parametrize("value", [-0.5, 1.5, np.inf, -np.inf, np.nan, 0.25])
def test_bounced_points_are_inside(value: float) -> None:
    out = float(de.bounced(jnp.float32(value), jnp.float32(0.4)))
    expected = {-0.5: 0.2, 1.5: 0.7, 0.25: 0.25, np.inf: 0.7, -np.inf: 0.2}
    assert out == pytest.approx(expected.get(value, 0.4))


def test_crossover_takes_one_coordinate_at_least() -> None:
    target, mutant = jnp.zeros((4000, 5)), jnp.ones((4000, 5))
    none = np.asarray(de.crossover(SEEDS[3:5], target, mutant, jnp.zeros(4000)))
    assert (none.sum(axis=1) == 1).all()
    assert stats.chisquare(none.sum(axis=0)).pvalue > 1e-3
    half = np.asarray(de.crossover(SEEDS[5:7], target, mutant, jnp.full((4000,), 0.5)))
    assert half.mean() == pytest.approx(0.5 + 0.5 / 5, abs=0.02)


def test_categories_change_only_where_the_donors_differ() -> None:
    base, first = jnp.full((3000, 2), 2, jnp.int32), jnp.full((3000, 2), 1, jnp.int32)
    second = first.at[:, 1].set(3)
    out = np.asarray(de.mutate_categories(SEEDS[7:9], base, first, second, jnp.full((3000,), 0.8), np.array([4, 4])))
    assert (out[:, 0] == 2).all()
    assert (out[:, 1] != 2).mean() == pytest.approx(0.8 * 0.75, abs=0.04)
    assert out.min() >= 0 and out.max() <= 3


def test_the_memory_takes_the_weighted_lehmer_mean() -> None:
    memory = jnp.full((3,), 0.5)
    success = de.Success(jnp.array([3.0, 1.0, 0.0]), jnp.array([0.2, 0.8, 0.9]), jnp.array([0.1, 0.5, 0.9]))
    f, cr, slot = de.remember(memory, memory, jnp.int32(2), success)
    assert float(f[2]) == pytest.approx((3 * 0.04 + 0.64) / (3 * 0.2 + 0.8))
    assert float(cr[2]) == pytest.approx((3 * 0.01 + 0.25) / (3 * 0.1 + 0.5))
    assert int(slot) == 0 and float(f[0]) == 0.5


@pytest.mark.parametrize("gain", [[0.0, 0.0], [np.inf, 0.0], [np.nan, 0.0], [2e-38, 2e-38], [1e38, 1e38], [-1.0, 0.0]])
def test_the_memory_is_never_nan(gain: list[float]) -> None:
    memory = jnp.full((2,), 0.5, jnp.float32)
    success = de.Success(jnp.array(gain, jnp.float32), jnp.array([0.4, 0.6]), jnp.array([0.0, 0.0]))
    f, cr, _ = de.remember(memory, memory, jnp.int32(0), success)
    assert np.isfinite(f).all() and np.isfinite(cr).all()
    moved = np.isfinite(gain).all() and max(gain) > 0
    assert (float(cr[0]) == -1.0) == moved  # every success had a rate of 0: terminal
    assert (float(f[0]) == 0.5) != moved or float(f[0]) == pytest.approx(0.52)


def test_a_full_archive_overwrites_and_never_outgrows_its_capacity() -> None:
    archive, count = jnp.full((10, 2), -1.0), jnp.int32(0)
    for i in range(6):
        losers = jnp.full((4, 2), float(i))
        lost = jnp.array([True, False, True, True])
        u = jax.random.uniform(jax.random.key(i), (4,))
        archive, count = de.archive_losers(archive, count, jnp.int32(8), losers, lost, u)
        assert int(count) == min(3 * (i + 1), 8)
        assert (np.asarray(archive[: int(count)]) >= 0).all() and (np.asarray(archive[8:]) == -1).all()
    assert (np.asarray(archive) == 5.0).any()
    kept, fewer = de.archive_losers(archive, count, jnp.int32(5), archive[:4], jnp.zeros(4, bool), jnp.zeros(4))
    assert int(fewer) == 5 and (np.asarray(kept) == np.asarray(archive)).all()


def test_the_population_shrinks_linearly() -> None:
    sizes = [int(de.shrunk(100, 4, jnp.int32(s), jnp.int32(1000))) for s in (0, 250, 500, 1000, 2000)]
    assert sizes == [100, 76, 52, 4, 4]
