"""Traced programs on disk: used only where nothing has changed, never instead of the right results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.process.lifetimes import Programs
from jhpo.programs import kept

pytestmark = pytest.mark.quick
X = np.arange(3, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A compilation cache in which traces are kept."""
    config: Any = jax.config
    before = config.jax_compilation_cache_dir
    monkeypatch.setattr(kept, "_on", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    jax.config.update("jax_compilation_cache_dir", before)


def double(x: Any) -> Any:
    return {"twice": 2 * x, "sum": jnp.sum(x)}


def traced(function: Callable[..., Any] = double, like: Callable[..., Any] | None = None, *args: Any) -> bool:
    """Whether the program of a fresh process would be traced for these arguments; its results are right."""
    seen = []

    def program(*args: Any) -> Any:
        seen.append(args)
        return function(*args)

    args = args or (X,)
    programs = Programs(program, through=kept.kept(like or (lambda x: {"twice": 0, "sum": 0})))
    for _ in range(2):
        found, expected = programs(*args), function(*args)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert len(seen) < 2
    return bool(seen)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("jhpo-*"))


def test_a_program_is_traced_once(folder: Path) -> None:
    assert traced() and not traced() and not traced()
    (path,) = files(folder)
    assert path.name.startswith("jhpo-program-") and path.suffix == ".traced"
    assert traced(double, None, np.arange(4, dtype=np.float32)) and traced(double, None, X.astype(np.int32))
    assert len(files(folder)) == 3


def test_nothing_is_kept_unless_it_was_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_on", False)
    assert traced() and traced() and not files(folder)
    monkeypatch.setattr(kept, "_on", True)
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert traced() and traced() and not files(folder)
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    for elsewhere in (None, "gs://bucket/cache"):
        jax.config.update("jax_compilation_cache_dir", elsewhere)
        assert kept.file_of("program", jax.tree.structure(((X,), {})), [X]) is None


def test_other_settings_are_other_programs(folder: Path) -> None:
    """`jax.jit` traces anew for them within a process too."""
    assert traced()
    with jax.enable_x64(True):
        assert traced() and not traced()
    with jax.default_matmul_precision("highest"):
        assert traced()
    assert not traced()
    assert len(files(folder)) == 3


def test_othersources_and_versions_are_other_programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert traced()
    for owner, name, value in (
        (kept, "sources", lambda: "other"),
        (kept, "__version__", "0.0.0"),
        (jax, "__version__", "0.0.0"),
        (kept.jaxlib, "__version__", "0.0.0"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(owner, name, value)
            assert traced()
    assert not traced()


def test_the_digest_is_that_of_thesources_as_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an editable installation they change, before this process began or after."""
    digest = kept.sources.__wrapped__
    assert digest() == kept.sources() != None  # noqa: E711
    package = tmp_path / "jhpo"
    package.mkdir()
    monkeypatch.setattr(kept, "__file__", str(package / "kept.py"))
    monkeypatch.setattr(kept.internals, "__file__", str(tmp_path / "kernels" / "internals.py"))
    assert digest() is None, "there are none"
    seen = set()
    for text in ("a = 1", "a = 2"):
        (package / "module.py").write_text(text)
        monkeypatch.setattr(kept, "IMPORTED", (package / "module.py").stat().st_mtime + 1)
        seen.add(digest())
    assert len(seen) == 2 and None not in seen
    monkeypatch.setattr(kept, "IMPORTED", (package / "module.py").stat().st_mtime)
    assert digest() is None, "changed since the import"


class Pair(NamedTuple):
    a: Any
    b: Any


def test_a_structure_is_described_by_its_content_or_not_at_all() -> None:
    described = lambda tree: kept.described(jax.tree.structure(tree))  # noqa: E731
    assert described({"a": [1.0, None]}) == described({"a": [2.0, None]}) != described({"b": [1.0, None]})
    assert described(Pair(1, 2)) is None, "a class whose source is not in the digest"
    assert described(jax.tree_util.Partial(double)) is None
    one, other = (described(jhpo.BayesOpt(kernel=kernel)) for kernel in ("rbf", "matern52"))
    assert None not in (one, other) and one != other
    assert described(jhpo.Space({"x": jhpo.Float(0.0, 1.0)})) is None


def test_what_is_not_known_by_its_content_is_traced(folder: Path) -> None:
    add = lambda pair: pair.a + pair.b  # noqa: E731
    for _ in range(2):
        assert traced(add, lambda pair: 0, Pair(X, X))
    assert not files(folder)


def test_results_of_another_structure_are_traced(folder: Path) -> None:
    """What `like` says is not believed."""
    for _ in range(2):
        assert traced(double, lambda x: (0, 0))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jax.pure_callback(lambda x: np.asarray(x), jax.ShapeDtypeStruct((3,), np.float32), x),
        lambda x: jax.random.split(jax.random.key(0)),
        lambda x: jnp.linalg.cholesky(jnp.eye(3, dtype=np.float32)),
    ],
    ids=["host", "keys", "LAPACK"],
)
def test_what_another_process_could_not_run_is_traced(
    folder: Path, function: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    programs = [Programs(function, through=kept.kept(lambda x: 0)) for _ in range(2)]
    first, again = (program(X) for program in programs)
    assert not files(folder) and "cannot be kept" in caplog.text
    assert bool((first == again).all()) and bool((first == function(X)).all())


def test_an_error_in_a_trace_is_that_error(folder: Path) -> None:
    def wrong(x: Any) -> Any:
        raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        traced(wrong, lambda x: 0)
    assert not files(folder)


@pytest.mark.parametrize("damage", [lambda d: d[:100], lambda d: b"", lambda d: d[:-9] + bytes([d[-9] ^ 1]) + d[-8:]])
def test_a_damaged_file_is_made_anew(
    folder: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    traced()
    (path,) = files(folder)
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert traced() and "is damaged" in caplog.text
    assert files(folder) == [path] and not traced()


def test_a_folder_that_cannot_be_used_costs_a_trace(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("a file")
    with caplog.at_level(logging.WARNING, "jhpo.programs.kept"):
        assert traced() and traced()
    assert "cannot be" in caplog.text and folder.read_text() == "a file"


def test_the_files_last_used_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also drafts of processes that were killed go."""
    folder.mkdir()
    (folder / "jhpo-program-0.1234").write_text("a draft")
    (folder / "jit_turn-0-cache").write_text("JAX's own")
    monkeypatch.setattr(kept, "MOST_FILES", 2)
    times = iter(range(10, 100))

    def used(n: int) -> bool:
        old = {path: path.stat().st_mtime for path in files(folder)}
        was = traced(double, None, np.zeros(n, np.float32))
        for path in files(folder):
            if path.stat().st_mtime != old.get(path):
                kept.os.utime(path, (stamp := next(times), stamp))
        return was

    kept.os.utime(folder / "jhpo-program-0.1234", (1, 1))
    assert used(1) and used(2) and not used(1) and used(3)
    assert len(files(folder)) == 2 and not list(folder.glob("*.1234"))
    assert not used(1) and not used(3) and used(2), "the second had not been used for longest"
    assert (folder / "jit_turn-0-cache").exists()
