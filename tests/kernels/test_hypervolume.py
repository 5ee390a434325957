"""Hypervolume and open boxes: against inclusion and exclusion of boxes, and against each other."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.hypervolume import hypervolume, open_boxes, sampled_hypervolume

REFERENCE = np.full(4, 1.1)


def by_inclusion(points: np.ndarray, reference: np.ndarray) -> float:
    """The size of a union of boxes, each from a point to the reference: over all subsets."""
    points = points[np.isfinite(points).all(1) & (points < reference).all(1)]
    total = 0.0
    for size in range(1, len(points) + 1):
        for some in itertools.combinations(range(len(points)), size):
            total += (-1) ** (size + 1) * np.prod(reference - points[list(some)].max(axis=0))
    return total


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_volume_of_a_union_of_boxes(m: int) -> None:
    rng = np.random.default_rng(m)
    program = jax.jit(hypervolume)
    for _ in range(3):
        points = rng.random((9, m)) * 1.3
        points[3] = points[2]
        points[4, 0], points[5, m - 1], points[6] = np.nan, np.inf, -np.inf
        expected = by_inclusion(points, REFERENCE[:m])
        found = program(points.astype(np.float32), REFERENCE[:m].astype(np.float32))
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_volume_in_float64_and_side_by_side(x64: None) -> None:
    points = np.random.default_rng(0).random((2, 8, 3))
    found = jax.jit(jax.vmap(hypervolume, (0, None)))(points, jnp.asarray(REFERENCE[:3]))
    expected = [by_inclusion(p, REFERENCE[:3]) for p in points]
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-13)


def test_points_that_do_not_dominate_the_reference_add_nothing() -> None:
    beyond = jnp.asarray([[1.1, 0.0], [0.0, 2.0], [jnp.nan, 0.0]])
    assert float(jax.jit(hypervolume)(beyond, jnp.asarray([1.1, 1.1]))) == 0.0
    value, error = sampled_hypervolume(beyond, jnp.asarray([1.1, 1.1]), jax.random.key(0), 1024)
    assert float(value) == 0.0 and float(error) == 0.0
    with pytest.raises(ValueError, match="at most 4 objectives, got 5"):
        hypervolume(jnp.zeros((2, 5)), jnp.ones(5))


def test_the_sampled_volume_agrees_with_the_exact_one() -> None:
    points = np.random.default_rng(1).random((20, 4)).astype(np.float32)
    reference = REFERENCE.astype(np.float32)
    value, error = sampled_hypervolume(points, reference, jax.random.key(0))
    assert abs(float(value) - float(hypervolume(points, reference))) < 4 * float(error)
    assert 0 < float(error) < 0.01


@pytest.mark.parametrize(("m", "n"), [(1, 7), (2, 7), (2, 200), (3, 7)])
def test_open_boxes_are_what_no_point_dominates(m: int, n: int) -> None:
    rng = np.random.default_rng(m)
    points = rng.random((n, m))
    points[1] = points[0]
    points[2, 0] = np.nan
    reference = REFERENCE[:m]
    low, high = map(np.asarray, jax.jit(open_boxes)(points.astype(np.float32), reference.astype(np.float32)))
    at = rng.random((3000, m)) * 1.3 - 0.1
    good = points[np.isfinite(points).all(1)]
    is_open = (at < reference).all(1) & ~(good[None] <= at[:, None]).all(-1).any(1)
    inside = ((low[None] < at[:, None]) & (at[:, None] <= high[None])).all(-1).sum(1)
    assert np.array_equal(inside, is_open.astype(int))


@pytest.mark.parametrize("m", [2, 3])
def test_a_point_adds_what_it_dominates_of_the_open_boxes(m: int) -> None:
    rng = np.random.default_rng(7)
    points, new, reference = rng.random((6, m)), 0.5 * rng.random(m), REFERENCE[:m]
    low, high = map(np.asarray, jax.jit(open_boxes)(points.astype(np.float32), reference.astype(np.float32)))
    adds = np.clip(high - np.maximum(low, new), 0, None).prod(1).sum()
    expected = by_inclusion(np.concatenate([points, new[None]]), reference) - by_inclusion(points, reference)
    assert adds == pytest.approx(expected, rel=1e-4)
