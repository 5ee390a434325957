"""Asking without telling: after results from elsewhere, and for points that are partly given."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jhpo
from jhpo.keys import strategy_words, words_of
from jhpo.search import turns
from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})
POINTS = np.random.default_rng(0).random((6, 2))
LIKE = Evaluation(np.full(1, np.nan), mask=np.zeros(1, bool))


def warm(known: int) -> Driver:
    driver = Driver(jhpo.BayesOpt(), SPACE, jax.random.key(0))
    driver.started()
    for point in POINTS[:known]:
        driver.absorb(point[None], Evaluation(np.array([point.sum()]), mask=np.ones(1, bool)))
    return driver


@pytest.mark.parametrize("known", [0, 2, 6])
def test_an_ask_is_that_of_the_strategy(known: int) -> None:
    """A turn that tells nothing asks for the same point, bit for bit, as the strategy by itself."""
    driver = warm(known)
    state, words = driver.state, strategy_words(driver.root, 0, words_of(driver.root))
    with driver.precision():
        alone, _ = turns.ask_program(driver.strategy, state, words)
    np.testing.assert_array_equal(driver.ask(LIKE), np.asarray(alone)[:, :2])


def test_a_warm_start_compiles_the_model_once(count_compilations) -> None:
    driver = warm(6)
    driver.ask(LIKE)
    with count_compilations() as seen:
        driver.turn(np.full((1, 2), 0.5), Evaluation(np.ones(1), mask=np.ones(1, bool)))
    assert not [n for n in seen.names if "turn" in n]


def test_a_point_that_is_partly_given_compiles_no_model(count_compilations) -> None:
    study = jhpo.Study(SPACE, "bayes")
    with count_compilations() as seen:
        study.enqueue({"x": 0.25})
    assert sum("lambda" in name for name in seen.names) <= 1  # the start
    (trial,) = study.ask(1)
    assert trial.params["x"] == 0.25
