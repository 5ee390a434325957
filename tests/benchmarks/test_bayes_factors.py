"""What a factorial says a factor is worth, against least squares with a column for every block."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.bayes_factors import effects

pytestmark = pytest.mark.quick


def test_effects_and_errors_are_those_of_least_squares_with_blocks() -> None:
    generator = np.random.default_rng(0)
    n, blocks = 60, np.repeat(np.arange(12), 5)
    on = generator.random((n, 3)) < 0.5
    truth = np.array([2.0, -1.0, 0.0])
    noise = generator.normal(size=n) * (1.0 + on[:, 0])
    values = on @ truth + 10.0 * generator.normal(size=12)[blocks] + 0.1 * noise
    worth, error = effects(values, on, [f"problem {b}" for b in blocks])

    x = np.hstack([on.astype(float), np.eye(12)[blocks]])
    whole, *_ = np.linalg.lstsq(x, values, rcond=None)
    wrong = values - x @ whole
    bread = np.linalg.inv(x.T @ x)
    spread = bread @ (x.T * wrong**2) @ x @ bread * n / (n - x.shape[1])
    np.testing.assert_allclose(worth, whole[:3], rtol=1e-9)
    np.testing.assert_allclose(error, np.sqrt(np.diag(spread))[:3], rtol=1e-9)
    assert (np.abs(worth - truth) < 4 * error).all()


def test_factors_that_are_on_together_are_refused() -> None:
    on = np.array([[0, 0], [1, 1], [0, 0], [1, 1]], bool)
    with pytest.raises(ValueError, match="tell them apart"):
        effects(np.arange(4.0), on, [0, 0, 1, 1])
