"""CMA-ES kernels beside a reference written from the tutorial with explicit loops, and at the edges."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jhpo.kernels import cma, cma_discrete, counter_random, libraries, ranks


def spd(d: int, seed: int, condition: float = 1e3) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    return (q * np.logspace(0, np.log10(condition), d)) @ q.T


def reference_rates(size: int, n: int) -> dict:
    """Hansen 2016, Table 1, in plain Python."""
    raw = [np.log((size + 1) / 2) - np.log(i) for i in range(1, size + 1)]
    plus, minus = [w for w in raw if w >= 0], [w for w in raw if w < 0]
    mu_eff = sum(plus) ** 2 / sum(w * w for w in plus)
    mu_minus = sum(minus) ** 2 / sum(w * w for w in minus)
    c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + mu_eff))
    shrink = min(1 + c_1 / c_mu, 1 + 2 * mu_minus / (mu_eff + 2), (1 - c_1 - c_mu) / (n * c_mu))
    weights = [w / sum(plus) if w >= 0 else shrink * w / -sum(minus) for w in raw]
    return dict(
        weights=weights,
        mu_eff=mu_eff,
        c_1=c_1,
        c_mu=c_mu,
        c_sigma=(mu_eff + 2) / (n + mu_eff + 5),
        d_sigma=1 + 2 * max(0, np.sqrt((mu_eff - 1) / (n + 1)) - 1) + (mu_eff + 2) / (n + mu_eff + 5),
        c_c=(4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n),
    )


def table_of(first: int, size: int, n: int, dtype: str = "float64") -> cma.Rates:
    """The row of one size, from a table of several."""
    table = cma.rates(np.arange(first, size + 2), n, False, np.dtype(dtype))
    return jax.tree.map(lambda column: column[size - first], table)


def updated(g: cma.Gaussian, r: cma.Rates, x: jax.Array, order: jax.Array, valid: jax.Array, adapted: np.ndarray):
    """One generation, from the order of its members."""
    rank = jnp.zeros(len(order), x.dtype).at[order].set(jnp.arange(len(order), dtype=x.dtype))
    weights = jnp.where(valid, cma.weight(r, rank + 1), 0.0)
    mass = jnp.maximum(weights, 0.0).sum()
    weights = jnp.where(weights > 0, weights / mass, weights)
    return cma.update(g, r, cma.sums(g, x, weights, adapted), adapted)


@pytest.mark.parametrize(("size", "n"), [(4, 1), (10, 10), (9, 5), (64, 3)])
def test_rates_of_a_table_equal_the_tutorial(size: int, n: int, x64: None) -> None:
    expected, got = reference_rates(size, n), table_of(3, size, n)
    for name, value in expected.items():
        mine = cma.weight(got, jnp.arange(1.0, size + 1)) if name == "weights" else getattr(got, name)
        np.testing.assert_allclose(mine, value, rtol=1e-12, atol=1e-15, err_msg=name)


FACTORS = [cma.factor, libraries.finite_factor]  # the second one takes its place on CUDA


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("d", [1, 2, 7, 33])
def test_factor_is_the_cholesky_factor_and_its_inverse(d: int, factor, x64: None) -> None:
    matrix = spd(d, d)
    lower, inverse = factor(jnp.asarray(matrix))
    np.testing.assert_allclose(lower, np.linalg.cholesky(matrix), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(inverse @ lower, np.eye(d), atol=1e-9)


@pytest.mark.parametrize("factor", FACTORS)
def test_factor_of_a_singular_matrix_is_finite(factor) -> None:
    one = jnp.ones((5, 5), jnp.float32)
    for matrix in (one, 1e-30 * one, 1e30 * one, 0.0 * one, one.at[2, 2].set(-1.0)):
        lower, inverse = factor(matrix)
        assert all(bool(jnp.isfinite(x).all()) for x in (lower, inverse))
        assert bool((jnp.diagonal(lower) > 0).all())


def test_factors_of_a_batch_are_those_of_each() -> None:
    matrices = jnp.asarray(np.stack([spd(6, seed) for seed in range(6)]), jnp.float32).reshape(2, 3, 6, 6)
    together = jax.vmap(jax.vmap(cma.factor))(matrices)
    for i, j in np.ndindex(2, 3):
        for found, alone in zip(together, cma.factor(matrices[i, j])):
            np.testing.assert_allclose(found[i, j], alone, rtol=1e-4, atol=1e-5)


def test_samples_have_the_covariance() -> None:
    cov = jnp.asarray(spd(4, 1, 50.0), jnp.float32)
    root, inverse = cma.factor(cov)
    g = cma.gaussian(jnp.full((4,), 0.3), jnp.float32(0.1), False)._replace(cov=cov, root=root, inverse=inverse)
    x = np.asarray(cma.sample(g, jax.random.key(0), 40_000))
    np.testing.assert_allclose(x.mean(axis=0), 0.3, atol=0.01)
    np.testing.assert_allclose(np.cov(x.T) / 0.01, cov, atol=0.03 * float(cov.max()))


def reference_step(state: dict, x: np.ndarray, order: np.ndarray, n: int) -> dict:
    """Equations 41-47 member by member; the whitening uses the Cholesky factor of the current covariance."""
    r, m, s = reference_rates(len(x), n), state["mean"], state["sigma"]
    inverse = np.linalg.inv(np.linalg.cholesky(state["cov"]))
    y = [(x[i] - m) / s for i in order]
    step = sum(w * v for w, v in zip(r["weights"], y) if w > 0)
    age = state["generation"] + 1
    path_s = (1 - r["c_sigma"]) * state["path_s"]
    path_s = path_s + np.sqrt(r["c_sigma"] * (2 - r["c_sigma"]) * r["mu_eff"]) * (inverse @ step)
    chi = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
    length = np.linalg.norm(path_s)
    h = float(length / np.sqrt(1 - (1 - r["c_sigma"]) ** (2 * age)) < (1.4 + 2 / (n + 1)) * chi)
    path_c = (1 - r["c_c"]) * state["path_c"] + h * np.sqrt(r["c_c"] * (2 - r["c_c"]) * r["mu_eff"]) * step
    cov = (1 + r["c_1"] * (1 - h) * r["c_c"] * (2 - r["c_c"]) - r["c_1"] - r["c_mu"] * sum(r["weights"])) * state["cov"]
    cov = cov + r["c_1"] * np.outer(path_c, path_c)
    for w, v in zip(r["weights"], y):
        cov = cov + r["c_mu"] * (w if w >= 0 else w * n / ((inverse @ v) ** 2).sum()) * np.outer(v, v)
    sigma = s * np.exp(min(1, r["c_sigma"] / r["d_sigma"] * (length / chi - 1)))
    return dict(mean=m + s * step, sigma=sigma, cov=cov, path_s=path_s, path_c=path_c, generation=age)


def test_update_follows_the_tutorial_over_generations(x64: None) -> None:
    n, size, generator = 4, 8, np.random.default_rng(3)
    ref = dict(mean=np.full(n, 0.5), sigma=0.05, cov=np.eye(n), path_s=np.zeros(n), path_c=np.zeros(n), generation=0)
    g = cma.gaussian(jnp.full((n,), 0.5), jnp.float64(0.05), False)
    r = table_of(2, size, n)
    for _ in range(5):
        root = np.linalg.cholesky(ref["cov"])
        x = ref["mean"] + ref["sigma"] * generator.normal(size=(size, n)) @ root.T
        order = generator.permutation(size)
        ref = reference_step(ref, x, order, n)
        g = updated(g, r, jnp.asarray(x), jnp.asarray(order), jnp.ones(size, bool), np.ones(n, bool))
        # 10 n (c_1 + c_mu) > 1 here, so every update factorises
        for mine, name in ((g.mean, "mean"), (g.sigma, "sigma"), (g.cov, "cov"), (g.path_sigma, "path_s")):
            np.testing.assert_allclose(mine, ref[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_factors_are_renewed_without_asking_where_they_never_wait() -> None:
    assert cma.postpones(np.array([4]), 100, False) and not cma.postpones(8 * np.arange(1, 9), 4, False)
    g, r, adapted = (
        cma.gaussian(jnp.full((4,), 0.5), jnp.float32(0.1), False),
        table_of(2, 8, 4, "float32"),
        np.ones(4, bool),
    )
    x = jax.random.uniform(jax.random.key(0), (8, 4))
    said = cma.sums(g, x, cma.weight(r, jnp.arange(1.0, 9.0)), adapted)
    asking, plain = (jax.jit(lambda p=p: cma.update(g, r, said, adapted, p))() for p in (True, False))
    for a, b in zip(jax.tree.leaves(asking), jax.tree.leaves(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(plain.root - g.root).max()) > 1e-3


def test_members_without_weight_have_no_influence_and_parts_add_up() -> None:
    g = cma.gaussian(jnp.full((3,), 0.5), jnp.float32(0.2), False)
    r, adapted = table_of(2, 6, 3, "float32"), np.ones(3, bool)
    x = jax.random.uniform(jax.random.key(0), (6, 3))
    order, valid = jnp.arange(6), jnp.arange(6) < 4
    one = updated(g, r, x, order, valid, adapted)
    two = updated(g, r, x.at[4:].set(jnp.nan), order, valid, adapted)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two)):
        np.testing.assert_array_equal(a, b)
    assert float(jnp.abs(one.mean - g.mean).max()) > 1e-3
    weights = cma.weight(r, jnp.arange(1.0, 7.0))
    whole = cma.sums(g, x, weights, adapted)
    parts = jax.tree.map(jnp.add, cma.sums(g, x[:2], weights[:2], adapted), cma.sums(g, x[2:], weights[2:], adapted))
    for a, b in zip(whole, parts):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [7, 200])
def test_ranks_follow_violation_then_value_then_place(n: int) -> None:
    generator = np.random.default_rng(n)
    value = generator.integers(0, 5, n).astype(np.float32)
    violation = generator.choice([0.0, 0.0, 1.0, np.inf], n).astype(np.float32)
    value[np.isinf(violation)] = np.inf
    for other in (None, violation):
        order = np.lexsort((value,) if other is None else (value, violation))
        expected = np.empty(n, int)
        expected[order] = np.arange(n)
        np.testing.assert_array_equal(ranks.ranks(value, other), expected)
    better = ranks.ahead(value, violation, value[::-1], violation[::-1])
    pairs = [[(b, v) < (c, w) for b, v in zip(violation[::-1], value[::-1])] for c, w in zip(violation, value)]
    np.testing.assert_array_equal(better, pairs)


def test_the_diagonal_form_adapts_axes_alone() -> None:
    d = 6
    scales = jnp.logspace(0, 2, d, dtype=jnp.float32)
    g, r = (
        cma.gaussian(jnp.full((d,), 0.4), jnp.float32(0.1), True),
        cma.rates(np.array([12]), d, True, np.dtype("float32")),
    )

    row = jax.tree.map(lambda column: column[0], r)

    def generation(g: cma.Gaussian, key: jax.Array) -> tuple[cma.Gaussian, jax.Array]:
        x = jnp.clip(cma.sample(g, key, 12), 0.0, 1.0)
        value = ((scales[None, :] * (x - 0.6)) ** 2).sum(axis=1)
        return updated(g, row, x, jnp.argsort(value), jnp.ones(12, bool), np.ones(d, bool)), value.min()

    g, best = jax.jit(lambda: jax.lax.scan(generation, g, jax.random.split(jax.random.key(1), 150)))()
    assert g.cov.shape == (d,)
    assert float(best.min()) < 1e-8
    ratio = np.asarray(jnp.sqrt(g.cov)) * np.asarray(scales)
    assert ratio.max() / ratio.min() < 10.0  # the axes have learned the factor of 100


@pytest.mark.parametrize("mean", [0.05, 0.31, 0.5, 0.95])
def test_margin_keeps_the_probability_of_leaving_the_cell(mean: float, x64: None) -> None:
    alpha, cells, sigma = 0.02, 10, 1e-4
    g = cma.gaussian(jnp.array([mean, mean]), jnp.float64(sigma), False)
    cell = int(mean * cells)
    low = -np.inf if cell == 0 else cell / cells
    high = np.inf if cell == cells - 1 else (cell + 1) / cells
    out = cma_discrete.margin(g, jnp.full((2,), low), jnp.full((2,), high), np.array([True, False]), jnp.float64(alpha))
    deviation = np.asarray(cma.deviations(out))
    below, above = norm.cdf((low - out.mean[0]) / deviation[0]), norm.sf((high - out.mean[0]) / deviation[0])
    assert below + above >= alpha * (1 - 1e-6)
    if np.isfinite(low) and np.isfinite(high):
        assert min(below, above) >= alpha / 2 * (1 - 1e-6)
    assert low <= float(out.mean[0]) <= high
    assert float(out.mean[1]) == mean and deviation[1] == sigma  # the continuous one is left alone


def test_margin_is_finite_however_small_the_probability() -> None:
    """That of 20,000 coordinates and 2,048 members, of which float32 has no difference to 1."""
    g = cma.gaussian(jnp.full((2,), 0.5), jnp.float32(0.01), True)
    low, high, alpha = jnp.array([0.4, -jnp.inf]), jnp.array([0.6, 0.6]), 1 / (20_000 * 2048)
    out = cma_discrete.margin(g, low, high, np.ones(2, bool), jnp.float32(alpha))
    leaves = norm.sf((0.6 - np.asarray(out.mean)) / np.asarray(cma.deviations(out)))
    np.testing.assert_allclose(leaves, [alpha / 2, alpha], rtol=1e-2)


def test_margin_leaves_a_wide_distribution_alone() -> None:
    g = cma.gaussian(jnp.full((2,), 0.45), jnp.float32(0.3), False)
    out = cma_discrete.margin(g, jnp.full((2,), 0.4), jnp.full((2,), 0.5), np.array([True, True]), jnp.float32(0.02))
    np.testing.assert_array_equal(out.mean, g.mean)
    np.testing.assert_array_equal(out.scale, g.scale)


def test_category_probabilities_follow_the_weights_and_never_die() -> None:
    table = jnp.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]], jnp.float32)
    chosen = jnp.array([[2, 0], [2, 0], [1, 1]], jnp.int32)
    weights, least = jnp.array([0.6, 0.4, 0.0], jnp.float32), jnp.float32(0.01)
    for _ in range(200):
        table = cma_discrete.spread_categories(
            table, cma_discrete.category_weights(chosen, weights, table.shape[1]), jnp.float32(0.3), least
        )
    np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(table[0], [0.01, 0.01, 0.97, 0.01], atol=1e-4)
    np.testing.assert_allclose(table[1], [0.99, 0.01, 0.0, 0.0], atol=1e-4)
    same = cma_discrete.spread_categories(table, jnp.zeros_like(table), jnp.float32(0.3), least)
    np.testing.assert_allclose(same, table, atol=1e-6)


def test_categories_are_drawn_with_their_probabilities_and_none_that_does_not_exist() -> None:
    rows = np.zeros((4, 7), np.float32)
    rows[0, :3], rows[1, :7], rows[2, 0], rows[3, :5] = 1 / 3, 1 / 7, 1.0, [0.1, 0.0, 0.6, 1e-3, 0.299]
    seed, n = counter_random.seeds(jax.random.key(3), 1)[0], 50_000
    drawn = np.asarray(cma_discrete.draw_categories(seed, jnp.asarray(rows), n))
    assert drawn.dtype == np.int32 and drawn.shape == (n, 4)
    share = np.stack([np.bincount(column, minlength=7) for column in drawn.T]) / n
    assert np.all(share[rows == 0] == 0)
    np.testing.assert_allclose(share, rows, atol=5 * np.sqrt(0.25 / n))
    assert abs(share[3, 3] - 1e-3) < 5 * np.sqrt(1e-3 / n)
    np.testing.assert_array_less(np.abs(np.corrcoef(drawn[:, [0, 1, 3]].T) - np.eye(3)), 0.03)


def test_points_outside_are_drawn_again_and_the_rest_folds_back() -> None:
    g = cma.gaussian(jnp.array([0.9, 0.1]), jnp.float32(0.3), False)
    key = jax.random.key(0)
    inside = lambda x: bool(((x >= 0) & (x <= 1)).all())  # noqa: E731
    assert not inside(cma.sample(g, key, 200))
    assert inside(cma.sample_inside(g, key, 200, jnp.int32(50)))
    np.testing.assert_array_equal(cma.sample_inside(g, key, 200, jnp.int32(0)), cma.sample(g, key, 200))
    far = g._replace(mean=jnp.array([40.3, -17.2]))  # nothing is ever inside: the loop ends all the same
    x = cma.sample_inside(far, key, 20, jnp.int32(5))
    assert not inside(x) and inside(cma.reflected(x))
