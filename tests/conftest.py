"""Strict JAX for every test: ranks and dtypes must match by design, not by promotion."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import signal
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jax
import pytest

from tests import costs, shapes

shapes.install()

# most of a test's time is compilation: quick code generation here and in the processes that tests start (the long
# campaigns and promises about bits, `make test-slow`, run what users run), and programs kept from one run to the next
QUICK = "--xla_backend_optimization_level=0"
if jax.__version_info__ < (0, 11, 1):  # later ones end at this flag, which they do not know
    QUICK += " --xla_cpu_use_fusion_emitters=false"
QUICK += " --xla_cpu_parallel_codegen_split_count=1"  # small programs, and a core for every worker
# fused multiply-adds, which this code generator places differently from one program to another, came after AVX
if platform.machine() in ("x86_64", "AMD64"):
    QUICK += " --xla_cpu_max_isa=AVX"
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "programs"


# a process may have 65,530 memory maps on Linux; a program takes three to six, and a megabyte with them
MAPS, MOST_MAPS = Path("/proc/self/maps"), 4_000


def pytest_configure(config: pytest.Config) -> None:
    if not config.option.markexpr.startswith("slow"):
        os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}"  # the last word is the caller's
    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a job in the background of a shell
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.set_threshold(100_000, 20, 50)  # tracing makes many objects and few circles


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks slow what `tests/long.txt` lists."""
    long, files = costs.listed(), {item.nodeid.partition("::")[0] for item in items}
    for item in items:
        if item.nodeid in long:
            item.add_marker(pytest.mark.slow)
    # functions, as ids of parameters may differ with the versions of other packages
    there = {item.nodeid.partition("[")[0] for item in items}
    gone = {test for test in long if test.partition("::")[0] in files and test.partition("[")[0] not in there}
    if gone and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"tests/long.txt names tests that are not there: {sorted(gone)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Writes what a test costs, seconds of a processor, for `tests/costs.py`."""
    before = os.times()
    result = yield
    if "JHPO_TEST_COSTS" in os.environ:
        spent = sum(b - a for a, b in zip(before[:4], os.times()[:4]))
        with open(os.environ["JHPO_TEST_COSTS"], "a") as file:
            file.write(json.dumps([item.nodeid, round(spent, 3)]) + "\n")
    return result


jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@dataclass
class Compilations:
    """Names of the programs compiled within a `count_compilations` block."""

    names: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.names)

    def finish(self) -> None:
        """Waits for what searches compile ahead of need."""
        for thread in threading.enumerate():
            if thread.name == "jhpo-compile-ahead":
                thread.join()


@contextlib.contextmanager
def counting() -> Iterator[Compilations]:
    """Count the XLA compilations inside the block through JAX's own log of them."""
    import logging

    seen = Compilations()
    seen.finish()  # earlier tests' programs count for those

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text.startswith("Compiling "):
                seen.names.append(text.split()[1])

    logger = logging.getLogger("jax._src.interpreters.pxla")
    handler, level, propagate = Listener(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield seen
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture(scope="session", autouse=True)
def known_options() -> None:
    """What the compiler is asked once a process counts for no test."""
    from jhpo.programs.compilation import cpu_options

    cpu_options(quickly=True)
    cpu_options()


@pytest.fixture(scope="module", autouse=True)
def forget_programs() -> Iterator[None]:
    """Files share what they compile, until a process holds too many programs."""
    yield
    if not MAPS.exists() or MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def count_compilations():
    return counting


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield
