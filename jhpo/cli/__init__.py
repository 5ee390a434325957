"""The command line: `tune`, `show`, `strategies`, `repair`, and their output.

May import everything.
"""

import io
import sys
from typing import TextIO, cast

from jhpo.cli.output import Output
from jhpo.cli.signals import INTERRUPTED, held, ignore_signals, leave
from jhpo.process.background import interrupted_with


def main() -> None:
    """The command `jhpo`: once all is said, Ctrl-C does not change the exit code any more."""
    for stream in (sys.stdout, sys.stderr):
        # a locale without a letter of a choice, an error or a file name: the search is not to end for it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    output = None if sys.stdout is None else Output(sys.stdout)  # none: it was closed
    sys.stdout = cast(TextIO, output)
    try:
        with held():  # half of the time until a command begins
            from jhpo.cli.commands import main as run
        run()
    except KeyboardInterrupt:
        interrupted_with(INTERRUPTED)
        leave()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            interrupted_with(INTERRUPTED)
        raise
    finally:
        ignore_signals()
        if output is not None:
            output.let_go()
