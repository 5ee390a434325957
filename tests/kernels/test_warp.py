"""Targets beside the same definitions in NumPy, by sorting and SciPy's quantiles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jhpo.kernels import warp

LENGTH = 16
CASES = {
    "plain": (np.random.default_rng(0).normal(size=13), 13),
    "few": (np.array([3.0, -1.0]), 2),
    "one": (np.array([3.0]), 1),
    "none": (np.array([]), 0),
    "ties": (np.array([2.0, 1, 2, 2, 5, 5, 1, 2, 9]), 9),
    "constant": (np.full(7, 0.1), 7),
    "one above": (np.array([0.5, 0.5, 0.5, 0.7]), 4),
    "one below": (np.array([0.5, 0.5, 0.5, 0.2]), 4),
    "far": (np.array([0.1, 0.3, 0.2, 0.25, 1e30, 0.15, -1e20]), 7),
    "holes": (np.random.default_rng(1).normal(size=LENGTH), 9),
}


def padded(case: str, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    y, seen = CASES[case]
    mask = np.zeros(LENGTH, bool)
    mask[np.random.default_rng(2).permutation(len(y))[:seen]] = True
    return np.pad(y, (0, LENGTH - len(y)), constant_values=7.0).astype(dtype), mask


def lower_median(values: np.ndarray) -> float:
    return float(np.sort(values)[(len(values) - 1) // 2])


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest, x64: None) -> np.dtype:
    return np.dtype(request.param)


@pytest.mark.parametrize("unit", [1.0, 1e-25, 1e25])
@pytest.mark.parametrize("case", CASES)
def test_signed_values_keep_their_signs_and_what_is_far_is_drawn_in(case: str, unit: float, dtype: np.dtype) -> None:
    y, mask = padded(case, dtype)
    y = np.clip(y, -1e12, 1e12) * dtype.type(unit)
    z = np.asarray(warp.tame_signed(jnp.asarray(y), jnp.asarray(mask)))
    np.testing.assert_array_equal(np.sign(z), np.where(mask, np.sign(y), 0.0))
    size = np.abs(y[mask].astype(np.float64))
    if size.size:
        ratio = size / (3.0 * lower_median(size))
        wanted = np.where(ratio > 1, np.minimum(1.0 + np.log(np.maximum(ratio, 1.0)), 8.0), ratio)
        np.testing.assert_allclose(np.abs(z[mask]), wanted / np.sqrt(np.mean(wanted**2)), rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_tame_is_the_distance_from_the_median_in_typical_distances(case: str, dtype: np.dtype) -> None:
    y, mask = padded(case, dtype)
    z, slope = jax.jit(warp.tame)(y, mask)
    known = y[mask].astype(np.float64)
    assert z.dtype == slope.dtype == dtype and not np.asarray(z)[~mask].any()
    if not len(known):
        return
    gap = known - lower_median(known)
    gap[abs(gap) <= 8 * np.finfo(dtype).eps * abs(lower_median(known))] = 0.0
    better, worse = -gap[gap < 0], gap[gap > 0]
    unit = lower_median(better) if len(better) else lower_median(worse) if len(worse) else 1.0
    expected = np.clip(gap / unit, -1e30, 1e30)
    most = np.where(expected < 0, 30.0, 100.0 if dtype == np.float32 else 1e4)
    far = abs(expected) > most
    beyond = np.maximum(abs(expected), most)
    size = np.where(far, most * (1 + np.log(beyond / most)), abs(expected))
    np.testing.assert_allclose(np.asarray(z)[mask], np.sign(expected) * size, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(slope)[mask], most / beyond / unit, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_stray_values_are_far_above_the_typical_one_above_the_median(case: str, dtype: np.dtype) -> None:
    y, mask = padded(case, dtype)
    expected = np.zeros(LENGTH, bool)
    if mask.any():
        gap = y.astype(np.float64) - lower_median(y[mask])
        above = mask & (gap > 0)
        if above.any():
            expected = above & (gap > 1000 * lower_median(gap[above]))
    np.testing.assert_array_equal(jax.jit(warp.stray)(y, mask), expected)
    assert expected.any() == (case == "far")


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("none", "far")])
def test_worse_halves_become_quantiles_of_their_ranks(case: str, dtype: np.dtype) -> None:
    y, mask = padded(case, dtype)
    z = np.asarray(jax.jit(warp.half_rank)(y, mask))
    known = y[mask].astype(np.float64)
    median, n = lower_median(known), len(known)
    good = known <= median
    gaps = np.where(good, known - median, 0.0)
    spread = np.sqrt((gaps**2).sum() / max((n - 1) // 2, 1)) or np.sqrt(((known - median) ** 2).sum() / n)
    ranks = scipy.stats.rankdata(known) - 1.0
    normal = scipy.stats.norm.ppf((np.append(ranks, ranks[good].max()) + 0.5) / n)
    expected = np.where(good, known, median + spread * (normal[:-1] - normal[-1]))
    np.testing.assert_allclose(z[mask], expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(z[~mask], y[~mask])


def test_several_columns_are_those_of_each() -> None:
    y = jnp.asarray(np.random.default_rng(3).normal(size=(3, LENGTH)), jnp.float32)
    mask = jnp.arange(LENGTH) < 11
    together = jax.vmap(warp.tame, (0, None))(y, mask)
    for row in range(3):
        for one, all_of_them in zip(warp.tame(y[row], mask), together):
            np.testing.assert_array_equal(one, all_of_them[row])
