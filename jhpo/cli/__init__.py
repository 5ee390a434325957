"""The command line: `tune`, `show`, `strategies`, `repair`, and their output.

May import everything.
"""

import io
import sys

from jhpo.background import interrupted_with
from jhpo.cli.signals import INTERRUPTED, held, ignore_signals, leave


def main() -> None:
    """The command `jhpo`: once all is said, Ctrl-C does not change the exit code any more."""
    for stream in (sys.stdout, sys.stderr):
        # a locale without a letter of a choice, an error or a file name: the search is not to end for it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
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
