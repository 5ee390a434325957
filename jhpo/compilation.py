"""Compiled programs that outlive the process: JAX's persistent compilation cache, for those who ask for it."""

from __future__ import annotations

import os
from pathlib import Path

import jax

from jhpo.errors import invalid
from jhpo.kernels.internals import forget_cache_choice
from jhpo.switches import config


def use_compilation_cache(folder: str | os.PathLike[str] | None = None) -> Path:
    """Keep compiled programs on the disk from now on, so that the next process need not compile them again.

    ``jhpo tune`` does so by itself; the library never does unless this is called. It sets JAX's own configuration,
    for all programs of this process: ``jax_compilation_cache_dir``, and the two thresholds below which JAX does not
    keep a program (seconds of compilation, bytes), so that every program is kept.

    Args:
      folder: where they are kept, made if it is missing. By default the folder that JAX is configured for already
        (``JAX_COMPILATION_CACHE_DIR``), whose thresholds then stay as they are, otherwise ``jhpo/xla`` in the user's
        cache folder (``XDG_CACHE_HOME``, or ``~/.cache``). Programs are run as they are found: let nobody whom you do
        not trust write there.

    Returns:
      The folder.

    Raises:
      InvalidArgument: the folder cannot be made or written.

    >>> import jhpo
    >>> folder = jhpo.use_compilation_cache("programs")  # doctest: +SKIP
    """
    configured = config.jax_compilation_cache_dir
    if folder is None and configured is not None:
        return Path(configured)
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jhpo" / "xla"
    path = (path if folder is None else Path(folder)).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise invalid("folder", f"one that can be made ({error.strerror})", str(path)) from error
    if not os.access(path, os.W_OK):
        raise invalid("folder", "one that can be written", str(path))
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    forget_cache_choice()
    return path
