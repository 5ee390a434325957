"""JAX's persistent compilation cache, enabled on request, and compiler options."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from jhpo.errors import invalid
from jhpo.kernels.internals import forget_cache_choice, within_a_trace
from jhpo.process.lifetimes import Programs
from jhpo.process.switches import config
from jhpo.programs.devices import default_devices
from jhpo.programs.kept import keep_from_now_on

# half of the time of compiling for speed
QUICKLY: dict[str, bool | int | str] = {
    "xla_backend_optimization_level": 1,
    # it makes two or three kernels of every sum of more than 32 numbers, and each takes 6 ms to compile
    "xla_disable_hlo_passes": "tree_reduction_rewriter",
    "xla_cpu_use_fusion_emitters": False,
}
# LLVM's optimisation level 3 takes twice as long as level 2 for a training loop, and the program is no faster
FOR_SPEED: dict[str, bool | int | str] = {"xla_backend_optimization_level": 2}


def cpu_options(quickly: bool = False) -> dict[str, bool | int | str]:
    """Compiler options for a CPU, without those that this version of the compiler refuses or that ``XLA_FLAGS`` names.

    Args:
      quickly: for a program that is waited for, not for one that runs for long.
    """
    told = {flag.partition("=")[0].lstrip("-") for flag in os.environ.get("XLA_FLAGS", "").split()}
    options = QUICKLY if quickly else FOR_SPEED
    return dict(_accepted(tuple(option for option in options.items() if option[0] not in told)))


def options_on(device: jax.Device, quickly: bool = False) -> dict[str, bool | int | str] | None:
    """`cpu_options` for a program of a CPU; None for the compiler's own, on other devices."""
    return cpu_options(quickly) if device.platform == "cpu" else None


def usual_options(quickly: bool = False) -> dict[str, bool | int | str] | None:
    """`options_on` for a program that runs where programs run by default; None for a part of a larger program."""
    return None if within_a_trace() else options_on(default_devices()[0], quickly)


def programs(*static: str, most: int = 64) -> Callable[[Callable[..., Any]], Programs]:
    """Decorator: `Programs` of a function with these static arguments, compiled with `usual_options`."""
    return lambda function: Programs(function, static, most, options=lambda *_, **__: usual_options())


@functools.cache
def _accepted(options: tuple[tuple[str, bool | int | str], ...]) -> tuple[tuple[str, bool | int | str], ...]:
    # options come and go with patch releases (xla_cpu_use_fusion_emitters with jaxlib 0.11.1), and an unknown one is an
    # error: the compiler is asked, once a process
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        nothing = jax.jit(lambda: np.zeros((), np.float32)).lower()
    while True:
        try:
            nothing.compile({name: cast(Any, value) for name, value in options})
        except jax.errors.JaxRuntimeError as error:
            left = tuple(option for option in options if option[0] not in str(error))
            if left == options:
                raise
            options = left
        else:
            return options


def use_compilation_cache(folder: str | os.PathLike[str] | None = None) -> Path:
    """Keep compiled programs on disk from now on, so that the next process need not compile them again.

    ``jhpo tune`` calls it; the library never does. It changes JAX's configuration for all programs of this process:
    ``jax_compilation_cache_dir``, and the two thresholds (compile time and size) below which JAX does not cache a
    program, so that all are cached. The program that drives `BayesOpt` on a CPU is kept before it is compiled too, so
    that the next process neither traces nor lowers it (``jhpo-*.traced``).

    Args:
      folder: the cache directory, created if it is missing. By default the one that JAX is already configured for
        (``JAX_COMPILATION_CACHE_DIR``), whose thresholds are not changed, otherwise ``jhpo/xla`` in the user's
        cache directory (``XDG_CACHE_HOME``, or ``~/.cache``). Cached programs are executed: do not use a directory
        that people you do not trust can write to.

    Returns:
      The directory.

    Raises:
      InvalidArgument: no path, or the directory cannot be created or written.

    >>> import jhpo
    >>> folder = jhpo.use_compilation_cache("programs")  # doctest: +SKIP
    """
    if folder is not None and not isinstance(folder, (str, os.PathLike)):
        raise invalid("folder", "a path, or None", folder)
    configured = config.jax_compilation_cache_dir
    if folder is None and configured is not None:
        keep_from_now_on()
        return Path(configured)
    path = (_usual_folder() if folder is None else Path(folder)).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise invalid("folder", f"one that can be made ({error.strerror})", str(path)) from error
    if not os.access(path, os.W_OK):
        raise invalid("folder", "one that can be written", str(path))
    keep_from_now_on()
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    forget_cache_choice()
    return path


def _usual_folder() -> Path:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jhpo" / "xla"
    except RuntimeError as error:  # a user without a home
        raise invalid("folder", "one where there is no home and no XDG_CACHE_HOME", None) from error
