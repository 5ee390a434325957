"""What the command line writes on: how wide it is, what happens where it is full, and how errors look."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from jhpo.errors import StorageError

if TYPE_CHECKING:
    from rich.text import Text


class Output:
    """The standard output, with one sentence where nothing can be written on it: a full disk, a lost terminal.

    A reader that has had enough (``jhpo show study.db | head``) is no error, and as it was.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As of a file."""
        with _in_words():
            return self._stream.write(text)

    def flush(self) -> None:
        """As of a file."""
        with _in_words():
            self._stream.flush()

    def let_go(self) -> None:
        """Forget what could not be written: Python would try again at its end, and say so in its own words."""
        try:
            self.flush()
        except StorageError:
            with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write to the standard output: {error.strerror}") from error


def forget_no_size() -> None:
    """A terminal of no columns or lines, as some that are no real ones say, is one of unknown size: nothing would fit.

    Rich and typer read these variables at any time.
    """
    for name in ("COLUMNS", "LINES"):
        given = os.environ.get(name, "")
        if given.isdigit() and not (given.isdecimal() and int(given) > 0):
            del os.environ[name]


def styled(error: Exception) -> Text:
    """A message with the fix first: the command that helps, or what was expected, then what was wrong."""
    from rich.text import Text

    text, shown = str(error), Text("jhpo: ", "bold red")
    what, found, fix = text.rpartition(": pip install ")
    if found:
        return shown.append(f"pip install {fix}", "bold green").append(f"  ({what})")
    name, found, rest = text.partition(": expected ")
    expected, got, value = rest.rpartition(", got ")
    if not (found and got):
        return shown.append(text)
    close = difflib.get_close_matches(value.strip("'"), re.findall(r"'([^']*)'", expected), 1)
    if close and "one of" in expected:
        shown.append(f"did you mean {close[0]}? ", "bold green")
    shown.append(name, "bold").append(": expected ").append(expected, "bold green")
    return shown.append(", got ").append(value, "red")
