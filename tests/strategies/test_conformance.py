"""Every registered strategy passes every check of the conformance suite, in float32 and in float64."""

from __future__ import annotations

import itertools

import jax
import pytest

from jhpo import testing
from jhpo.strategies import REGISTRY, strategy_class
from tests.selection import slow_except

# they do not learn where to look
BASELINES = {"random", "sobol", "grid", "successive-halving", "hyperband", "asha", "asha, pausing", "freeze-thaw"}
NAMES = [*REGISTRY, "asha, pausing"]
OPTIONS: dict[str, dict] = {name: {"population": 12} for name in REGISTRY} | {
    "bayes": {"batch": 4, "candidates": 128, "starts": 2, "fit_iterations": 8, "search_iterations": 8},
    "successive-halving": {"population": 12, "eta": 2, "min_steps": 2, "max_steps": 8},
    "hyperband": {"population": 12, "eta": 3, "min_steps": 3, "max_steps": 9},
    "freeze-thaw": {"batch": 12, "interval": 1, "capacity": 240, "candidates": 16, "max_steps": 4, "proposer": None},
    "asha": {"proposer": "random(population=12)"},
    "asha, pausing": {"batch": 12, "eta": 2, "min_steps": 1, "max_steps": 4, "proposer": "sobol(population=5)"},
    "pbt": {"population": 12, "exchange": 1, "max_steps": 6, "fraction": 0.5},
    "chain": {"search": "pso(population=12)", "polish": "hypergradient(population=2)"},
}


def instance(name: str):
    return strategy_class(name.split(",")[0])(**OPTIONS[name])


CASES = [(s, c) for s in NAMES for c in testing.CHECKS if not (s in BASELINES and c == "learning")]


# what compiles for ten seconds or more, and has tests of its own in this folder
LONG = {("bayes", c) for c in ("vmap", "points", "several")} | {("freeze-thaw", c) for c in ("vmap", "points")}
LONG |= {("chain", "points"), ("cmaes", "vmap")}


@pytest.mark.parametrize(
    ("name", "check"), [pytest.param(*case, marks=[pytest.mark.slow] * (case in LONG)) for case in CASES]
)
def test_conformance(name: str, check: str) -> None:
    testing.CHECKS[check](instance(name))


def test_structures_name_their_strategy() -> None:
    """Otherwise `jax.jit` may run the program of another strategy with equal static fields."""
    structures = [jax.tree.structure(instance(name)) for name in sorted(NAMES)]
    assert all(a != b for a, b in itertools.combinations(structures, 2))
    assert jax.tree.structure(instance("sobol")) == jax.tree.structure(instance("sobol"))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_state_in_float64(name: str, x64: None) -> None:
    testing.check_state(instance(name))


# one strategy of each kind: of members, of a distribution, with gradients, with memory on the host
@pytest.mark.parametrize("name", slow_except({"random", "pso", "cmaes", "hypergradient"}, sorted(NAMES)))
def test_points_in_float64(name: str, x64: None) -> None:
    testing.check_points(instance(name), (testing.MIXED,))


def test_a_strategy_that_breaks_a_promise_is_caught() -> None:
    from jhpo.strategies.random import RandomSearch

    class Outside(RandomSearch):
        def ask(self, state, key):
            units, state = super().ask(state, key)
            return units * 2, state

    jax.tree_util.register_dataclass(Outside, data_fields=[], meta_fields=["population"])
    with pytest.raises(AssertionError):
        testing.check_points(Outside(8))
