"""Compiles the program of a coming turn in a thread, while the objective runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from jhpo.errors import JhpoError
from jhpo.kernels.internals import settings
from jhpo.process.background import Background, process_ends
from jhpo.process.switches import of_programs
from jhpo.search import turns


class Ahead:
    """The programs of one driver that were compiled before they were needed.

    Args:
      precision: the context in which they are compiled.
    """

    def __init__(self, precision: Callable[[], contextlib.AbstractContextManager[Any]]) -> None:
        self._precision = precision
        self._made: dict[Any, Any] = {}
        self._running: Background | None = None
        self._compiling: Any = None

    def compile(self, *arguments: Any) -> None:
        """Begin to compile the program of a turn for arguments of these shapes, unless a thread is busy."""
        if self._running is not None and not self._running.over:
            return
        key = of_programs(), turns.structure(arguments)
        if key in self._made:
            return
        here = settings()

        def compile_it() -> None:
            with self._precision():
                if settings() == here:  # contexts such as `jax.default_matmul_precision` are those of one thread
                    with contextlib.suppress(JhpoError):  # whoever needs the program raises it again
                        made = turns.turn_program.compile_unless(process_ends, *arguments)
                        if made is not None:
                            self._made[key] = made

        self._compiling = key
        self._running = Background("jhpo-compile-ahead", compile_it)

    def program(self, arguments: tuple[Any, ...]) -> Any:
        """The program compiled for such arguments, or the jitted function that compiles when it has to."""
        if self._running is None:
            return turns.turn_program
        key = of_programs(), turns.structure(arguments)
        if key == self._compiling:
            self._running.wait()  # faster than compiling the same program again
        return self._made.get(key, turns.turn_program)

    def wait(self) -> None:
        """Until what is being compiled is done."""
        if self._running is not None:
            self._running.wait()
