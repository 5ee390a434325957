"""The command line where nothing can be written, and on terminals of no size."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from typing import TextIO, cast

import numpy as np
import pytest

import jhpo
import jhpo.cli.commands as cli
import jhpo.cli.console
import jhpo.programs.compilation
import jhpo.search.progress
from jhpo.cli.output import Output
from jhpo.cli.signals import farewell
from jhpo.programs.compilation import use_compilation_cache
from jhpo.search.stopping import exhausted
from jhpo.values.columns import why_nothing

FULL = "/dev/full"
SENTENCE = "cannot write to the standard output: No space left on device"
full_disk = pytest.mark.skipif(not os.path.exists(FULL), reason="the system has no disk that is always full")


@pytest.mark.parametrize("given", ["0", "00", "²"])
def test_a_terminal_of_no_columns_is_one_of_unknown_size(command, two, monkeypatch, given):
    """Nothing was printed, and the code was 0."""
    monkeypatch.setenv("COLUMNS", given)
    code, out, _ = command("show", "a.db", "--top", 1)
    assert code == 0 and "12 trials: 12 complete" in out and "top 1" in out


@full_disk
@pytest.mark.parametrize("word", ["--version", "strategies"])
def test_a_full_disk_is_one_sentence_and_a_code(word):
    """It was a traceback, or another one at the end of Python."""
    with open(FULL, "w") as full:
        ended = subprocess.run([sys.executable, "-m", "jhpo", word], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == cli.STORAGE and ended.stderr == f"jhpo: {SENTENCE}\n"


@full_disk
def test_a_search_does_not_end_for_a_line_of_its_progress(command, file, monkeypatch):
    monkeypatch.setattr(jhpo.cli.console, "PLAIN_SECONDS", 0.0)
    arguments = ("tune", file, "--strategy", "random", "--storage", "s.db", "--live")
    assert command(*arguments, "--budget", 4)[0] == 0
    with open(FULL, "wb", buffering=0) as full:  # nothing is left to be written when it closes
        monkeypatch.setattr(sys, "stdout", cast(TextIO, Output(cast(TextIO, Unbuffered(full)))))
        code, _, errors = command(*arguments, "--budget", 12, "--resume")
    assert code == cli.STORAGE and SENTENCE in errors
    assert "best:" in errors and "stopped: evaluations: 12 of 12 done" in errors, "the results would be lost"
    with jhpo.Study.load("s.db", read_only=True) as study:
        assert study.evaluations == 12


class Unbuffered:
    encoding = "utf-8"

    def __init__(self, raw):
        self._raw = raw

    def write(self, text):
        return self._raw.write(text.encode())

    def flush(self):
        self._raw.flush()


@full_disk
def test_a_bar_of_the_library_does_not_end_a_search(monkeypatch):
    monkeypatch.setattr(jhpo.search.progress, "PLAIN_SECONDS", 0.0)
    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random")
    with open(FULL, "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", Unbuffered(full))
        study.optimize(jhpo.host(lambda params: params["x"]), budget=4, callback=jhpo.ProgressBar())
    assert study.evaluations == 4


def test_a_search_goes_on_without_a_cache(command, file, monkeypatch):
    """Where no folder can be made, as with a home that cannot be written, no search began."""
    monkeypatch.setattr(
        jhpo.programs.compilation, "use_compilation_cache", lambda: use_compilation_cache(file / "cache")
    )
    code, out, errors = command("tune", file, "--strategy", "random", "--budget", 4)
    assert code == 0 and "stopped: evaluations: 4 of 4 done" in out
    assert errors.startswith("jhpo: compiled programs are not kept (folder: expected one that can be made (Not a ")


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(jhpo.programs.compilation.Path, "home", homeless)
    monkeypatch.setattr(jhpo.programs.compilation, "config", types.SimpleNamespace(jax_compilation_cache_dir=None))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(jhpo.InvalidArgument, match="folder: expected one where there is no home"):
        use_compilation_cache()


def test_one_of_something_is_no_plural(command, tmp_path):
    with jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "random", tmp_path / "one.db") as study:
        study.tell(study.ask(1)[0], 0.5)
        assert repr(study).endswith(" 1 trial finished>")
    code, out, _ = command("show", "one.db")
    assert code == 0 and "\n1 trial: 1 complete; 1 generation\n" in out
    assert command("export", "one.db", "--csv", "one.csv")[1] == "1 trial written to one.csv\n"
    assert farewell(1, "one.db", "again").startswith("stopped; 1 evaluation is stored.")
    assert farewell(2, "one.db", "again").startswith("stopped; 2 evaluations are stored.")
    assert exhausted(1) == "the only point of the search has been handed out"
    assert why_nothing(np.array([np.nan]), None, 1) == "the only value is NaN or infinite"
