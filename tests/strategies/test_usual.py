"""The strategy of a search that names none."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.strategies.usual import usual

SPACE = jhpo.Space({"x": jhpo.Float(-2.0, 2.0), "y": jhpo.Float(1e-4, 1.0, log=True), "z": jhpo.Float(0.0, 1.0)})


def bowl(hp: dict) -> jnp.ndarray:  # type: ignore[type-arg]
    return (hp["x"] - 0.7) ** 2 + (jnp.log10(hp["y"]) + 1.5) ** 2 + (hp["z"] - 0.2) ** 2


@pytest.mark.quick
@pytest.mark.parametrize(
    ("budget", "several", "at_once", "name", "population"),
    [
        (1, False, 8, "BayesOpt", 1), (20, False, 8, "BayesOpt", 2), (64, False, 8, "BayesOpt", 8),
        (200, False, 8, "BayesOpt", 8), (200, False, 1, "BayesOpt", 1), (None, False, 8, "BayesOpt", 1),
        (201, False, 8, "PSO", 10), (499, False, 1, "PSO", 10), (500, False, 8, "PSO", 40),
        (100, True, 8, "BayesOpt", 8), (None, True, 8, "BayesOpt", 1), (300, True, 8, "NSGA2", 36),
        (4000, True, 8, "NSGA2", 64),
    ],
)  # fmt: skip
def test_few_evaluations_are_modelled_and_many_move_a_population(
    budget: int | None, several: bool, at_once: int, name: str, population: int
) -> None:
    found = usual(SPACE, budget, several=several, at_once=at_once)
    assert (type(found).__name__, found.population) == (name, population)


@pytest.mark.quick
def test_a_space_too_wide_to_model_gets_a_swarm() -> None:
    wide = jhpo.Space({"w": jhpo.Float(0.0, 1.0, shape=(201,))})
    assert type(usual(wide, 50)).__name__ == type(usual(wide)).__name__ == "PSO"
    assert type(usual(wide, 50, several=True)).__name__ == "NSGA2"


@pytest.mark.slow
def test_the_default_of_a_small_budget_is_far_ahead_of_random_search() -> None:
    seeds = range(3)
    ours = [jhpo.minimize(bowl, SPACE, budget=32, seed=s).value for s in seeds]
    random = [jhpo.minimize(bowl, SPACE, "random(population=32)", budget=32, seed=s).value for s in seeds]
    assert np.mean(ours) < 0.2 * np.mean(random)


def test_a_host_function_is_asked_for_one_point_at_a_time() -> None:
    seen = []

    def f(params: dict) -> float:  # type: ignore[type-arg]
        seen.append(params)
        return float(params["x"] ** 2)

    result = jhpo.minimize(jhpo.host(f), jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}), budget=9)
    assert len(seen) == 9 and result.value < 0.01
    assert len({round(p["x"], 6) for p in seen}) == 9  # each knows of those before it


def test_a_study_without_a_strategy_models_and_resumes_what_is_stored(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    with jhpo.Study(SPACE, "random(population=4)", file) as study:
        study.optimize(bowl, 8)
    with jhpo.Study(SPACE, storage=file, resume=True) as study:
        assert type(study.strategy).__name__ == "RandomSearch"
        study.optimize(bowl, 12)
        again = [t.value for t in study]
    with jhpo.Study(SPACE, "random(population=4)") as whole:
        whole.optimize(bowl, 12)
        assert again == [t.value for t in whole]
    assert type(jhpo.Study(SPACE).strategy).__name__ == "BayesOpt"
    with pytest.raises(jhpo.InvalidArgument, match="strategy: expected that of the stored study"):
        jhpo.Study(SPACE, "bayes", file, resume=True)
