"""A process that was forked from one that had used JAX, whose programs would never end there, is told so.

JAX's threads do not exist in a fork, and what they should do is waited for. `jhpo` imports this module, so that it sees
forks of programs that have used nothing else of it.
"""

from __future__ import annotations

import os
import sys

from jhpo.errors import JhpoError

_forked = False


def has_devices() -> bool:
    """Whether JAX has looked for devices in this process, or in one that it was forked from; takes no lock.

    The name is JAX's own, see `jhpo.kernels.internals`, which cannot be imported before JAX.
    """
    return bool(getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None))


def check_process() -> None:
    """Before a program runs that would never end in this process.

    Raises:
      JhpoError: it was forked from one that had used JAX.
    """
    if _forked:
        raise JhpoError(
            "this process was forked from one that had used JAX, and its programs never end here: start it by "
            'multiprocessing.get_context("spawn"), or as a program of its own'
        )


def _note() -> None:
    global _forked
    _forked = _forked or has_devices()


if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=_note)
