"""Chain: phases with their own requests and sizes, horizons that never mix, hand-over, resumption, the command line."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import CMAES, PSO, Chain, Float, Greedy, HyperGradient, InvalidArgument, SobolSearch, Space
from jhpo.strategies import strategy_from_text
from jhpo.strategies.base import Evaluation
from tests.study.studies import database

BOX = Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)})


class Descent:
    """8 steps towards a target; stopped early, values are lower than any whole training reaches."""

    steps = 8

    def init(self, hp, key):
        return jnp.zeros((), jnp.int32)

    def step(self, hp, state, t):
        return state + 1

    def evaluate(self, hp, state):
        value = (hp["x"] - 0.5) ** 2 + (hp["y"] + 0.3) ** 2
        return jnp.where(state < 8, value - 10.0, value)


TASK = Descent()
CHAIN = Chain(PSO(6), HyperGradient(2, starts=1), evaluations=16, horizon=0.25)


def test_run_gives_a_trace_for_each_phase_and_counts_ids_on() -> None:
    _, traces = jhpo.run(CHAIN, TASK, BOX, 10, jax.random.key(0))
    assert [t.value.shape for t in traces] == [(3, 6), (7, 2)]
    assert (traces[0].value < -5).all() and (traces[1].value >= 0).all()
    assert float(traces[1].value.min()) < float(traces[1].value[0].min())
    # the polish begins at the best distinct points of the search
    units, value = np.asarray(traces[0].units).reshape(-1, 2), np.asarray(traces[0].value).ravel()
    first = np.asarray(traces[1].units[0])
    np.testing.assert_array_equal(first[0], units[np.argmin(value)])
    assert np.abs(first[0] - first[1]).max() >= 0.1
    (trace,) = [jhpo.run(CHAIN, TASK, BOX, 2, jax.random.key(0))[1]]
    assert trace.value.shape == (2, 6)


def test_run_minimize_and_study_are_one_search() -> None:
    key = jax.random.key(4)
    _, traces = jhpo.run(CHAIN, TASK, BOX, 8, key)
    result = jhpo.minimize(TASK, BOX, CHAIN, budget=28, key=key)
    flat = np.concatenate([np.asarray(t.value).ravel() for t in traces])
    np.testing.assert_allclose(flat, result.history.value, rtol=1e-5, atol=1e-6)
    study = jhpo.Study(BOX, CHAIN, seed=4)
    study.optimize(TASK, budget=28)
    np.testing.assert_allclose(flat, study.history.table.value.array, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(result.history.horizon, study.history.table.horizon.array)
    assert result.history.horizon.tolist() == [0.25] * 18 + [1.0] * 10


def test_the_best_is_one_of_the_whole_trainings() -> None:
    result = jhpo.minimize(TASK, BOX, CHAIN, budget=40, target=-1.0, patience=3)
    assert result.value >= 0 and "target" not in result.stopped
    assert min(result.history.value) < -5
    assert [t.value >= 0 for t in result.top(3, states=False)] == [True] * 3
    study = jhpo.Study(BOX, CHAIN)
    # patience and target look at whole trainings alone: the search neither fulfils nor exhausts them
    assert study.optimize(TASK, budget=18, target=-1.0, patience=1).evaluations == 18
    assert study.best.value < -5 and study.best.horizon == 0.25  # nothing better is known yet
    study.optimize(TASK, budget=30)
    assert study.best.value >= 0 and study.best.horizon == 1.0
    frame = study.to_frame()
    assert frame["horizon"].tolist() == [0.25] * 18 + [1.0] * 12
    assert study.plot("history").data[1].y[-1] == pytest.approx(study.best.value)


@pytest.mark.parametrize("snapshots", [True, False])
def test_a_resumed_chain_equals_the_uninterrupted_one(tmp_path, snapshots) -> None:
    whole = jhpo.Study(BOX, CHAIN, seed=5)
    whole.optimize(TASK, budget=31, chunk=2)
    for budget in (11, 18, 19, 26, 31):  # within the search, at its end, within the hand-over, within the polish
        study = jhpo.Study(BOX, CHAIN, tmp_path / "s.db", seed=5, resume=budget > 11)
        study.optimize(TASK, budget=budget, chunk=2)
        if not snapshots:
            connection = database(study).connection
            connection.exec_driver_sql("DELETE FROM jhpo_snapshot")
            connection.commit()
            study.ledger.log.close()  # as if it had been killed
        else:
            study.close()
    with jhpo.Study.load(tmp_path / "s.db") as loaded:
        assert loaded.strategy == CHAIN
        for name in ("value", "unit", "stream", "horizon", "generation"):
            ours, theirs = getattr(whole.history.table, name).array, getattr(loaded.history.table, name).array
            np.testing.assert_array_equal(ours, theirs)


def test_trials_of_other_horizons_are_not_shown_to_a_phase(tmp_path) -> None:
    study = jhpo.Study(BOX, Chain(SobolSearch(4), PSO(4), evaluations=4, horizon=0.5), seed=1)
    late, *others = study.ask(4)
    assert late.horizon == 0.5
    study.tell(others, [1.0, 2.0, 3.0])
    polish = study.ask(4)  # all that is left is pending, so the search is closed without it
    assert [t.horizon for t in polish] == [1.0] * 4
    study.tell(late, -100.0)
    study.tell(polish, [5.0, 6.0, 7.0, 8.0])
    study.ask(4)
    assert float(np.min(study.ledger.follower().driver.state.inner.value)) >= 5.0
    assert study.best.value == 5.0


def test_one_program_for_each_phase_and_one_between_them(count_compilations) -> None:
    def fresh(hp):
        return (hp["x"] - 0.2) ** 2 + hp["y"] ** 2

    jhpo.minimize(TASK, BOX, CHAIN, budget=40)
    with count_compilations() as seen:
        jhpo.minimize(fresh, BOX, Chain(PSO(6), HyperGradient(2, starts=1), evaluations=16), budget=40, seed=1)
    assert sorted(seen.names) == ["jit(evaluate_program)"] * 2, seen.names
    with count_compilations() as seen:
        jhpo.minimize(fresh, BOX, CHAIN, budget=40, seed=2)
    assert seen.names == []


@pytest.mark.parametrize(
    "chain",
    [
        Chain(SobolSearch(8), PSO(8), evaluations=16, horizon=1.0),
        Chain(PSO(8), CMAES(8), evaluations=16, horizon=1.0),
        Chain(SobolSearch(8), jhpo.DifferentialEvolution(8, variant="rand1"), evaluations=16, horizon=1.0),
        Chain(SobolSearch(8), Chain(Greedy(8), HyperGradient(2), evaluations=24), evaluations=8, horizon=1.0),
        Chain(SobolSearch(8), jhpo.BayesOpt(batch=4), evaluations=16, horizon=1.0),
    ],
    ids=lambda c: f"{type(c.search).__name__}-{type(c.polish).__name__}",
)
def test_other_chains_go_on_from_what_they_are_given(chain) -> None:
    def bowl(hp):
        return (hp["x"] - 0.45) ** 2 + (hp["y"] + 0.35) ** 2

    first = -(-chain.evaluations // chain.search.population) * chain.search.population
    # a model needs few points, and more make its buffers grow: another program each
    budget = first + (24 if isinstance(chain.polish, jhpo.BayesOpt) else 96)
    result = jhpo.minimize(bowl, BOX, chain, budget=budget)
    values = result.history.value
    assert values[first:].min() < values[:first].min()
    # what follows starts from the elite of the search: better than the search was on average
    assert np.median(values[first + 8 :]) < np.median(values[:first])
    # which was trained to the end, and is trained again only for a shorter horizon
    begun = result.history.units[first : first + chain.polish.population]
    again = (begun[:, None] == result.history.units[None, :first]).all(-1).any(1)
    assert again.all() if isinstance(chain.polish, Chain) else not again.any()


@pytest.mark.parametrize("polish", [Greedy(4), jhpo.BayesOpt(batch=4)], ids=["by violation", "one by one"])
def test_what_is_handed_over_counts_as_it_was_measured(polish) -> None:
    chain = Chain(SobolSearch(4), polish, evaluations=4, horizon=1.0)
    state: Any = chain.init(BOX, jax.random.key(0))
    units, state = chain.ask(state, jax.random.key(1))
    result = Evaluation(jnp.array([3.0, jnp.nan, 1.0, 2.0]), constraint=jnp.array([[1.0], [1.0], [-1.0], [1.0]]))
    state = chain.advance(chain.tell(state, units, result))
    if isinstance(polish, Greedy):
        np.testing.assert_array_equal(state.inner.centre, units[3])  # the best that is feasible
        assert state.inner.value == 2.0 and state.inner.violation == 0.0
    else:
        assert sorted(state.inner.history.value[: state.inner.used].tolist()) == [2.0, 3.0]


@pytest.mark.parametrize("polish", [PSO(16, variant="gbest"), Chain(PSO(16, variant="gbest"), "greedy", 960, 1.0)])
def test_a_swarm_follows_what_it_finds_itself_after_what_is_handed_over(polish) -> None:
    space = Space({f"x{i}": Float(-5.0, 5.0) for i in range(4)})

    def bowl(hp):
        return sum((hp[f"x{i}"] - 0.7 * i) ** 2 for i in range(4))

    chain = Chain(SobolSearch(16), polish, evaluations=32, horizon=1.0)
    found = [jhpo.minimize(bowl, space, chain, budget=960, seed=seed).value for seed in range(3)]
    assert max(found) < 0.01


def test_failed_searches_leave_random_points_to_the_polish() -> None:
    chain = Chain(SobolSearch(4), HyperGradient(3, starts=1), evaluations=4)
    state: Any = chain.init(BOX, jax.random.key(0))
    units, state = chain.ask(state, jax.random.key(1))
    values = jnp.array([jnp.nan, 1.0, jnp.nan, jnp.inf])
    state = chain.advance(chain.tell(state, units, Evaluation(values)))
    elite = np.asarray(state.elite)
    np.testing.assert_array_equal(elite[0], units[1])
    assert np.isfinite(elite).all() and ((elite >= 0) & (elite <= 1)).all()
    for row in elite[1:]:
        assert (np.abs(np.asarray(units) - row).max(axis=1) > 0).all()


def test_by_text_as_on_the_command_line(tmp_path) -> None:
    chain: Any = jhpo.make_strategy(
        "chain", {"search": "pso(population=16)", "polish": "hypergradient", "evaluations": 32}
    )
    assert chain.search == PSO(16) and chain.polish == HyperGradient() and chain.population == 16
    with jhpo.Study(BOX, chain, tmp_path / "s.db") as study:
        assert study.strategy == chain
    with jhpo.Study.load(tmp_path / "s.db") as study:
        assert study.strategy == chain
    for text in ("pso(16)", "pso(population=", "pso.magic(a=1)", "pso(population=open)"):
        with pytest.raises(InvalidArgument, match="strategy"):
            strategy_from_text(text)
    with pytest.raises(InvalidArgument, match="expected one of"):
        strategy_from_text("magic")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Chain(CHAIN, PSO(4)), "one phase"),
        (lambda: Chain(3, PSO(4)), "search"),
        (lambda: Chain(PSO(4), PSO), "polish"),
        (lambda: Chain(PSO(4), PSO(4), evaluations=0), "evaluations"),
        (lambda: Chain(PSO(4), PSO(4), horizon=0.0), "horizon"),
    ],
)
def test_bad_chains_are_refused(make, words) -> None:
    with pytest.raises(InvalidArgument, match=words):
        make()
    with pytest.raises(InvalidArgument, match="shorter horizon"):
        jhpo.minimize(jhpo.host(lambda params: params["x"]), BOX, Chain(SobolSearch(4), PSO(4)), budget=8)


def test_tune_with_a_chain_and_resume(tmp_path, monkeypatch, capsys) -> None:
    import jhpo.cli.commands as cli
    import jhpo.programs.compilation

    text = (
        'import jhpo\nspace = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})\nobjective = lambda hp: (hp["x"] - 0.25) ** 2\n'
    )
    (tmp_path / "model.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jhpo.programs.compilation, "use_compilation_cache", lambda: None)
    for budget, more in ((20, []), (60, ["--resume"])):
        options = ["--set", "search=sobol(population=8)", "--set", "evaluations=16", "--set", "polish=hypergradient"]
        argv = ["jhpo", "tune", "model.py", "--strategy", "chain", *options, "--budget", str(budget)]
        monkeypatch.setattr("sys.argv", [*argv, "--storage", "s.db", *more])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code, capsys.readouterr().err
    with jhpo.Study.load("s.db", read_only=True) as study:
        assert study.evaluations == 60 and study.best.value < 1e-3 and study.best.horizon == 1.0
