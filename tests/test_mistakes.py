"""Mistakes that people type: each is answered by a sentence: the argument, what was expected and what came."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import jhpo
from jhpo.cli.load import load_target
from jhpo.errors import JhpoError
from jhpo.interop.loggers import TensorBoard, WandB
from jhpo.interop.optuna import from_optuna

SPACE = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True), "n": jhpo.Int(1, 4)})
LR = jhpo.Float(0.1, 1.0)
X = np.zeros((4, 2), np.float32)
POINT = {"lr": 0.1, "n": 2}


class Descent:
    steps = 2

    def init(self, hp, key):
        return jnp.ones(())

    def step(self, hp, w, t):
        return w - hp["lr"] * w

    def evaluate(self, hp, w):
        return w


def asked_with(strategy: object) -> jhpo.Study:
    return jhpo.Study(SPACE, strategy)  # type: ignore[arg-type]


def asked() -> jhpo.Study:
    study = asked_with("random")
    study.ask(1)
    return study


async def later(hp: object) -> float:
    return 1.0


KEYS: dict[str, Callable[[object], object]] = {
    "sample": lambda key: SPACE.sample(key, 2),
    "sample_unit": lambda key: SPACE.sample_unit(key, 2),
    "run": lambda key: jhpo.run("random", lambda hp: hp["lr"], SPACE, 2, key),
    "minimize": lambda key: jhpo.minimize(lambda hp: hp["lr"], SPACE, "random", budget=2, key=key),
    "hypergrad": lambda key: jhpo.hypergrad(Descent(), {"lr": 0.1}, key),
    "online_tune": lambda key: jhpo.online_tune(Descent(), {"lr": 0.1}, key, space=SPACE),
    "Population": lambda key: jhpo.Population(lambda hp: hp["lr"], SPACE).evaluate(np.zeros((1, 2)), [0], key),
    "dropout": lambda key: jhpo.dropout(jnp.asarray(X), 0.5, key),
    "add_noise": lambda key: jhpo.add_noise(key, jnp.asarray(X), 0.5),
    "shift_images": lambda key: jhpo.shift_images(key, jnp.zeros((1, 2, 2)), 0.5),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_seed_where_a_key_is_meant(name: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=r"(key|root): expected a key as jax\.random\.key\(0\) .*, got 7"):
        KEYS[name](7)


def test_several_values_in_a_search_for_one_name_the_argument_that_is_missing() -> None:
    hint = "; several objectives need directions=, one for each"
    with pytest.raises(jhpo.InvalidArgument, match=rf"objective: expected a real scalar, got float32\[2\]{hint}"):
        jhpo.minimize(lambda hp: (hp["lr"], 1 - hp["lr"]), SPACE, "random", budget=2)
    with pytest.warns(UserWarning, match=rf"got list of shape \(2,\){hint}"):
        jhpo.minimize(jhpo.host(lambda hp: [hp["lr"], 1 - hp["lr"]]), SPACE, "random", budget=2)
    with pytest.raises(jhpo.InvalidArgument, match=r"expected a real scalar, got float32\[4, 2\](?!; several)"):
        jhpo.minimize(lambda hp: hp["lr"] * X, SPACE, "random", budget=2)


def test_values_by_name_in_a_search_for_one_name_the_argument_that_is_missing() -> None:
    hint = r".*got {}; several objectives need directions=, such as {{'a': 'minimize', 'b': 'minimize'}}"

    def named(hp: Any) -> Any:
        return {"a": hp["lr"], "b": 1 - hp["lr"]}

    with pytest.raises(jhpo.InvalidArgument, match=r"^metric: " + hint.format("None")):
        jhpo.minimize(named, SPACE, "nsga2", budget=2)
    with pytest.warns(UserWarning, match=hint.format(r"the keys \['a', 'b'\]")):
        jhpo.minimize(jhpo.host(named), SPACE, "nsga2", budget=2)
    directions = {"a": "minimize", "b": "minimize"}
    assert len(jhpo.minimize(jhpo.host(named), SPACE, "nsga2", budget=2, directions=directions).pareto())
    with pytest.warns(UserWarning, match=r"got the keys \['loss'\]$"):
        jhpo.minimize(jhpo.host(lambda hp: {"loss": 1.0}), SPACE, "random", budget=2)
    with pytest.raises(jhpo.InvalidArgument, match=r"one of \['cost', 'value'\] .*, got None(?!; several)"):
        jhpo.minimize(lambda hp: {"value": hp["lr"], "cost": 1.0}, SPACE, "random", budget=2)
    with pytest.warns(UserWarning, match=r"'value', 'constraint', 'cost', got \['f1'\]; trial\.note\(\.\.\.\) keeps"):
        jhpo.minimize(jhpo.host(lambda hp: {"value": 1.0, "f1": 0.5}), SPACE, "random", budget=2)


def test_keys_of_both_kinds_are_taken() -> None:
    for key in (jax.random.key(0), jax.random.PRNGKey(0)):
        assert SPACE.sample_unit(key, 2).shape == (2, 2)
        with pytest.raises(jhpo.InvalidArgument, match="wrt: expected some of"):  # what is wrong after the key
            jhpo.hypergrad(Descent(), {"lr": 0.1}, key, wrt=["rate"])


FLAGS: dict[str, Callable[[object], object]] = {
    "log": lambda flag: jhpo.Float(0.1, 1.0, log=flag),  # type: ignore[arg-type]
    "log of integers": lambda flag: jhpo.Int(1, 8, log=flag),  # type: ignore[arg-type]
    "log of knots": lambda flag: jhpo.knots(jnp.ones(2), 4, log=flag),  # type: ignore[arg-type]
    "static": lambda flag: jhpo.Choice([1, 2], static=flag),  # type: ignore[arg-type]
    "check": lambda flag: jhpo.hypergrad(Descent(), {"lr": 0.1}, jax.random.key(0), check=flag),  # type: ignore[arg-type]
    "resume": lambda flag: jhpo.Study(SPACE, "random", resume=flag),  # type: ignore[arg-type]
    "read_only": lambda flag: jhpo.Study.load("none.db", read_only=flag),  # type: ignore[arg-type]
    "pruned": lambda flag: asked().tell(0, 1.0, pruned=flag),  # type: ignore[arg-type]
    "interactive": lambda flag: jhpo.Study(SPACE, "random").report("none.html", interactive=flag),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", FLAGS)
def test_a_word_where_a_flag_is_meant(name: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=rf"{name.split()[0]}: expected True or False, got 'no'"):
        FLAGS[name]("no")


def test_flags_of_numpy_are_flags() -> None:
    assert jhpo.Float(0.1, 1.0, log=np.bool_(True)).scale == "log" and jhpo.Int(1, 8, log=np.bool_(True)).log is True


OTHERS: dict[str, tuple[Callable[[], object], str]] = {
    "a number in quotes": (lambda: SPACE.validate({"lr": "0.1", "n": 2}), r"lr: expected a number in .*, got '0\.1'"),
    "a number in quotes in the queue": (lambda: asked().enqueue({"n": "2"}), r"n: expected a number in .*, got '2'"),
    "an id in quotes": (lambda: asked().tell("0", 1.0), "trial: expected a trial, its id, .* got '0'"),  # type: ignore[arg-type]
    "one value of two": (lambda: asked().tell([0, 1], 1.0), r"value: expected a list of values, .* 2 trials, got 1\.0"),
    "a reason of another kind": (lambda: asked().tell(0, error=3), "error: expected why .* or an exception, got 3"),  # type: ignore[arg-type]
    "a value and a reason": (
        lambda: asked().tell(0, 1.0, error="x"),
        r"value: expected None beside error=.* 1\.0",
    ),
    "a value of one and a reason": (
        lambda: asked().tell([0], [1.0], error="x"),
        r"value: expected None .* \[1\.0\]",
    ),
    "a value and a stop": (
        lambda: asked().tell(0, 1.0, pruned=True),
        r"value: expected None beside pruned=True",
    ),
    "a reason and a stop": (lambda: asked().tell(0, error="x", pruned=True), "pruned: expected False beside error="),
    "choices without brackets": (
        lambda: jhpo.Choice("sgd", "adam"),  # type: ignore[arg-type]
        r"choices: expected one list of values, Choice\(\[\.\.\.\]\), got '2 arguments'",
    ),
    "ordered values without brackets": (lambda: jhpo.Ordinal(1, 2, 3), r"Ordinal\(\[\.\.\.\]\)"),  # type: ignore[arg-type]
    "no choices": (lambda: jhpo.Choice(), r"choices: expected a list of at least one value, got \(\)"),
    "a coroutine of the host": (lambda: jhpo.host(later), r"fn: expected a function .*, no coroutine \(.*asyncio\.run"),
    "a coroutine": (lambda: jhpo.minimize(later, SPACE, "random", budget=1), "objective: expected .*, no coroutine"),  # type: ignore[arg-type]
    "the name of an Optuna study": (lambda: from_optuna("a.db"), r"study: expected an optuna\.Study .*, got 'a\.db'"),  # type: ignore[arg-type]
    "a study in a writer's place": (lambda: TensorBoard(asked()), "writer: expected a SummaryWriter .*, got <Study"),
    "no run": (lambda: WandB(None), r"run: expected what wandb\.init returns, got None"),
    "members of a host function": (
        lambda: asked_with(jhpo.SuccessiveHalving(9)).optimize(jhpo.host(lambda p: 1.0), budget=9),
        "objective: expected a trainable, .* got 'a host function'; of host functions that report, early_stop=",
    ),
    "one point": (lambda: asked().absorb(POINT, [1.0]), "params: expected a list, .* got {"),  # type: ignore[arg-type]
    "an array of no axes": (lambda: asked().absorb([POINT], jnp.ones(())), r"values: expected a list"),  # type: ignore[arg-type]
    "one value": (lambda: asked().absorb([POINT], 1.0), r"values: expected a list, .* got 1\.0"),  # type: ignore[arg-type]
    "three arrays": (
        lambda: jhpo.supervised(jhpo.masked_mlp([2], [2], 2), lambda hp: None, train=(X, X, X), steps=1),  # type: ignore[arg-type, return-value]
        r"train: expected a pair \(inputs, targets\) of arrays, got 'a tuple of 3'",
    ),
    "the optimiser before the model": (
        lambda: jhpo.supervised(lambda hp: None, linen.Dense(2), train=(X, X), steps=1),  # type: ignore[arg-type]
        "tx: expected a function of the hyperparameters that returns an optax transformation, got Dense",
    ),
    "a rate in quotes": (
        lambda: jhpo.hypergrad(Descent(), {"lr": "0.1", "b": 1.0}, jax.random.key(0)),
        r"hp: lr: expected a number, .* got '0\.1'",
    ),
    "a negative rate": (
        lambda: jhpo.HyperGradient(1, learning_rate=-0.1),
        "learning_rate: expected a number in .* got -0.1",
    ),
    "options before the choice": (
        lambda: jhpo.switch({"a": 1.0, "b": 2.0}, jnp.int32(0)),  # type: ignore[arg-type]
        "options: expected a dict or a list .*, after the choice itself, got",
    ),
    "a reference point of one objective": (
        lambda: jhpo.minimize(lambda hp: hp["lr"], SPACE, jhpo.BayesOpt(reference=(1.0, 2.0)), budget=2),
        r"reference: expected None in a search for a single objective .* got \(1\.0, 2\.0\)",
    ),
    "a dict in a space's place": (
        lambda: jhpo.minimize(lambda hp: hp["lr"], {"lr": LR}, budget=2),  # type: ignore[arg-type]
        r"space: expected a jhpo\.Space, got {.*}; write jhpo\.Space\({\.\.\.}\)$",
    ),
    "the space before the objective": (
        lambda: jhpo.Population(SPACE, lambda hp: hp["lr"]),  # type: ignore[arg-type]
        r"space: expected a jhpo\.Space, got <function .*>; it comes after the objective$",
    ),
    "the order of minimize in run": (
        lambda: jhpo.run(lambda hp: hp["lr"], SPACE, jhpo.PSO(8), 3, jax.random.key(0)),  # type: ignore[arg-type]
        r"strategy: expected the first of run\(strategy, objective, space, generations, key\), got <function .*>$",
    ),
    "the class of a strategy": (
        lambda: asked_with(jhpo.PSO),
        r"strategy: expected an instance .*, got <class .*>; write PSO\(\)$",
    ),
    "a budget in a strategy's place": (
        lambda: jhpo.minimize(lambda hp: hp["lr"], SPACE, 100),  # type: ignore[arg-type]
        r"strategy: expected .*, got 100; numbers of evaluations are named: budget=\.\.\.$",
    ),
    "a static choice where all members are one program": (
        lambda: jhpo.minimize(
            Descent(),
            jhpo.Space({"lr": jhpo.Float(0.1, 1.0), "k": jhpo.Choice([1, 2], static=True)}),
            jhpo.FreezeThaw(),
        ),
        r"space: expected no static parameters .*, got \['k'\]; jhpo\.switch",
    ),
    "a folder that is no path": (lambda: jhpo.use_compilation_cache(5), "folder: expected a path, or None, got 5"),  # type: ignore[arg-type]
    "a misspelt database": (
        lambda: jhpo.Study(SPACE, "random", "sqllite:///a.db"),
        "storage: expected a path, sqlite:///",
    ),
    "a database of another kind": (
        lambda: jhpo.Study(SPACE, "random", "mysql://me:secret@host/studies"),
        r"storage: expected .* got 'mysql://me:\*\*\*@host/studies'",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_mistakes(name: str) -> None:
    call, sentence = OTHERS[name]
    with pytest.raises(JhpoError, match=sentence):
        call()


def test_an_exception_is_a_reason() -> None:
    study = asked()
    study.tell(0, error=ValueError("diverged"))
    assert study[0].reason == "ValueError: diverged"


def test_a_range_reversed_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text("import jhpo\nspace = jhpo.Space({'a': jhpo.Float(0, 1), 'b': jhpo.Float(1, 0)})\n")
    with pytest.raises(jhpo.InvalidSpace, match=r"low: expected .* got 1\.0 \(line 2 of .*model\.py\)"):
        load_target(str(file))


def test_a_study_that_was_closed(tmp_path: Path) -> None:
    study = jhpo.Study(SPACE, "random", tmp_path / "study.db")
    study.close()
    with pytest.raises(jhpo.StorageError, match=r"study\.db: it was closed; jhpo\.Study\.load opens it again"):
        study.ask(1)


def test_a_study_given_to_another_process() -> None:
    with pytest.raises(TypeError, match="a Study cannot be copied or sent to another process; open it there"):
        copy.copy(jhpo.Study(SPACE, "random"))


def test_names_of_strategies_as_people_write_them() -> None:
    for name in ("freeze-thaw", "freeze_thaw", "FreezeThaw", "freeze_thaw(interval=2)"):
        assert isinstance(jhpo.strategies.strategy_from_text(name), jhpo.FreezeThaw)
    with pytest.raises(jhpo.UnknownStrategy, match=r"expected one of \['asha', .*, got 'freezing'"):
        jhpo.strategies.strategy_from_text("freezing(batch=2)")


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (lambda: jhpo.DifferentialEvolution(f=0.3, cr=0.1), r'f=0\.3, cr=0\.1: no effect with variant="lshade"'),
        (lambda: jhpo.DifferentialEvolution(variant="rand1", p=0.2), r'p=0\.2: no effect with variant="rand1"'),
        (lambda: jhpo.PSO(reevaluate=0.5), "reevaluate=0.5: no effect without noisy=True"),
        (lambda: jhpo.PSO(restart="same", max_growth=8), 'max_growth=8: no effect with restart="same"'),
        (lambda: jhpo.CMAES(restarts="none", growth=2), 'growth=2: no effect with restarts="none"'),
    ],
    ids=["lshade", "rand1", "noisy", "growth", "restarts"],
)
def test_options_that_a_variant_does_not_take_are_said_to_have_no_effect(strategy: Any, said: str) -> None:
    with pytest.warns(UserWarning, match=said) as warned:
        strategy()
    assert warned[0].filename == __file__


def test_options_that_a_variant_takes_are_taken_without_a_word(recwarn: Any) -> None:
    jhpo.DifferentialEvolution(variant="rand1", f=0.3), jhpo.PSO(noisy=True, reevaluate=0.5), jhpo.CMAES(growth=2)
    jax.jit(lambda f: jhpo.DifferentialEvolution(f=f).f)(0.3)  # not known yet
    assert not recwarn.list


HUGE = 10**400  # no float holds it


def of_two() -> jhpo.Study:
    study = jhpo.Study(SPACE, "random", directions=["minimize", "maximize"])
    study.tell(study.ask(1)[0], (1.0, 1.0))
    return study


@pytest.mark.parametrize(
    "call",
    [
        lambda: jhpo.StopRules(target=HUGE), lambda: jhpo.StopRules(seconds=HUGE), lambda: jhpo.Float(0, HUGE),
        lambda: jhpo.host(len, timeout=HUGE), lambda: asked_with("random").enqueue({"lr": HUGE}),
        lambda: asked_with("random").ask(1)[0].report(1, HUGE), lambda: of_two().knee([HUGE, 1.0]),
        lambda: asked_with("random").ask(1)[0].report(2**63, 0.5), lambda: of_two().hypervolume([HUGE, 1.0]),
        lambda: jhpo.BayesOpt(reference=(HUGE, 1.0)),
    ],
)  # fmt: skip
def test_integers_that_are_too_large_are_named(call: Callable[[], object]) -> None:
    with pytest.raises(JhpoError, match=r": expected .*, got"):
        call()


def test_a_budget_may_be_larger_than_any_search() -> None:
    found = jhpo.minimize(lambda hp: hp["lr"], SPACE, jhpo.PSO(4), budget=10**30, generations=2)
    assert len(found.history.value) == 8
