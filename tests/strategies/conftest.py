"""Fixtures of the tests of strategies."""

from __future__ import annotations

import numpy as np
import pytest

from tests.strategies.bayes_problems import ROWS


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).random((ROWS, 2))
