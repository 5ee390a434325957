"""Attributes that results, studies and trials do not have: what may have been meant."""

from __future__ import annotations

import copy
import re

import pytest

import jhpo
from jhpo.study.asked import Asked
from jhpo.words.attributes import ANSWERS, Advising, advice_on

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})


@pytest.fixture(scope="module")
def study():
    study = jhpo.Study(SPACE, "random")
    for trial in study.ask(3):
        study.tell(trial, trial.params["x"])
    return study


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("best_params", ".best.params"),
        ("trials_dataframe", ".to_frame()"),
        ("enqueue_trial", ".enqueue("),
        ("user_attrs", ".note({...}, trial=trial)"),
        ("optimise", ".optimize"),
        ("stratgy", ".strategy"),
    ],
)
def test_what_a_study_calls_otherwise_is_named(study, name, words):
    with pytest.raises(AttributeError, match=rf"'Study' object has no attribute '{name}'; .*{re.escape(words)}"):
        getattr(study, name)


def test_results_and_trials_name_theirs_too(study):
    found = jhpo.minimize(lambda hp: hp["x"], SPACE, "random", budget=4)
    for name in ("best_params", "x", "params"):
        with pytest.raises(AttributeError, match=r"its hyperparameters are \.best"):
            getattr(found, name)
    with pytest.raises(AttributeError, match=r"len\(\.history\.value\)"):
        found.nfev  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"a Study has \.trials and \.to_frame\(\)"):
        found.to_pandas  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match=r"a Study is a file, jhpo\.save_states keeps trained states"):
        found.save  # type: ignore[attr-defined]  # noqa: B018
    for name, words in (("number", r"\.id"), ("config", r"\.params"), ("suggest_float", "declared in a Space")):
        with pytest.raises(AttributeError, match=words):
            getattr(study.best, name)


def test_asked_trials_are_a_list_and_say_so(study):
    asked = study.ask()
    assert isinstance(asked, list) and isinstance(asked, Asked) and asked == list(asked)
    for name in ("params", "id", "value", "report", "number", "suggest_int"):
        with pytest.raises(AttributeError, match=r"it is a list of trials: `for trial in study\.ask\(n\)`"):
            getattr(asked, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'shape'$"):
        asked.shape  # type: ignore[attr-defined]  # noqa: B018


def test_other_tools_find_no_more_than_before(study):
    found = jhpo.minimize(lambda hp: hp["x"], SPACE, "random", budget=4)
    trial = study.best
    assert copy.deepcopy(trial) == trial and copy.copy(found).value == found.value
    for each in (found, study, trial):
        assert not hasattr(each, "__array__") and not hasattr(each, "_repr_png_") and not hasattr(each, "wings")


def test_a_property_that_fails_keeps_its_own_error():
    class Failing(Advising):
        @property
        def value(self):
            return self.wings  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="no attribute 'wings'"):
        Failing().value  # noqa: B018


def test_every_answer_is_about_what_is_there(study):
    """Names that an answer recommends exist, and what it answers does not."""
    found = jhpo.minimize(lambda hp: hp["x"], SPACE, "random", budget=4)
    for thing in (found, study, study.best):
        for others, sentence in ANSWERS[type(thing).__name__]:
            for other in others.split():
                assert not hasattr(thing, other) and advice_on(type(thing), other) == sentence, other
            for attribute in re.findall(r"(?:^| )(?:study)?\.(\w+)", sentence):
                assert hasattr(thing, attribute) or hasattr(study, attribute), attribute
