"""Covariances: known values, derivatives at coincident points, encodings, and positive definiteness on mixed spaces."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.gaussian_process.kernels as reference

import jhpo
from jhpo.kernels import covariance
from jhpo.kernels.covariance import Points

CONTINUOUS = np.zeros(3, bool)


@pytest.mark.parametrize("name,nu", [("matern12", 0.5), ("matern32", 1.5), ("matern52", 2.5), ("rbf", np.inf)])
def test_profiles_against_scikit_learn(x64, name, nu):
    random = np.random.default_rng(0)
    x, z, lengths = random.random((5, 3)), random.random((4, 3)), np.array([0.3, 1.0, 2.0])
    weights = np.append(1 / lengths**2, 1.0)
    got = covariance.cross(Points(x), Points(z), weights, CONTINUOUS, covariance.PROFILES[name])
    np.testing.assert_allclose(got, reference.Matern(lengths, nu=nu)(x, z), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(covariance.PROFILES))
def test_profile_derivatives(x64, name):
    profile = covariance.PROFILES[name]
    r2 = np.array([1e-3, 0.1, 1.0, 9.0, 100.0])
    differences = (profile(r2 * (1 + 1e-6)) - profile(r2 * (1 - 1e-6))) / (2e-6 * r2)
    np.testing.assert_allclose(jax.vmap(jax.grad(profile))(r2), differences, rtol=1e-7, atol=1e-14)
    assert np.isfinite(jax.grad(profile)(0.0))


def mixed_space():
    return jhpo.Space(
        {
            "a": jhpo.Float(0.0, 1.0),
            "k": jhpo.Int(1, 5),
            "c": jhpo.Choice(["u", "v", "w"]),
            "b": jhpo.Float(0.0, 1.0, when={"c": ["u", "v"]}),
            "e": jhpo.Choice([10, 20], when={"c": "w"}),
        }
    )


def points(space, units):
    return Points(space.canonical(units), space.active(units))


def test_mixed_kernel_is_positive_semidefinite(x64):
    space = mixed_space()
    rows = points(space, space.sample_unit(jax.random.key(0), 80))
    for seed, name in enumerate(sorted(covariance.PROFILES)):
        weights = np.exp(np.random.default_rng(seed).normal(0.0, 2.0, space.dim + 1))
        gram = covariance.cross(rows, rows, weights, space.categorical, covariance.PROFILES[name])
        np.testing.assert_allclose(gram, gram.T, rtol=0, atol=0)
        assert np.linalg.eigvalsh(gram).min() > -1e-12


def test_many_points_have_the_distances_of_their_pairs(x64):
    """Summed a coordinate at a time or pair by pair: categories and activity count the same."""
    space = mixed_space()
    rows = points(space, space.sample_unit(jax.random.key(0), 40))
    few = jax.tree.map(lambda leaf: leaf[:3], rows)
    weights = jnp.asarray(np.linspace(0.5, 3.0, space.dim + 1))
    expected = covariance.distances(covariance.all_terms(rows, space.categorical), weights)
    np.testing.assert_allclose(covariance.cross_distances(rows, rows, weights, space.categorical), expected, atol=1e-12)
    pairs = covariance.cross_distances(few, rows, weights, space.categorical)
    np.testing.assert_allclose(pairs, expected[:3], atol=1e-12)


def test_inactive_values_change_nothing(x64):
    """Bit for bit: whatever stands in an inactive coordinate, covariances are the same."""
    space = mixed_space()
    units = np.array(space.sample_unit(jax.random.key(1), 40))
    other = np.where(space.active(units), units, np.random.default_rng(0).random(units.shape))
    assert (units != other).any()
    weights = jnp.asarray(np.linspace(0.5, 3.0, space.dim + 1))
    probe = points(space, space.sample_unit(jax.random.key(2), 16))
    first = covariance.cross(points(space, units), probe, weights, space.categorical)
    second = covariance.cross(points(space, other), probe, weights, space.categorical)
    np.testing.assert_array_equal(first, second)


def test_terms_of_a_pair():
    """Numeric coordinates by their difference, categories by equality, activity by count."""
    space = mixed_space()  # coordinates: a, b, c, e, k
    assert space.names == ("a", "b", "c", "e", "k")
    units = np.array([[0.5, 0.25, 0.1, 0.9, 0.1], [0.75, 0.75, 0.4, 0.9, 0.9], [0.5, 0.25, 0.9, 0.9, 0.1]], np.float32)
    rows = points(space, units)
    terms = covariance.all_terms(rows, space.categorical)
    np.testing.assert_allclose(terms[:, 0, 1], [0.0625, 0.25, 1.0, 0.0, 0.64, 0.0], atol=1e-6)
    assert float(terms[-1, 0, 2]) == 2.0  # b only active in the first, e only in the third
    np.testing.assert_allclose(terms, np.swapaxes(terms, 1, 2))
    weights = jnp.asarray([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], jnp.float32)
    pair = jax.tree.map(lambda leaf: leaf[0], rows), jax.tree.map(lambda leaf: leaf[2], rows)
    r2 = covariance.squared_distance(*pair, weights, space.categorical)
    np.testing.assert_allclose(covariance.distances(terms, weights)[0, 2], r2, rtol=1e-6)


def test_encodings_round_trip(x64):
    space = mixed_space()
    units = space.canonical(space.sample_unit(jax.random.key(3), 60))
    np.testing.assert_allclose(space.canonical(space.to_unit(space.from_unit(units))), units, atol=1e-12)
    for row in np.asarray(units):
        np.testing.assert_allclose(space.canonical(space.encode(space.decode(row), fill=row)), row, atol=1e-12)


@pytest.mark.parametrize("few", [True, False])
def test_a_category_is_itself_however_it_was_rounded(x64, few):
    # programs divide by a number of cells, or multiply by its inverse: 2.5 / 3 has two roundings
    centre, other = 2.5 / 3, 2.5 * (1 / 3)
    assert centre != other
    choice, weights, rows = np.array([True]), np.array([4.0, 1.0]), 2 if few else 16
    x, z = Points(np.full((rows, 1), centre)), Points(np.array([[other], [0.5]]))
    one = Points(jnp.asarray([centre])), Points(jnp.asarray([other]))
    np.testing.assert_array_equal(covariance.cross_distances(x, z, weights, choice), [[0.0, 4.0]] * rows)
    np.testing.assert_array_equal(covariance.all_terms(z, choice)[0], [[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_array_equal(covariance.pair_terms(*one, choice), [0.0, 0.0])
    assert covariance.squared_distance(*one, weights, choice) == 0.0
